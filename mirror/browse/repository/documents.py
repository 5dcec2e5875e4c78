"""The documents of a snapshot: lists of them, in pieces, and single ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mirror.bitbucket.readable.lines import (
    DocumentLine,
    commit_line,
    issue_line,
    pipeline_line,
    pull_request_line,
    snippet_line,
)
from mirror.browse.repository.recent import Recent
from mirror.model import Json, Part, PartState, Snapshot
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import StoreDamaged

# A list shows so many documents, and reads so many at most to find them.
ROWS = 50
READ_MAX = 500
# So many lines are kept in memory; one takes a kilobyte at most.
_KNOWN_MAX = 40_000
_NUMBER = re.compile(r"([0-9]{1,18})\.json")
_HUNDRED = re.compile(r"([0-9]{1,16})/")

LINES: Mapping[str, Callable[[Json], DocumentLine]] = {
    "pull-requests": pull_request_line, "issues": issue_line, "pipelines": pipeline_line,
    "snippets": snippet_line, "commit-comments": commit_line,
}  # fmt: skip
# The part of a snapshot that each kind of document belongs to.
PARTS = {
    "pull-requests": "pull_requests", "issues": "issues", "pipelines": "pipelines", "snippets": "snippets",
    "commit-comments": "commit_comments", "downloads.json": "downloads", "deployments": "settings",
    "environments": "settings", "settings": "settings",
}  # fmt: skip


Lines = Recent[tuple[str, str], DocumentLine]


def no_lines() -> Lines:
    """Where the lines of documents that were read lately are kept, by kind and content."""
    return Recent(_KNOWN_MAX)


@dataclass(frozen=True)
class Row:
    """A document in a list: its number, or its name where it has none. `damage`: why it cannot be read."""

    name: str
    line: DocumentLine
    damage: str = ""

    def is_in(self, state: str) -> bool:
        """Whether the document is in this state; always where that is empty."""
        return not state or self.line.state.lower() == state.lower()


@dataclass(frozen=True)
class Rows:
    """A piece of a list, the newest first. `newer` and `older` continue it (see `rows`), None at its ends.
    `is_partial`: READ_MAX documents were read, and there may be more like these."""

    rows: tuple[Row, ...] = ()
    newer: int | None = None
    older: int | None = None
    is_partial: bool = False


def rows(
    folder: AnyFolder, snapshot: Snapshot, kind: str, cache: Lines, *, state: str = "",
    before: int | None = None, after: int | None = None,
) -> Rows:  # fmt: skip
    """The newest numbered documents of a kind, those with a number below `before`, or the next ones above
    `after`; with `state` only those in that state. Raises StoreDamaged where the list cannot be read."""
    is_upwards = after is not None
    found: list[Row] = []
    last: int | None = None
    read = 0
    is_partial = is_full = False
    for number, blob in numbered(folder, snapshot, kind, before, after):
        if len(found) >= ROWS:
            is_full = True
            break
        if read >= READ_MAX:
            is_partial = True
            break
        last = number
        row, is_new = _row(folder, snapshot, kind, f"{number // 100}/{number}", blob, cache)
        read += is_new
        if row.damage or row.is_in(state):
            found.append(row)
    if is_upwards:
        found.reverse()
    goes_on = is_full or is_partial
    first, end = (last, after) if is_upwards else (before, last)
    if is_upwards:
        newer = last if goes_on else None
        older = None if end is None else end + 1
    else:
        newer = None if first is None else first - 1
        older = last if goes_on else None
    return Rows(tuple(found), newer, older, is_partial)


def every_row(folder: AnyFolder, snapshot: Snapshot, kind: str, cache: Lines) -> list[Row] | None:
    """Every numbered document of a kind, the newest first; None where more than READ_MAX of them are not
    known yet. Raises StoreDamaged where the list cannot be read."""
    places, unknown = [], 0
    for number, blob in numbered(folder, snapshot, kind, None, None):
        unknown += cache.get((kind, blob)) is None
        if unknown > READ_MAX:
            return None
        places.append((f"{number // 100}/{number}", blob))
    return [_row(folder, snapshot, kind, place, blob, cache)[0] for place, blob in places]


def by_update(several: Iterable[Row], *, state: str = "", skip: int = 0) -> Rows:
    """A piece of these rows, what was updated last first, from the one at `skip`. What has no such time (a
    pipeline that still runs) comes before. `newer` and `older` of the result are what to skip."""
    wanted = [one for one in several if one.damage or one.is_in(state)]
    wanted.sort(key=lambda one: (not one.line.updated, one.line.updated), reverse=True)
    older = skip + ROWS if len(wanted) > skip + ROWS else None
    return Rows(tuple(wanted[skip : skip + ROWS]), max(0, skip - ROWS) if skip else None, older)


def _row(
    folder: AnyFolder, snapshot: Snapshot, kind: str, place: str, blob: str, cache: Lines
) -> tuple[Row, bool]:
    """The row of a document, and whether it had to be read."""
    name = place.rpartition("/")[2]
    known = cache.get((kind, blob))
    if known is not None:
        return Row(name, known), False
    try:
        line = LINES[kind](folder.metadata.read(snapshot, f"{kind}/{place}.json"))
    except StoreDamaged as damage:
        return Row(name, DocumentLine("", ""), damage.message), True
    cache.put((kind, blob), line)
    return Row(name, line), True


def numbered(
    folder: AnyFolder, snapshot: Snapshot, kind: str, before: int | None, after: int | None
) -> Iterator[tuple[int, str]]:
    """Number and object id of the documents, the newest first; with `after` the oldest above that first."""
    is_upwards = after is not None
    hundreds = [
        int(found[1]) for name in folder.metadata.names(snapshot, kind) if (found := _HUNDRED.fullmatch(name))
    ]
    for hundred in sorted(hundreds, reverse=not is_upwards):
        if (before is not None and hundred > before // 100) or (after is not None and hundred < after // 100):
            continue
        inside = folder.metadata.names(snapshot, f"{kind}/{hundred}")
        numbers = {int(found[1]): blob for name, blob in inside.items() if (found := _NUMBER.fullmatch(name))}
        for number in sorted(numbers, reverse=not is_upwards):
            if (before is None or number < before) and (after is None or number > after):
                yield number, numbers[number]


def named_rows(
    folder: AnyFolder, snapshot: Snapshot, kind: str, cache: Lines, *, skip: int = 0
) -> tuple[tuple[Row, ...], int]:
    """ROWS documents with names instead of numbers, sorted by name, from the one at `skip`; and how many
    there are. Raises StoreDamaged."""
    found = sorted(named(folder, snapshot, kind))
    piece = found[skip : skip + ROWS]
    return tuple(_row(folder, snapshot, kind, name, blob, cache)[0] for name, blob in piece), len(found)


def named(folder: AnyFolder, snapshot: Snapshot, kind: str) -> Iterator[tuple[str, str]]:
    """The place of each document below the folder of its kind, and its object id."""
    for name, blob in folder.metadata.names(snapshot, kind).items():
        if name.endswith(".json"):
            yield name.removesuffix(".json"), blob
        elif name.endswith("/"):
            inside = folder.metadata.names(snapshot, f"{kind}/{name[:-1]}")
            for inner, one in inside.items():
                yield f"{name}{inner.removesuffix('.json')}", one


def path_of(kind: str, number: str) -> str | None:
    """The path of a numbered document; None where that is no number."""
    if not re.fullmatch(r"[0-9]{1,18}", number, re.ASCII):
        return None
    return f"{kind}/{int(number) // 100}/{int(number)}.json"


def absence(part: Part | None, thing: str) -> str:
    """Why a snapshot has nothing, or not all, of `thing` (`pull requests`); empty where it is complete."""
    if part is None:
        return f"This snapshot never asked for {thing}."
    reason = f": {part.reason}" if part.reason else ""
    scope = f" (it lacks the scope {part.scope})" if part.scope else ""
    kept = ""
    if part.counts:
        has = any(part.counts.values())
        kept = " What is shown is the last good copy." if has else " No copy was made before."
    match part.state:
        case PartState.COMPLETE:
            return ""
        case PartState.PARTIAL:
            return f"Not all {thing} are in this snapshot{reason}."
        case PartState.DENIED:
            return f"The credential may not read {thing}{scope}{reason}.{kept}"
        case PartState.GONE:
            return f"Bitbucket no longer has {thing}{reason}.{kept}"
        case PartState.UNAVAILABLE:
            return f"This kind of credential can never read {thing}{reason}."
        case PartState.SKIPPED:
            return f"The configuration leaves out {thing}."
