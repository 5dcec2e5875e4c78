"""The search itself: each folder's snapshots in their order, of which only what changed is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from mirror.browse.find.matcher import Matcher
from mirror.browse.find.passages import COMMENTS, FILES, ISSUES, PULL_REQUESTS, is_searched, passages
from mirror.browse.find.seen import Key, Seen
from mirror.errors import Result, UsageError
from mirror.extract import read_consistently
from mirror.git.mirrors.intact import IntactObjects
from mirror.git.mirrors.names import FileNames, TooManyNames
from mirror.model import DONE, JsonObject, NoProgress, Progress, Selector, Snapshot, loads, name_to_json
from mirror.store.reading.folders import AnyFolder, OnDamage
from mirror.store.reading.reader import MirrorRefs, Store, StoreDamaged

KINDS = (PULL_REQUESTS, ISSUES, COMMENTS, FILES)
HITS_MAX = 1000
_BRANCHES, _TAGS = b"refs/heads/", b"refs/tags/"


@dataclass(frozen=True)
class Hit:
    """Something that was found. `what` and `excerpt` are for people; `path` is what `mirror show` takes.

    `first` and `last` are the oldest and the newest snapshot that have it, `snapshots` is how many do;
    `is_latest` tells whether the latest one does.
    """

    name: str
    kind: str
    what: str
    excerpt: str
    path: str
    first: str
    last: str
    snapshots: int
    is_latest: bool

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Found(Result):
    """What a search found. `snapshots` were searched, of `folders` repositories and workspaces; where
    `is_cut`, there is more. `problems` are what could not be read."""

    hits: tuple[Hit, ...] = ()
    folders: int = 0
    snapshots: int = 0
    is_cut: bool = False
    problems: tuple[tuple[int, str], ...] = ()

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies. To find nothing is no failure."""
        return tuple(sorted({code for code, _ in self.problems}))

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            **self.codes_to_json(),
            "hits": [one.to_json() for one in self.hits],
            "folders": self.folders,
            "snapshots": self.snapshots,
            "is_cut": self.is_cut,
            "problems": [{"code": code, "text": text} for code, text in self.problems],
        }


def find(
    path: Path,
    matcher: Matcher,
    selectors: Sequence[Selector] = (),
    *,
    kinds: Sequence[str] = KINDS,
    at: str | None = None,
    most: int = HITS_MAX,
    progress: Progress | None = None,
) -> Found:
    """Search the snapshots of the store at `path`: of what `selectors` select, or of everything; only the one
    that `at` selects, or each. At most `most` hits are given.

    Raises NoStore, and UsageError where a selector, or `at`, selects nothing.
    """
    search = _Search(matcher, frozenset(kinds), at, most)
    progress = progress or NoProgress()
    with Store.open(path) as store:
        folders = _folders(store, selectors, search)
        progress.expect({folder.full_name: 1.0 for folder in folders})
        for folder in folders:
            progress.report(folder.full_name, "searching")
            search.add(folder)
            progress.report(folder.full_name, DONE)
            if search.is_full:
                break
    if search.not_taken is not None and not search.searched:
        raise search.not_taken
    hits = tuple(search.hits[:most])
    return Found(hits, search.searched, search.snapshots, search.is_full, tuple(search.problems))


def _folders(store: Store, selectors: Sequence[Selector], search: _Search) -> list[AnyFolder]:
    wanted = [one for one in selectors if one.repository is None]
    workspaces = store.workspaces(wanted, search.note) if wanted or not selectors else []
    return [*workspaces, *store.repositories(selectors, search.note)]


class _Search:
    """Collects hits, folder by folder."""

    def __init__(self, matcher: Matcher, kinds: frozenset[str], at: str | None, most: int) -> None:
        self._matcher, self._kinds, self._at, self._most = matcher, kinds, at, most
        self.hits: list[Hit] = []
        self.problems: list[tuple[int, str]] = []
        self.searched = self.snapshots = 0
        self.not_taken: UsageError | None = None

    @property
    def is_full(self) -> bool:
        """Whether there are more hits than wanted."""
        return len(self.hits) > self._most

    def note(self, error: StoreDamaged) -> None:
        """Note what could not be read."""
        self.problems.append((error.exit_code, error.message))

    def add(self, folder: AnyFolder) -> None:
        """Search one folder."""
        try:
            try:
                found = read_consistently(folder, lambda: self._in(folder, _raise))
            except StoreDamaged:  # real damage: everything else is searched all the same
                found = self._in(folder, self.note)
        except UsageError as error:  # it has no snapshot at that time
            self.not_taken = error
            return
        except StoreDamaged as damage:
            self.note(damage)
            return
        self.searched += 1
        self.snapshots += found.snapshots
        self.hits += found.hits

    def _in(self, folder: AnyFolder, on_damage: OnDamage) -> _InFolder:
        if self._at is not None:
            snapshots = [folder.metadata.at(self._at).snapshot]
        else:
            snapshots = folder.metadata.snapshots(on_damage)
        found = _InFolder(folder, self._matcher, self._kinds, self._most - len(self.hits), on_damage)
        found.read(snapshots)
        return found


def _raise(damage: StoreDamaged) -> None:
    raise damage


