"""The code (or the wiki) at a snapshot: refs, commits, folders and files, of what the snapshot's refs name.

Every object is hashed as it is read. Damage raises StoreDamaged, which names the mirror and what lacks.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from mirror.browse.repository.history import Histories, History
from mirror.errors import UsageError
from mirror.git.comparison import READ_MAX, Changes, CommitInfo, Comparer
from mirror.git.failures import GitFailed
from mirror.git.lfs.pointers import parse_pointer
from mirror.git.mirrors.intact import IntactObjects
from mirror.git.mirrors.names import FileNames
from mirror.git.mirrors.paths import Entry, NoSuchPath, at_path
from mirror.git.objects import COMMIT, peel, read
from mirror.git.refs import pin_name
from mirror.model import Snapshot, is_hash, name_from_json, name_to_json
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import MirrorRefs, StoreDamaged

T = TypeVar("T")
_EXTRACT = "On the machine of the store, mirror show prints a file of a snapshot by REF:PATH."
# A commit that is further back than so many others is not looked for in the history of a ref.
LOOKED_AT_MAX = 20_000
_KINDS = ("branch", "tag", "pull request", "other")
_FILES_MAX, _LINES_MAX = 200, 6_000


@dataclass(frozen=True)
class Ref:
    """A ref at the snapshot. `text` is its name for people, and as the query of an address has it; `short`
    leaves out what its `kind` (branch, tag, pull request, other) tells."""

    text: str
    short: str
    kind: str
    value: str


@dataclass(frozen=True)
class Node:
    """What is at a path: a folder's `entries`, or the `content` of a file (of a symbolic link: where it
    points). `lfs` is the sha256 and the size of the object that a pointer stands for."""

    entries: tuple[Entry, ...] | None
    content: bytes = b""
    mode: int = 0
    lfs: tuple[str, int] | None = None

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_binary(self) -> bool:
        """Whether it is no text, as git judges."""
        return b"\0" in self.content[:8000]


def path_to_text(path: bytes) -> str:
    """A path as the query of an address has it: itself, or `base64:…` where it is not UTF-8."""
    text = name_to_json(path)
    is_plain = not text.startswith("base64:") and "\0" not in text
    return text if is_plain else "base64:" + base64.b64encode(path).decode("ascii")


def path_from_text(text: str) -> bytes:
    """The path in a query. Raises UsageError."""
    try:
        return name_from_json(text)
    except ValueError:
        raise UsageError(f"{text[:100]!r} is not a path") from None


class Code:
    """A mirror (`code`, `wiki`, `snippets/…`) at a snapshot. Close it when done; it is a context manager.

    Raises UsageError where the snapshot has no such mirror, and StoreDamaged.
    """

    def __init__(self, folder: AnyFolder, snapshot: Snapshot, mirror: str, histories: Histories) -> None:
        recorded = folder.metadata.mirrors(snapshot).get(mirror)
        if recorded is None:
            raise UsageError(f"The snapshot {snapshot.id} does not have the {mirror} of {folder.full_name}")
        self.recorded: MirrorRefs = recorded
        self._path = folder.mirror(mirror)
        self._file = folder.relative(self._path)
        self._histories = histories
        if not self._path.is_dir():
            raise StoreDamaged(self._file, "it is missing")
        self._intact: IntactObjects | None = None
        try:
            self._comparer = Comparer(self._path)
        except GitFailed as error:
            raise StoreDamaged(self._file, error.message) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._comparer.close()
        if self._intact is not None:
            self._intact.close()

    # -- refs

    def refs(self) -> list[Ref]:
        """Every ref and every pinned head of a pull request: branches, tags, pull requests, others."""
        found = [_ref(name, value) for name, value in self.recorded.refs.refs.items()]
        found += [
            Ref(name_to_json(pin_name(number)), f"#{number}", "pull request", value)
            for number, value in self.recorded.pins.items()
        ]
        order = {"branch": 0, "tag": 1, "pull request": 2, "other": 3}
        return sorted(
            found, key=lambda one: (order[one.kind], len(one.short) if one.short[:1] == "#" else 0, one.short)
        )

    def head(self) -> Ref | None:
        """The ref that HEAD names; None where there is none (no commit yet, or a detached HEAD)."""
        head = self.recorded.refs.head
        if head is None or head.kind != "symref" or head.value not in self.recorded.refs.refs:
            return None
        return _ref(head.value, self.recorded.refs.refs[head.value])

    def ref(self, text: str) -> Ref:
        """The ref of this name: full, without `refs/heads/` or `refs/tags/`, or (empty) the one that HEAD
        names, else the first branch. Raises UsageError."""
        if not text:
            found = self.head() or next(iter(self.refs()), None)
            if found is None:
                raise UsageError("There is no commit yet")
            return found
        name = path_from_text(text)
        refs = self.recorded.refs.refs
        for candidate in (name, b"refs/heads/" + name, b"refs/tags/" + name):
            if candidate in refs:
                return _ref(candidate, refs[candidate])
        for number, value in self.recorded.pins.items():
            if name == pin_name(number):
                return Ref(text, f"#{number}", "pull request", value)
        raise UsageError(
            f"This snapshot has no ref {text[:200]}", hint="Branches and tags lists those that it has."
        )

    # -- commits

    def commit_of(self, value: str) -> str | None:
        """The commit that a ref's value leads to through annotated tags; None where it leads to no commit."""
        top = self._reading(lambda: peel(_Objects(self), value), "a tag")
        kind, _ = self._reading(lambda: read(_Objects(self), top), "a ref")
        return top if kind == COMMIT else None

    def commit(self, identifier: str) -> CommitInfo:
        """A commit. Raises StoreDamaged where the mirror does not have it."""
        found = self._comparer.commit(identifier)
        if found is None:
            raise StoreDamaged(self._file, f"the commit {identifier} is missing or damaged")
        return found

    def held_commit(self, text: str) -> CommitInfo:
        """The commit of a full hash, or of the first digits of one. Raises UsageError where there is none."""
        identifier = text if is_hash(text) else self._comparer.resolve(text.lower())
        found = self._comparer.commit(identifier) if identifier is not None else None
        if found is None:
            raise UsageError(f"The mirror holds no commit {text[:60]}")
        return found

    def history(self, tip: str) -> History:
        """The commits that `tip` leads to, the newest first."""
        return self._histories.of(self._path, tip)

    def leads_to(self, tip: str, commit: CommitInfo) -> bool:
        """Whether `commit` is among the first LOOKED_AT_MAX commits that `tip` leads to."""
        return self.history(tip).has(commit, LOOKED_AT_MAX, self.commit)

    def changes(self, commit: CommitInfo) -> Changes:
        """What a commit changed, against its first parent. Raises StoreDamaged."""
        parent = commit.parents[0] if commit.parents else None
        try:
            return self._comparer.changes(parent, commit.id, files_max=_FILES_MAX, lines_max=_LINES_MAX)
        except GitFailed as error:
            raise StoreDamaged(self._file, error.message) from error

    # -- files

    def node(self, tip: str, path: bytes) -> Node:
        """What a commit, or a ref's value, has at `path`. Raises UsageError where there is nothing, and
        StoreDamaged."""
        shown = os.fsdecode(path)[:200]
        try:
            found = self._reading(lambda: at_path(_Objects(self), tip, path), name_to_json(path))
        except NoSuchPath as error:
            raise UsageError(f"{shown}: {error}") from None
        if found.content is None:
            return Node(found.entries)
        return Node(None, found.content, found.mode, parse_pointer(found.content))

    def names(self, is_wanted: Callable[[str, int], bool], most: int) -> tuple[bytes, ...]:
        """The paths of files and folders on the branch that HEAD names for which `is_wanted` is true: it gets
        a path, and how many characters of that are the folder around the name. None where there is no such
        branch. Raises TooManyNames where there are more than `most` to look through, and StoreDamaged."""
        head = self.head()
        if head is None:
            return ()

        def matches(path: bytes, folder: int) -> bool:
            return is_wanted(os.fsdecode(path), len(os.fsdecode(path[:folder])))

        return self._reading(lambda: FileNames(_Objects(self), matches, most).of(head.value), head.text)

    def intact(self) -> IntactObjects:
        """What finds an undamaged copy of an object, if there is one in another pack."""
        if self._intact is None:
            self._intact = IntactObjects(self._path)
        return self._intact

    def raw(self, identifier: str) -> tuple[int, bytes]:
        """Type and content of an object, hashed. Raises KeyError or ValueError, and UsageError where it is
        too large to be read for a page."""
        size = self._comparer.size(identifier)
        if size is not None and size > READ_MAX:
            raise UsageError(f"It takes {size:,} bytes, and a page reads {READ_MAX:,} at most", hint=_EXTRACT)
        try:
            return self._comparer.raw(identifier)
        except GitFailed:
            return read(self.intact(), identifier)

    def _reading(self, do: Callable[[], T], what: str) -> T:
        try:
            return do()
        except KeyError as error:
            lacks = (
                error.args[0].decode("ascii", "replace")
                if isinstance(error.args[0], bytes)
                else error.args[0]
            )
            raise StoreDamaged(self._file, f"{what} needs {lacks}, which is missing") from error
        except ValueError as error:
            raise StoreDamaged(self._file, f"{what}: an object {error}") from error


class _Objects:
    """The objects of a mirror, for what walks them."""

    def __init__(self, code: Code) -> None:
        self._code = code

    def get_raw(self, name: bytes, /) -> tuple[int, bytes]:
        """See RawObjects."""
        return self._code.raw(name.decode("ascii"))


def _ref(name: bytes, value: str) -> Ref:
    for prefix, kind in ((b"refs/heads/", "branch"), (b"refs/tags/", "tag")):
        if name.startswith(prefix):
            return Ref(name_to_json(name), os.fsdecode(name[len(prefix) :]), kind, value)
    return Ref(name_to_json(name), os.fsdecode(name), "other", value)


def _order(ref: Ref) -> tuple[int, int, str]:
    number = int(ref.short[1:]) if ref.kind == "pull request" else 0
    return _KINDS.index(ref.kind), -number, ref.short
