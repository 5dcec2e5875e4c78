"""What lies between two commits of a mirror: the commits, and the difference of their files.

Reads only. Every object is hashed as it is read, and read as leniently as C git reads it.
"""

from __future__ import annotations

import codecs
import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from mirror.git.difference import PAIRS_MAX, Allowance, Line, diff_hunks
from mirror.git.documents.repository import Documents
from mirror.git.failures import GitFailed
from mirror.git.objects import BLOB, COMMIT, TREE, parents_of, tree_of

COMMITS_MAX = 1_000
FILES_MAX = 300
FILE_BYTES_MAX = 512 * 1024
LINES_MAX = 20_000
# Objects that take more bytes than these are not read for a page.
READ_MAX = 64 << 20
# More commits than these are not walked to find where two histories part.
WALK_MAX = 50_000
_DEPTH_MAX = 128
# A few small trees, each ten times in the next one, are millions of folders: so many entries are looked at.
ENTRIES_MAX = 50_000
# Nothing in these can be matched in two ways: a long line of a hostile commit would take hours.
_AUTHOR = re.compile(rb"^author ([^\n]*)", re.MULTILINE)
_WHEN = re.compile(rb"(-?[0-9]{1,18})(?![0-9])")
_ENCODING = re.compile(rb"^encoding (\S{1,40})$", re.MULTILINE)
# They hold names of hosts, or escapes: some raise, some take long.
_NO_ENCODINGS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7"})
_ENTRY = re.compile(rb"([0-7]+) ([^\0]*)\0(.{20})", re.DOTALL)
_FOLDER = 0o040000
_SUBMODULE = 0o160000

_Entry = tuple[int, str]


@dataclass(frozen=True)
class CommitInfo:
    """A commit: `time` in seconds since 1970, `message` as text."""

    id: str
    parents: tuple[str, ...]
    author: str
    time: int
    message: str


@dataclass(frozen=True)
class Commits:
    """The commits that `head` has and `base` has not, the newest first; `more`: there are more of them.
    `merge_base` is where the two histories part, None where they share nothing (or too long ago)."""

    merge_base: str | None
    commits: tuple[CommitInfo, ...]
    more: bool = False


@dataclass(frozen=True)
class FileChange:
    """A file that differs. `hunks` are runs of lines; `omitted` says why there are none."""

    old_path: str
    new_path: str
    kind: Literal["added", "removed", "changed", "renamed"]
    hunks: tuple[tuple[Line, ...], ...] = ()
    omitted: str = ""

    @property
    def path(self) -> str:
        """Its name now, or its last name."""
        return self.new_path or self.old_path

    def count(self, sign: str) -> int:
        """How many lines have this sign."""
        return sum(line.sign == sign for hunk in self.hunks for line in hunk)


@dataclass(frozen=True)
class Changes:
    """The files that differ; `more`: so many more than `files_max` differ, and are left out. `is_cut`: only
    ENTRIES_MAX entries of folders were looked at, and there are more."""

    files: tuple[FileChange, ...]
    more: int = 0
    is_cut: bool = False


