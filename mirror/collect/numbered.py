"""Numbered things with children: pull requests and issues.

They are listed by when they were updated, from a cursor on, with an overlap; a full sweep now and
then finds what does not move that time. Children are asked for only where the thing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, ListShort
from mirror.bitbucket.lists import all_of, pages
from mirror.collect.outcomes import child_of
from mirror.collect.ports import Work, together
from mirror.model import Json, JsonObject, Part, PartState, time_from_text, time_text

OVERLAP = timedelta(minutes=10)
SWEEP_EVERY = timedelta(days=7)


@dataclass(frozen=True)
class Child:
    """A list inside a thing. `count` reads how many the thing says it has (None: it does not say)."""

    name: str
    endpoint: Endpoint
    count: Callable[[Json], int | None] = lambda _: None


@dataclass(frozen=True)
class Kind:
    """One kind of numbered thing. `key` is its own place in the document, `folder` the documents'."""

    part: str
    key: str
    folder: str
    noun: str
    listing: Endpoint
    children: tuple[Child, ...]
    # Asked for when the list's answer is thinner than the thing's own.
    single: Endpoint | None = None
    is_thin: Callable[[Json], bool] = lambda _: False
    never_asked: tuple[str, ...] = ()


PULL_REQUESTS = Kind(
    part="pull_requests",
    key="pull_request",
    folder="pull-requests",
    noun="pull request",
    listing=endpoints.PULL_REQUESTS,
    children=(
        Child("comments", endpoints.PULL_REQUEST_COMMENTS, fields.comment_count),
        Child("tasks", endpoints.PULL_REQUEST_TASKS, fields.task_count),
        Child("activity", endpoints.PULL_REQUEST_ACTIVITY),
    ),
    single=endpoints.PULL_REQUEST,
    is_thin=lambda data: not fields.has_participants(data),
    never_asked=("statuses", "commits"),
)
ISSUES = Kind(
    part="issues",
    key="issue",
    folder="issues",
    noun="issue",
    listing=endpoints.ISSUES,
    children=(
        Child("comments", endpoints.ISSUE_COMMENTS),
        Child("changes", endpoints.ISSUE_CHANGES),
        Child("attachments", endpoints.ISSUE_ATTACHMENTS),
    ),
)


