"""Looking for a text in one snapshot, in pieces: no answer reads more than READ_MAX documents, or more than
NAMES_MAX names of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mirror.browse.find import Matcher
from mirror.browse.find.passages import passages
from mirror.browse.repository.code import Code
from mirror.browse.repository.documents import named, numbered
from mirror.browse.repository.history import Histories
from mirror.errors import UsageError
from mirror.git.mirrors.names import TooManyNames
from mirror.model import Snapshot, loads
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import StoreDamaged

KINDS = ("pull-requests", "issues", "commit-comments", "snippets")
HITS_MAX, READ_MAX = 50, 1000
NAMES_MAX = 20_000
MIRRORS = ("code", "wiki")


@dataclass(frozen=True)
class Hit:
    """A text that was found: `what` it is for people, the words around it, and the path of its document."""

    what: str
    excerpt: str
    path: str


@dataclass(frozen=True)
class Piece:
    """What was found so far. `following` is where the search goes on, None at its end; `damage` is what could
    not be read."""

    hits: tuple[Hit, ...] = ()
    following: str | None = None
    damage: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A file or folder (then its path ends with a slash) on the main branch of a mirror."""

    mirror: str
    path: bytes


@dataclass(frozen=True)
class Files:
    """The files that were found, HITS_MAX at most (`is_cut`: there are more). `unsearched` are the mirrors
    that have too many to look through; `damage` is what could not be read."""

    several: tuple[File, ...] = ()
    is_cut: bool = False
    unsearched: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


def search_files(folder: AnyFolder, snapshot: Snapshot, matcher: Matcher, histories: Histories) -> Files:
    """Look through the names of the files on the main branch of the code and of the wiki. Raises
    StoreDamaged where the refs cannot be read."""
    found: list[File] = []
    unsearched: list[str] = []
    damage: list[str] = []
    for mirror in MIRRORS:
        if mirror not in folder.metadata.mirrors(snapshot):
            continue
        try:
            with Code(folder, snapshot, mirror, histories) as code:
                found += [File(mirror, path) for path in code.names(matcher.is_in_name, NAMES_MAX)]
        except TooManyNames:
            unsearched.append(mirror)
        except StoreDamaged as error:
            damage.append(error.message)
    return Files(tuple(found[:HITS_MAX]), len(found) > HITS_MAX, tuple(unsearched), tuple(damage))


def search(folder: AnyFolder, snapshot: Snapshot, matcher: Matcher, begin: str = "") -> Piece:
    """Look through pull requests and issues (the newest first), comments of commits, and snippets, from
    `begin` on. Raises UsageError where `begin` is none that this gave, and StoreDamaged."""
    hits: list[Hit] = []
    damage: list[str] = []
    for read, (place, path) in enumerate(_places(folder, snapshot, begin)):
        if read >= READ_MAX or len(hits) >= HITS_MAX:
            return Piece(tuple(hits), place, tuple(damage))
        try:
            hits += _in_document(folder, snapshot, matcher, path)
        except (StoreDamaged, ValueError) as error:
            damage.append(error.message if isinstance(error, StoreDamaged) else f"{path}: {error}")
    return Piece(tuple(hits), None, tuple(damage))


def _in_document(folder: AnyFolder, snapshot: Snapshot, matcher: Matcher, path: str) -> Iterator[Hit]:
    data = folder.metadata.read_bytes(snapshot, path)
    if data is None or not matcher.may_be_in(data):
        return
    for one in passages(path, loads(data)):
        excerpt = matcher.excerpt(one.text)
        if excerpt is not None:
            yield Hit(one.what, excerpt, path)


def _places(folder: AnyFolder, snapshot: Snapshot, begin: str) -> Iterator[tuple[str, str]]:
    """Where each document stands in the order of the search, and its path."""
    kind, _, text = begin.partition(":")
    if begin and (kind not in KINDS or not (text.isascii() and text.isdigit() and len(text) <= 18)):
        raise UsageError(f"{begin[:60]!r} is not a place in a search")
    for one in KINDS[KINDS.index(kind) if begin else 0 :]:
        first = int(text) if begin and one == kind else None
        if one in KINDS[:2]:
            for number, _blob in numbered(folder, snapshot, one, None if first is None else first + 1, None):
                yield f"{one}:{number}", f"{one}/{number // 100}/{number}.json"
        else:
            for at, (name, _blob) in enumerate(sorted(named(folder, snapshot, one))):
                if first is None or at >= first:
                    yield f"{one}:{at}", f"{one}/{name}.json"