class Comparer:
    """Compares commits of the mirror at `path`. Close it when done; it is a context manager."""

    def __init__(self, path: Path) -> None:
        self._objects = Documents(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close files and memory maps."""
        self._objects.close()

    def raw(self, identifier: str) -> tuple[int, bytes]:
        """The type (git's number) and the content of an object. Raises GitFailed where it is missing or
        damaged."""
        return self._objects.raw(identifier)

    def size(self, identifier: str) -> int | None:
        """How many bytes reading an object takes, by its headers; None where that is not known."""
        return self._objects.size(identifier)

    def resolve(self, name: str) -> str | None:
        """The one commit that `name` (4 to 40 hexadecimal digits) begins; None unless there is just one."""
        if not re.fullmatch(r"[0-9a-f]{4,40}", name):
            return None
        found = [name]
        if len(name) < 40:
            found = [one.decode("ascii") for one in self._objects.store.iter_prefix(name.encode("ascii"))]
        commits = {one for one in found if self.commit(one) is not None}
        return commits.pop() if len(commits) == 1 else None

    def commit(self, identifier: str) -> CommitInfo | None:
        """A commit; None where it is not held, or is no commit."""
        data = self._read(identifier, COMMIT)
        return None if data is None else _commit(identifier, data)

    def commits(self, base: str, head: str, *, limit: int = COMMITS_MAX, walk_max: int = WALK_MAX) -> Commits:
        """The commits of `head` that `base` has not; see `Commits`."""
        of_base, of_head, settled = 1, 2, 4
        marks: dict[str, int] = {}
        queue: list[tuple[int, str]] = []
        unsettled: set[str] = set()
        known: dict[str, CommitInfo] = {}

        def mark(identifier: str, value: int) -> None:
            before = marks.get(identifier, 0)
            found = known.get(identifier) or self.commit(identifier)
            if found is None or before | value == before:
                return
            known[identifier] = found
            marks[identifier] = before | value
            (unsettled.discard if value & settled else unsettled.add)(identifier)
            heapq.heappush(queue, (-found.time, identifier))

        mark(base, of_base)
        mark(head, of_head)
        common: list[str] = []
        steps = 0
        # Of those of one second the ancestors may come first.
        while steps < walk_max and (
            unsettled or (queue and common and -queue[0][0] >= known[common[-1]].time)
        ):
            steps += 1
            _, one = heapq.heappop(queue)
            unsettled.discard(one)
            value = marks[one]
            if value & (of_base | of_head) == of_base | of_head:
                if not value & settled and one not in common:
                    common.append(one)
                value |= settled
            for parent in known[one].parents:
                mark(parent, value)
        merge_base = next((one for one in common if not marks[one] & settled), None)
        if unsettled:
            merge_base = None
        own = [one for name, one in known.items() if marks[name] == of_head]
        own.sort(key=lambda one: (-one.time, one.id))
        ordered = _children_first(own)
        return Commits(merge_base, tuple(ordered[:limit]), len(ordered) > limit)

    def changes(
        self, old: str | None, new: str, *, files_max: int = FILES_MAX, lines_max: int = LINES_MAX
    ) -> Changes:
        """The files that differ between two commits, by path; with `old` None all of `new` are added. Of more
        than `lines_max` lines that differ the rest is left out.

        Raises GitFailed where a commit or a tree is missing or damaged: nobody knows then what differs.
        """
        looks = Allowance(ENTRIES_MAX)
        entries = list(self._entries(self._tree(old), self._tree(new), looks))
        gone = {entry: path for path, entry, other in entries if entry is not None and other is None}
        renamed = {
            path: gone[other]
            for path, entry, other in entries
            if entry is None and other is not None and other in gone
        }
        lost = set(renamed.values())
        found: list[FileChange] = []
        lines, more, pairs = 0, 0, Allowance(PAIRS_MAX)
        for path, before, after in entries:
            if before is not None and after is None and path in lost:
                lost.discard(path)
                continue
            if len(found) >= files_max:
                more += 1
                continue
            change = self._change(path, before, after, renamed.get(path), lines_max - lines, pairs)
            lines += sum(len(hunk) for hunk in change.hunks)
            found.append(change)
        return Changes(tuple(found), more, looks.is_spent)

    def lines(self, commit: str, path: str, *, bytes_max: int = FILE_BYTES_MAX) -> list[str] | None:
        """The lines of a file of a commit; None where it is not there, not text, too large, or not held."""
        *folders, name = path.encode("utf-8", "surrogateescape").split(b"/")
        with suppress(GitFailed):
            tree = self._tree(commit)
            for folder in folders:
                mode, tree = self._level(tree).get(folder, (0, None))
                if mode != _FOLDER:
                    return None
            data = self._blob(self._level(tree).get(name), bytes_max)
            return None if isinstance(data, str) else _lines(data)
        return None

    def _read(self, identifier: str, kind: int) -> bytes | None:
        with suppress(GitFailed):
            found, data = self.raw(identifier)
            return data if found == kind else None
        return None

    def _tree(self, commit: str | None) -> str | None:
        return None if commit is None else tree_of(self._must_read(commit, COMMIT))

    def _level(self, tree: str | None) -> dict[bytes, _Entry]:
        data = b"" if tree is None else self._must_read(tree, TREE)
        return {name: (int(mode, 8), value.hex()) for mode, name, value in _ENTRY.findall(data)}

    def _must_read(self, identifier: str, kind: int) -> bytes:
        found, data = self.raw(identifier)
        if found != kind:
            raise GitFailed(f"object {identifier} is not of the type that another says")
        return data

    def _entries(
        self, old: str | None, new: str | None, looks: Allowance, prefix: bytes = b"", depth: int = 0
    ) -> Iterator[tuple[str, _Entry | None, _Entry | None]]:
        """What differs below two trees: path, the entry before, the entry after, sorted by name."""
        if old == new or depth > _DEPTH_MAX:
            return
        before, after = self._level(old), self._level(new)
        for name in sorted(before.keys() | after.keys()):
            one, two = before.get(name), after.get(name)
            if one == two:
                continue
            if not looks.take(1):
                return
            trees = [entry[1] if entry and entry[0] == _FOLDER else None for entry in (one, two)]
            if any(trees):
                yield from self._entries(trees[0], trees[1], looks, prefix + name + b"/", depth + 1)
            files = [None if entry and entry[0] == _FOLDER else entry for entry in (one, two)]
            if any(files):
                path = (prefix + name).decode("utf-8", "surrogateescape")
                yield path, files[0], files[1]

    def _change(
        self, path: str, before: _Entry | None, after: _Entry | None, renamed: str | None, lines_left: int,
        pairs: Allowance,
    ) -> FileChange:  # fmt: skip
        if renamed is not None:
            return FileChange(renamed, path, "renamed")
        kind: Literal["added", "removed", "changed"] = (
            "added" if before is None else "removed" if after is None else "changed"
        )
        names = path if before else "", path if after else ""
        old, new = self._blob(before, FILE_BYTES_MAX), self._blob(after, FILE_BYTES_MAX)
        for data in (old, new):
            if isinstance(data, str):
                return FileChange(*names, kind, omitted=data)
        assert isinstance(old, bytes) and isinstance(new, bytes)
        hunks = tuple(diff_hunks(_lines(old), _lines(new), pairs=pairs))
        if sum(len(hunk) for hunk in hunks) > lines_left:
            return FileChange(*names, kind, omitted="too many lines differ")
        return FileChange(*names, kind, hunks)

    def _blob(self, entry: _Entry | None, bytes_max: int) -> bytes | str:
        """The bytes of a file, or why they are not shown."""
        if entry is None:
            return b""
        if entry[0] == _SUBMODULE:
            return f"a submodule at {entry[1]}"
        stated = self._objects.size(entry[1])
        if stated is not None and stated > READ_MAX:
            return f"it takes {stated:,} bytes, too many to show"
        data = self._read(entry[1], BLOB)
        if data is None:
            return "its content is not held"
        if len(data) > bytes_max:
            return f"{len(data):,} bytes are too large to show"
        return "a binary file" if b"\0" in data[:8000] else data


def _commit(identifier: str, data: bytes) -> CommitInfo:
    header, _, message = data.partition(b"\n\n")
    author, encoding = _AUTHOR.search(header), _ENCODING.search(header)
    decode = _decoder(encoding[1].decode("ascii", "replace") if encoding else "utf-8")
    name, time = _author(author[1]) if author else (b"", 0)
    return CommitInfo(identifier, tuple(parents_of(data)), decode(name), time, decode(message))


def _author(line: bytes) -> tuple[bytes, int]:
    """Name and time of `Name <address> seconds zone`; nothing of what is not so."""
    who, _, rest = line.rpartition(b"> ")
    name, found, _ = who.rpartition(b" <")
    when = _WHEN.match(rest)
    return (name, int(when[1])) if found and when else (b"", 0)


def _decoder(encoding: str) -> Callable[[bytes], str]:
    """What decodes texts of this encoding, or of UTF-8 where Python's word means no encoding of texts."""
    try:
        name = codecs.lookup(encoding).name
        b"a".decode(encoding, "replace")
    except (LookupError, ValueError):  # also a name with NUL
        name = "utf-8"
    if name in _NO_ENCODINGS:
        name = "utf-8"
    return lambda data: str(data, name, "replace")


def _children_first(commits: Iterable[CommitInfo]) -> list[CommitInfo]:
    """Commits so that none comes before one of its children; else in the given order."""
    left = {one.id: one for one in commits}
    waiting = dict.fromkeys(left, 0)
    for one in left.values():
        for parent in set(one.parents) & left.keys():
            waiting[parent] += 1
    place = {name: index for index, name in enumerate(left)}
    ready = [(index, name) for name, index in place.items() if not waiting[name]]
    heapq.heapify(ready)
    found = []
    while ready:
        _, name = heapq.heappop(ready)
        found.append(left[name])
        for parent in set(left[name].parents) & left.keys():
            waiting[parent] -= 1
            if not waiting[parent]:
                heapq.heappush(ready, (place[parent], parent))
    return found


def _lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "replace")
    return text.removesuffix("\n").split("\n") if text else []