@dataclass
class _Round:
    """What one pass over a list found."""

    newest: str = ""
    seen: set[int] = field(default_factory=set)
    heads: dict[int, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def document_path(kind: Kind, number: int) -> str:
    """Where the document of a numbered thing stands."""
    return f"{kind.folder}/{number // 100}/{number}.json"


async def collect_numbered(work: Work, kind: Kind) -> tuple[Part, dict[int, str]]:
    """Bring the documents of `kind` up to date.

    Returns the part, and for each thing looked at the hash of its head where it has one. Raises what
    listing raises; the cursor then stays where it was.
    """
    state = work.part_state(kind.part)
    cursor, sweep = _plan(work, state)
    query = None if sweep else endpoints.updated_since(time_text(time_from_text(cursor) - OVERLAP))
    found = _Round(newest=cursor)
    names = {"workspace": work.repository.workspace, "repository": work.repository.slug}
    async for page in pages(work.client, kind.listing, query, **names):
        await together(_bring_up_to_date(work, kind, value, found) for value in page.values)
        work.progress.report(work.repository.full_name, kind.part, len(found.seen), page.size)
    if sweep:
        state["vanished"] = _mark_vanished(work, kind, found)
    vanished = [number for number in state.get("vanished") or () if number not in found.seen]
    state["vanished"] = vanished
    work.draft.checkpoint()
    if not found.faults:
        # Only now is everything that the cursor covers stored.
        state["cursor"] = found.newest or cursor
        if sweep:
            state["swept"] = time_text(work.clock.now())
    work.checkpoint()
    counts = {kind.part: sum(1 for _ in work.draft.paths(kind.folder))}
    if vanished:
        counts[f"{kind.part}_gone"] = len(vanished)
    if found.faults:
        more = f" (and {len(found.faults) - 1} more)" if len(found.faults) > 1 else ""
        return Part(PartState.PARTIAL, counts, found.faults[0] + more), found.heads
    return Part(PartState.COMPLETE, counts), found.heads


def _plan(work: Work, state: JsonObject) -> tuple[str, bool]:
    """The cursor, and whether everything is to be looked at."""
    cursor, swept = state.get("cursor"), state.get("swept")
    try:
        if isinstance(cursor, str) and isinstance(swept, str) and not work.full:
            time_from_text(cursor)
            if work.clock.now() - time_from_text(swept) < SWEEP_EVERY:
                return cursor, False
    except ValueError:
        pass
    return "", True


async def _bring_up_to_date(work: Work, kind: Kind, listed: JsonObject, found: _Round) -> None:
    number = fields.number_of(listed, kind.noun)
    path = document_path(kind, number)
    before = work.draft.get(path)
    old: JsonObject = before if isinstance(before, dict) else {}
    found.seen.add(number)
    if work.draft.is_erased(path):
        return
    names: Mapping[str, str | int] = {
        "workspace": work.repository.workspace,
        "repository": work.repository.slug,
        "id": number,
    }
    try:
        thing = await _thing(work, kind, listed, old, names)
        document = await _with_children(work, kind, thing, old, names, found)
    except ApiError as error:
        found.faults.append(f"{kind.noun} {number}: {error.message}")
        return
    work.put(path, document)
    found.newest = max(found.newest, fields.updated_on(thing) or "", key=_moment)
    head = fields.pull_request_head(thing)
    if head is not None:
        found.heads[number] = head


def _moment(text: str) -> float:
    try:
        return time_from_text(text).timestamp()
    except ValueError:
        return 0.0


async def _thing(
    work: Work, kind: Kind, listed: JsonObject, old: JsonObject, names: Mapping[str, str | int]
) -> Json:
    thing = fields.stable(listed)
    previous = old.get(kind.key)
    unchanged = previous is not None and fields.updated_on(previous) == fields.updated_on(thing)
    if kind.single is not None and kind.is_thin(listed) and not (unchanged and not work.full):
        answer = await work.client.get(kind.single, None, **names)
        thing = fields.merged(thing, fields.stable(answer.object(kind.noun)))
        if fields.number_of(thing, kind.noun) != names["id"]:
            raise BadAnswer(f"{kind.noun} {names['id']}: another one came")
    return fields.merged(previous, thing)


async def _with_children(
    work: Work,
    kind: Kind,
    thing: Json,
    old: JsonObject,
    names: Mapping[str, str | int],
    found: _Round,
) -> JsonObject:
    """The document: the thing and its children, asked for where it changed or they are not whole."""
    parts: JsonObject = {}
    document: JsonObject = {kind.key: thing, "_parts": parts}
    for name in kind.never_asked:
        document[name] = old.get(name)
    changed = old.get(kind.key) != thing
    faulty = old.get("_parts") if isinstance(old.get("_parts"), dict) else {}
    for child in kind.children:
        previous = old.get(child.name)
        if not changed and previous is not None and child.name not in (faulty or {}) and not work.full:
            document[child.name] = previous
        elif child.count(thing) == 0:
            document[child.name] = []
        else:
            try:
                values = await all_of(work.client, child.endpoint, None, **names)
                document[child.name] = [fields.stable(value) for value in values]
            except ApiError as error:
                # The last good value stays; None says that it was never had. Of a list that shrank
                # while it was read, what came is newer than that.
                came = error.values if isinstance(error, ListShort) else None
                document[child.name] = [fields.stable(value) for value in came] if came else previous
                parts[child.name] = child_of(error)
                found.faults.append(f"{kind.noun} {names['id']}: {error.message}")
    return document


def _mark_vanished(work: Work, kind: Kind, found: _Round) -> list[int]:
    """A thing that a whole list no longer has keeps its last document, marked; returns their numbers."""
    vanished = []
    for path in list(work.draft.paths(kind.folder)):
        name = path.rpartition("/")[2].removesuffix(".json")
        if name.isdigit() and int(name) not in found.seen:
            vanished.append(int(name))
            document = work.draft.get(path)
            if isinstance(document, dict):
                parts = {**(document.get("_parts") or {}), kind.key: {"state": str(PartState.GONE)}}
                work.put(path, {**document, "_parts": parts})
    return sorted(vanished)