class _InFolder:
    """The hits of one folder."""

    def __init__(
        self, folder: AnyFolder, matcher: Matcher, kinds: frozenset[str], most: int, on_damage: OnDamage
    ) -> None:
        self._folder, self._matcher, self._kinds, self._most = folder, matcher, kinds, most
        self._on_damage = on_damage
        self._seen = Seen()
        self._refs: dict[str, MirrorRefs] = {}
        self._told: set[str] = set()
        self.snapshots = 0
        self.hits: list[Hit] = []

    def read(self, snapshots: Sequence[Snapshot]) -> None:
        """Read what changed from each snapshot to the next."""
        names: dict[str, FileNames] = {}
        with closing(_Opened(self._folder)) as opened:
            before: Snapshot | None = None
            for snapshot in snapshots:
                self._documents(before, snapshot)
                if FILES in self._kinds:
                    self._files(snapshot, opened, names)
                self._seen.end(snapshot.id)
                self.snapshots += 1
                before = snapshot
                if len(self._seen) > self._most:
                    break
        last = snapshots[-1].id if snapshots else ""
        for key, one in self._seen.found():
            self.hits.append(
                Hit(self._folder.full_name, key.kind, key.what, one.excerpt, one.path,
                    one.first, one.last, one.count, one.last == last)
            )  # fmt: skip

    def _documents(self, before: Snapshot | None, snapshot: Snapshot) -> None:
        metadata = self._folder.metadata
        for path, _, blob in metadata.diff(before, snapshot):
            if not is_searched(path):
                continue
            found: dict[Key, tuple[str, str]] = {}
            try:
                data = metadata.read_bytes(snapshot, path) if blob is not None else None
                if data is not None and self._matcher.may_be_in(data):
                    found = dict(self._in_document(path, data))
            except (StoreDamaged, ValueError) as error:
                self._note(f"{metadata.file} ({snapshot.id}:{path})", error)
            self._seen.replace(path, found)

    def _in_document(self, path: str, data: bytes) -> Iterator[tuple[Key, tuple[str, str]]]:
        for one in passages(path, loads(data)):
            excerpt = self._matcher.excerpt(one.text) if one.kind in self._kinds else None
            if excerpt is not None:
                yield Key(one.kind, one.what), (excerpt, _short(path))

    def _files(self, snapshot: Snapshot, opened: _Opened, names: dict[str, FileNames]) -> None:
        mirrors = self._folder.metadata.mirrors(snapshot)
        for mirror in self._refs.keys() - mirrors.keys():
            del self._refs[mirror]
            self._seen.replace(f"{mirror}.git", {})
        for mirror, refs in mirrors.items():
            if self._refs.get(mirror) == refs:
                continue
            self._refs[mirror] = refs
            if mirror not in names:
                names[mirror] = FileNames(opened.objects(mirror), self._is_wanted)
            self._seen.replace(f"{mirror}.git", self._in_mirror(mirror, refs, names[mirror]))

    def _in_mirror(self, mirror: str, refs: MirrorRefs, names: FileNames) -> dict[Key, tuple[str, str]]:
        """The files of a mirror, each with the first branch or tag that has it."""
        found: dict[Key, tuple[str, str]] = {}
        of_mirror, before = ("", "") if mirror == "code" else (f" of the {mirror}", f"{mirror}:")
        for ref, tip in _tips(refs):
            try:
                paths = names.of(tip)
            except TooManyNames:
                self._note(f"{mirror} {ref}", ValueError("it has too many files to search their names"))
                continue
            except (KeyError, ValueError) as error:
                self._note(self._folder.relative(self._folder.mirror(mirror)), error)
                continue
            for path in paths:
                text = name_to_json(path)
                found.setdefault(
                    Key(FILES, f"file{of_mirror} {text}"), (f"on {ref}", f"{before}{ref}:{text}")
                )
        return found

    def _is_wanted(self, path: bytes, folder: int) -> bool:
        text = os.fsdecode(path)
        return self._matcher.is_in_name(text, len(os.fsdecode(path[:folder])))

    def _note(self, file: str, error: Exception) -> None:
        reason = f"needs {error.args[0]!r}, which is missing" if isinstance(error, KeyError) else str(error)
        damage = error if isinstance(error, StoreDamaged) else StoreDamaged(file, reason)
        if damage.message not in self._told:
            self._told.add(damage.message)
            self._on_damage(damage)


class _Opened:
    """The mirrors of a folder, opened when they are needed."""

    def __init__(self, folder: AnyFolder) -> None:
        self._folder = folder
        self._open: dict[str, IntactObjects] = {}

    def objects(self, mirror: str) -> IntactObjects:
        """The objects of a mirror."""
        if mirror not in self._open:
            self._open[mirror] = IntactObjects(self._folder.mirror(mirror))
        return self._open[mirror]

    def close(self) -> None:
        """Close them."""
        for one in self._open.values():
            one.close()


def _tips(refs: MirrorRefs) -> list[tuple[str, str]]:
    """The branches and tags as `mirror show` takes them, with their hashes: first the one that HEAD names,
    the tags last."""
    head = refs.refs.head.value if refs.refs.head is not None else b""
    several = sorted(
        (name.startswith(_TAGS), name != head, name)
        for name in refs.refs.refs
        if name.startswith((_BRANCHES, _TAGS))
    )
    return [(name_to_json(name.removeprefix(_BRANCHES)), refs.refs.refs[name]) for _, _, name in several]


def _short(path: str) -> str:
    """The path of a document as people write it: `pull-requests/0/12.json` → pull-requests/12."""
    parts = path.removesuffix(".json").split("/")
    with suppress(ValueError):
        if len(parts) == 3 and int(parts[2]) // 100 == int(parts[1]):
            return f"{parts[0]}/{parts[2]}"
    return path
