"""The files of a commit laid out in a folder, as `git checkout` does it, from trees that nobody can trust.

Anybody with push rights can make any tree: entries called `..` or `.git`, endless folders, two entries with
one name. Nothing is written outside the folder. What cannot be laid out is skipped and reported by name.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from dulwich.index import IndexEntry, index_entry_from_stat, write_index_dict
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID

from mirror.fs.durable import write_file
from mirror.git.objects import BLOB, COMMIT, TREE, peel, read, tree_of
from mirror.git.refs import closed_after, open_objects

# Deeper folders are left out: many tools, and Python's own way to remove a folder, fail on them.
DEPTH_MAX = 512
# The longest path that Linux takes.
PATH_BYTES_MAX = 4096
# So many files and folders at most. A few kilobytes of trees that name each other can stand for billions.
PATHS_MAX = 5_000_000

_SUBMODULE = 0o160000
_ENTRY = re.compile(rb"([0-7]+) ([^\0]*)\0(.{20})", re.DOTALL)
# Signs that HFS+ passes over when it compares names.
_IGNORED_BY_HFS = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)
# What a file system answers to a name that it does not take, or has already.
_OF_THE_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EEXIST, errno.ENOENT, errno.ELOOP, errno.EPERM,
     errno.ENOTSUP, errno.EISDIR, errno.ENOTDIR}
)  # fmt: skip


@dataclass(frozen=True)
class LeftOut:
    """A path of a tree that was not laid out, and why. Of a folder everything below it is missing, too."""

    path: bytes
    reason: str


@dataclass
class _Result:
    entries: dict[bytes, IndexEntry] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    paths: int = 0

    def leave_out(self, path: bytes, reason: str) -> None:
        """Note that a path is not laid out."""
        self.left_out.append(LeftOut(path, reason))


def lay_out(git_folder: Path, target: Path, start: str) -> tuple[LeftOut, ...]:
    """Write the files of the commit `start` (or of what a tag of this hash points to) to the folder `target`,
    and the index of the repository `git_folder` to go with them; returns what was left out.

    The objects were checked before. Raises OSError where the disk fails.
    """
    result = _Result()
    with closed_after(open_objects(git_folder)) as store:
        tree = _tree_of(store, start)
        if tree is None:
            return ()
        _write_trees(store, os.fsencode(target), tree, result)
    index = io.BytesIO()
    write_index_dict(index, result.entries)
    data = index.getvalue()
    write_file(git_folder / "index", data + hashlib.sha1(data, usedforsecurity=False).digest())
    return tuple(sorted(result.left_out, key=lambda one: one.path))


def path_fault(name: bytes) -> str | None:
    """Why no file may have this name, one part of a path; None where it may.

    C git refuses the same, wherever the folder may be carried later: what Windows or macOS take for `.git`
    is refused everywhere.
    """
    if name in (b"", b".", b".."):
        return "its name is no file's"
    if b"/" in name:
        return "its name holds a slash"
    if any(part in (b".", b"..") or _is_git(part) for part in name.split(b"\\")):
        return "its name leads elsewhere" if b"\\" in name else "git keeps this name for itself"
    return None


def _is_git(name: bytes) -> bool:
    """Whether some file system takes this name for `.git`."""
    plain = name.partition(b":")[0].rstrip(b". ").lower()
    if plain in (b".git", b"git~1"):
        return True
    return name.decode("utf-8", "replace").translate(_IGNORED_BY_HFS).casefold() == ".git"


def _tree_of(store: DiskObjectStore, start: str) -> bytes | None:
    """The tree of the commit that `start` is or points to; None where it is something else."""
    kind, data = read(store, peel(store, start))
    tree = tree_of(data) if kind == COMMIT else None
    return None if tree is None else tree.encode("ascii")


def _write_trees(store: DiskObjectStore, target: bytes, tree: bytes, result: _Result) -> None:
    """Write every tree below `tree`, folders by the way."""
    todo = [(b"", tree, 0)]
    while todo:
        folder, name, depth = todo.pop()
        kind, data = store.get_raw(ObjectID(name))
        if kind != TREE:
            result.leave_out(folder, "it is not a folder in git")
            continue
        seen: set[bytes] = set()
        for mode, entry, link in _entries(folder, data, result):
            path = folder + b"/" + entry if folder else entry
            if result.paths >= PATHS_MAX:
                result.leave_out(path, f"as all after it: there are more than {PATHS_MAX} files and folders")
                return
            result.paths += 1
            fault = path_fault(entry)
            if fault is None and entry in seen:
                fault = "its folder has this name twice"
            if fault is None and (depth >= DEPTH_MAX or len(path) > PATH_BYTES_MAX):
                fault = f"it is more than {DEPTH_MAX} folders or {PATH_BYTES_MAX} bytes deep"
            if fault is None:
                fault = _write_entry(store, target, path, mode, link, result)
            if fault is not None:
                result.leave_out(path, fault)
            elif stat.S_ISDIR(mode):
                todo.append((path, link, depth + 1))
            seen.add(entry)


def _entries(folder: bytes, data: bytes, result: _Result) -> Iterator[tuple[int, bytes, bytes]]:
    """The entries of a tree: mode, name and hash. Where one cannot be read, it and those after it are left
    out."""
    at = 0
    while at < len(data):
        found = _ENTRY.match(data, at)
        if found is None:
            result.leave_out(folder, "its list of files is damaged in git")
            return
        yield int(found[1], 8), found[2], found[3].hex().encode("ascii")
        at = found.end()


def _write_entry(
    store: DiskObjectStore, target: bytes, path: bytes, mode: int, link: bytes, result: _Result
) -> str | None:
    """Write one entry of a tree; returns why it cannot be written."""
    place = os.path.join(target, path)  # noqa: PTH118 (names are bytes)
    try:
        if stat.S_ISDIR(mode):
            os.mkdir(place)  # noqa: PTH102
            return None
        if stat.S_IFMT(mode) == _SUBMODULE:  # another repository's commit: git makes an empty folder of it
            os.mkdir(place)  # noqa: PTH102
            mode = _SUBMODULE
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            kind, content = store.get_raw(ObjectID(link))
            if kind != BLOB:
                return "it is not a file in git"
            mode = _write_file(place, mode, content)
        else:
            return f"its mode {mode:o} is none that git knows"
    except ValueError:  # a symbolic link to a name with a zero byte
        return "it is a symbolic link to what can be no name"
    except OSError as error:
        if error.errno in _OF_THE_NAME:
            return f"the file system does not take it: {error.strerror}"
        raise
    entry = index_entry_from_stat(os.lstat(place), link, mode)
    # git keeps the lowest 32 bits of a size.
    result.entries[path] = replace(entry, size=entry.size & 0xFFFFFFFF if mode != _SUBMODULE else 0)
    return None


def _write_file(place: bytes, mode: int, content: bytes) -> int:
    """Write a file or symbolic link where nothing is yet; returns the mode that git's index gives it."""
    if stat.S_ISLNK(mode):
        os.symlink(content, place)  # noqa: PTH211
        return stat.S_IFLNK
    mode = 0o755 if mode & 0o100 else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(place, flags, 0o777 if mode == 0o755 else 0o666), "wb") as stream:
        stream.write(content)
    return stat.S_IFREG | mode
