"""Checks out the files of a commit to a folder, as `git checkout` does, from untrusted trees.

Anybody with push access can make any tree: entries named `..` or `.git`, endless folders, two entries with
one name. Nothing is written outside the folder. Entries that cannot be written are skipped and reported.
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

# Deeper folders are left out: many tools, shutil.rmtree among them, fail on them.
DEPTH_MAX = 512
# The longest path that Linux allows.
PATH_BYTES_MAX = 4096
# The number of files and folders. A few kilobytes of nested trees can stand for billions.
PATHS_MAX = 5_000_000

_SUBMODULE = 0o160000
_ENTRY = re.compile(rb"([0-7]+) ([^\0]*)\0(.{20})", re.DOTALL)
# Characters that HFS+ ignores when it compares names.
_IGNORED_BY_HFS = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)
# Errors for a name that the file system does not allow or that exists already.
_OF_THE_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EEXIST, errno.ENOENT, errno.ELOOP, errno.EPERM,
     errno.ENOTSUP, errno.EISDIR, errno.ENOTDIR}
)  # fmt: skip


@dataclass(frozen=True)
class LeftOut:
    """A path of a tree that was not checked out, and why. Everything below such a folder is missing, too."""

    path: bytes
    reason: str


@dataclass
class _Result:
    entries: dict[bytes, IndexEntry] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    paths: int = 0

    def leave_out(self, path: bytes, reason: str) -> None:
        """Record a path that is not checked out."""
        self.left_out.append(LeftOut(path, reason))


def check_out(
    git_folder: Path, target: Path, start: str, *, paths_max: int = PATHS_MAX
) -> tuple[LeftOut, ...]:
    """Write the files of the commit `start` (or of the commit that the tag `start` points to) to the folder
    `target`, and the index of the repository `git_folder`; returns what was left out.

    The caller has checked the objects. Raises OSError where the disk fails.
    """
    result = _Result()
    with closed_after(open_objects(git_folder)) as store:
        tree = _tree_of(store, start)
        if tree is None:
            return ()
        _write_trees(store, os.fsencode(target), tree, result, paths_max)
    index = io.BytesIO()
    write_index_dict(index, result.entries)
    data = index.getvalue()
    write_file(git_folder / "index", data + hashlib.sha1(data, usedforsecurity=False).digest())
    return tuple(sorted(result.left_out, key=lambda one: one.path))


def path_fault(name: bytes) -> str | None:
    """Why a file may not have this name (one component of a path); None where it may.

    The rules are C git's, and those for Windows and macOS apply everywhere, as the folder may be copied
    there: a name that any of their file systems treats as `.git` is refused.
    """
    if name in (b"", b".", b".."):
        return "its name is empty, . or .."
    if b"/" in name:
        return "its name contains a slash"
    if any(part in (b".", b"..") or _is_git(part) for part in name.split(b"\\")):
        return "its name leads elsewhere" if b"\\" in name else "git reserves this name"
    return None


def _is_git(name: bytes) -> bool:
    """Whether some file system treats this name as `.git`."""
    plain = name.partition(b":")[0].rstrip(b". ").lower()
    if plain in (b".git", b"git~1"):
        return True
    return name.decode("utf-8", "replace").translate(_IGNORED_BY_HFS).casefold() == ".git"


def _tree_of(store: DiskObjectStore, start: str) -> bytes | None:
    """The tree of the commit that `start` is or points to; None where it is no commit."""
    kind, data = read(store, peel(store, start))
    tree = tree_of(data) if kind == COMMIT else None
    return None if tree is None else tree.encode("ascii")


def _write_trees(store: DiskObjectStore, target: bytes, tree: bytes, result: _Result, paths_max: int) -> None:
    """Write every tree below `tree`, each folder before its content."""
    todo = [(b"", tree, 0)]
    while todo:
        folder, name, depth = todo.pop()
        kind, data = store.get_raw(ObjectID(name))
        if kind != TREE:
            result.leave_out(folder, "it is not a tree in git")
            continue
        seen: set[bytes] = set()
        for mode, entry, link in _entries(folder, data, result):
            path = folder + b"/" + entry if folder else entry
            if result.paths >= paths_max:
                result.leave_out(
                    path, f"this and the rest: there are more than {paths_max} files and folders"
                )
                return
            result.paths += 1
            fault = path_fault(entry)
            if fault is None and entry in seen:
                fault = "its folder has two entries of this name"
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
    """The entries of a tree: mode, name and hash. A malformed entry and those after it are left out."""
    at = 0
    while at < len(data):
        found = _ENTRY.match(data, at)
        if found is None:
            result.leave_out(folder, "its tree is malformed in git")
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
        if stat.S_IFMT(mode) == _SUBMODULE:  # a submodule: git makes an empty folder
            os.mkdir(place)  # noqa: PTH102
            mode = _SUBMODULE
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            kind, content = store.get_raw(ObjectID(link))
            if kind != BLOB:
                return "it is not a blob in git"
            mode = _write_file(place, mode, content)
        else:
            return f"git does not know its mode {mode:o}"
    except ValueError:  # the target of a symbolic link has a zero byte
        return "it is a symbolic link to an impossible name"
    except OSError as error:
        if error.errno in _OF_THE_NAME:
            return f"the file system refuses it: {error.strerror}"
        raise
    entry = index_entry_from_stat(os.lstat(place), link, mode)
    # git keeps the lowest 32 bits of a size.
    result.entries[path] = replace(entry, size=entry.size & 0xFFFFFFFF if mode != _SUBMODULE else 0)
    return None


def _write_file(place: bytes, mode: int, content: bytes) -> int:
    """Create a file or symbolic link; returns its mode in git's index."""
    if stat.S_ISLNK(mode):
        os.symlink(content, place)  # noqa: PTH211
        return stat.S_IFLNK
    mode = 0o755 if mode & 0o100 else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(place, flags, 0o777 if mode == 0o755 else 0o666), "wb") as stream:
        stream.write(content)
    return stat.S_IFREG | mode
