"""Numbered things with children: pull requests and issues.

First what there is, from lists alone: what was updated since the cursor, with an overlap; a full sweep
now and then finds what does not move that time. Then (`fill`) what belongs to each, of the open ones
first and of the newest before the older; what is still to be asked is remembered by number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, EntriesLost, Gone, ListShort
from mirror.bitbucket.lists import Page, all_of, all_told, entries_lost
from mirror.collect.kinds import heads
from mirror.collect.kinds.files import NoRoom, keep_file
from mirror.collect.outcomes import child_of, is_gone, named, not_all, part_with
from mirror.collect.ports import Work, earliest, latest, moment, together
from mirror.collect.walks import Walk
from mirror.errors import MirrorError
from mirror.model import Json, JsonObject, NotCanonical, Part, PartState, dumps, time_from_text, time_text

OVERLAP = timedelta(minutes=10)
SWEEP_EVERY = timedelta(days=7)
BATCH = 16
# So many that a list lacks are asked for by themselves, before they count as gone.
VANISHED_MAX = 20

Ask = Callable[[Work, Priority, int, JsonObject], Awaitable[Json]]


@dataclass(frozen=True)
class Child:
    """A part of a thing that takes a request of its own.

    `count` reads how many the thing says it has (None: it does not say). `idle` ones of closed things
    are asked for when nobody else wants to ask. Where `may_be_gone`, a 404 means that there is none
    (any more); else that it is hidden. `ask` gets it, where it is no plain list.
    """

    name: str
    endpoint: Endpoint
    count: Callable[[Json], int | None] = lambda _: None
    is_kept: Callable[[Json], bool] = lambda _: True
    idle: bool = False
    may_be_gone: bool = False
    # Not due because the thing changed, but where somebody says so.
    on_demand: bool = False
    ask: Ask | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of numbered thing. `key` is its own place in the document, `folder` the documents'."""

    part: str
    key: str
    folder: str
    noun: str
    listing: Endpoint
    children: tuple[Child, ...]
    is_open: Callable[[Json], bool] = lambda _: True
    # Asked for when the list's answer is thinner than the thing's own.
    single: Endpoint | None = None
    is_thin: Callable[[Json], bool] = lambda _: False


async def _patch(work: Work, priority: Priority, number: int, document: JsonObject) -> Json:
    """The patch, where git has not the commits: between the two hashes, or as the pull request has it.

    The first takes one request where the second takes two, because it is redirected.
    """
    thing = document.get("pull_request")
    source, destination = fields.pull_request_head(thing), fields.destination(thing)
    client, name = work.asking(priority), f"{number}.patch"
    if source and destination:
        try:
            between = {**work.names, "source": source, "destination": destination}
            return await keep_file(work, client, endpoints.PATCH, name, between, text=True)
        except NoRoom:
            raise
        except ApiError:
            pass
    places: Mapping[str, str | int] = {**work.names, "id": number}
    return await keep_file(work, client, endpoints.PULL_REQUEST_PATCH, name, places, text=True)


async def _attachments(work: Work, priority: Priority, number: int, document: JsonObject) -> Json:
    """What is attached to an issue, each with its file. One that cannot be had keeps no other out."""
    client = work.asking(priority)
    told = await all_told(client, endpoints.ISSUE_ATTACHMENTS, None, id=number, **work.names)
    several, faults = named(*told, fields.file_name)
    is_whole = not faults
    held = {one.get("name"): one for one in document.get("attachments") or [] if isinstance(one, dict)}
    kept: list[JsonObject] = []
    for name, one in several:
        before = held.get(name, {})
        content = before.get("_content")
        if not (content and fields.is_same_file(before, one) and work.draft.has_file(content["sha256"])):
            try:
                places: Mapping[str, str | int] = {**work.names, "id": number, "name": name}
                content = await keep_file(work, client, endpoints.ISSUE_ATTACHMENT, name, places)
            except ApiError as error:
                faults.append(error)
                if content:
                    kept.append(before)
                    continue
        kept.append({**one, "_content": content})
    if faults:
        known = [] if is_whole else list(held.values())
        document["attachments"] = fields.with_held(known, kept)
        raise not_all(faults)
    return fields.ordered(kept)


PULL_REQUESTS = Kind(
    part="pull_requests",
    key="pull_request",
    folder="pull-requests",
    noun="pull request",
    listing=endpoints.PULL_REQUESTS,
    children=(
        Child("comments", endpoints.PULL_REQUEST_COMMENTS, fields.comment_count, fields.is_not_removed),
        Child("tasks", endpoints.PULL_REQUEST_TASKS, fields.task_count),
        Child("activity", endpoints.PULL_REQUEST_ACTIVITY, on_demand=True),
        Child("statuses", endpoints.PULL_REQUEST_STATUSES, idle=True),
        Child("commits", endpoints.PULL_REQUEST_COMMITS, may_be_gone=True, on_demand=True),
        Child("patch", endpoints.PULL_REQUEST_PATCH, may_be_gone=True, on_demand=True, ask=_patch),
    ),
    is_open=fields.is_open,
    single=endpoints.PULL_REQUEST,
    is_thin=lambda data: not fields.has_participants(data),
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
        Child("attachments", endpoints.ISSUE_ATTACHMENTS, ask=_attachments),
    ),
)
# What a thing lacks where there is no such child, unlike what was never asked for.
_OPTIONAL = frozenset({"patch"})


def document_path(kind: Kind, number: int) -> str:
    """Where the document of a numbered thing stands."""
    return f"{kind.folder}/{number // 100}/{number}.json"


# -- what there is


async def survey(work: Work, kind: Kind) -> None:
    """Bring every thing's own data up to date, and remember what is to be asked of each, and the head of
    each that was looked at, where it has one.

    Raises what listing raises; the cursor then stays where it was.
    """
    state, numbers = work.part_state(kind.part), work.numbers(kind.part)
    cursor, sweep = _plan(work, state)
    since = time_text(time_from_text(cursor) - OVERLAP) if cursor else ""
    walk = Walk(work, state, since or "everything")
    if sweep and not walk.is_resumed:
        _count_again(work, kind)
        state.pop("left_out", None)
    recent: dict[str, str] = {} if sweep else dict(state.get("recent") or {})
    newest = str(walk.memory.get("newest") or cursor)
    begun = str(walk.memory.get("begun") or time_text(work.clock.now()))
    print_of: dict[int, tuple[str, str]] = {}
    query = endpoints.updated_since(since) if since else None
    async for page in walk.pages(work.asking(Priority.FIRST), kind.listing, query):
        for number, value in _numbered(work, kind, page):
            walk.seen.add(number)
            when, digest = fields.updated_on(value) or "", digest_of(value)
            newest = latest(newest, when)
            print_of[number] = when, digest
            if recent.get(str(number)) == digest:
                continue
            if kind is PULL_REQUESTS:
                heads.note_head(work, number, value)
            _take(work, kind, number, value, sweep=sweep)
        walk.memory["newest"], walk.memory["begun"] = newest, begun
        work.progress.report(work.repository.full_name, kind.part, len(walk.seen), page.size)
    if sweep and all(what.isdigit() for what in work.left_out(kind.part)):
        await _mark_vanished(work, kind, walk.seen)
    numbers["gone"] -= walk.seen
    work.draft.checkpoint()
    walk.done()
    # Only now is everything that the cursor covers stored. One thing that says it is of a time to come
    # does not keep out all that come until then.
    newest = earliest(newest, begun)
    state["cursor"] = newest
    if sweep:
        state["swept"] = time_text(work.clock.now())
        heads.note_swept(work)
    edge = _seconds(newest) - OVERLAP.total_seconds()
    state["recent"] = {str(n): digest for n, (when, digest) in print_of.items() if _seconds(when) >= edge}
    work.checkpoint()


def _plan(work: Work, state: JsonObject) -> tuple[str, bool]:
    """The cursor, and whether everything is to be looked at."""
    cursor = "" if state.get("cursor") == "" else work.cursor(state.get("cursor"))
    # One of those that were lost may be any.
    is_lacking = not all(what.isdigit() for what in state.get("left_out") or {})
    if work.is_due(state, "swept", SWEEP_EVERY) or cursor is None or is_lacking:
        return "", True
    return cursor, False  # the empty text: there was nothing yet


def _count_again(work: Work, kind: Kind) -> None:
    """What is held, from the documents: what is remembered of it may be gone."""
    numbers = work.numbers(kind.part)
    names = (path.rpartition("/")[2].removesuffix(".json") for path in work.draft.paths(kind.folder))
    numbers["held"] = {int(name) for name in names if name.isdigit()}


def _numbered(work: Work, kind: Kind, page: Page) -> list[tuple[int, JsonObject]]:
    """The entries of a page by their numbers. One without a number is left out; it may be any of those
    that do not come."""
    found = []
    if page.lost:
        error = entries_lost(kind.listing, page.lost)
        work.leave_out(kind.part, error.message, error)
    for value in page.values:
        try:
            found.append((fields.number_of(value, kind.noun), value))
        except BadAnswer as error:
            work.leave_out(kind.part, error.message, error)
    return found


def digest_of(value: JsonObject) -> str:
    """What tells whether a thing is as it was when it was listed last."""
    try:
        data = dumps(fields.stable(value))
    except NotCanonical:  # it cannot be kept, but it can be told from another
        data = repr(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:16]


def _seconds(text: str) -> float:
    when = moment(text)
    return 0.0 if when is None else when.timestamp()


def _take(work: Work, kind: Kind, number: int, listed: JsonObject, *, sweep: bool) -> None:
    """Put a thing as it is listed, and note what is to be asked of it."""
    path, numbers = document_path(kind, number), work.numbers(kind.part)
    if work.draft.is_erased(path):
        return
    before = work.draft.get(path)
    old: JsonObject = before if isinstance(before, dict) else {}
    previous, thing = old.get(kind.key), fields.stable(listed)
    thing = fields.merged(previous, thing)
    moved = previous is None or fields.updated_on(previous) != fields.updated_on(thing)
    is_open = kind.is_open(thing)
    # An open one is looked at whole in a sweep: not everything that happens to it moves its time.
    again = moved or work.full or (sweep and is_open)
    document: JsonObject = {**old, kind.key: thing}
    parts: JsonObject = dict(old.get("_parts") or {})
    parts.pop(kind.key, None)
    if not fields.has_same_head(previous, thing):
        numbers["listed"].discard(number)
        for name in ("commits", "patch"):  # what was gone was the other head's
            parts.pop(name, None)
    for child in kind.children:
        if child.name in _OPTIONAL and child.name not in old:
            continue
        held = old.get(child.name)
        document[child.name] = held
        if child.on_demand:
            continue
        # What could not be had is remembered by number; a sweep finds it where that is lost.
        failed = sweep and child.name in parts
        if child.count(thing) == 0 and not held:
            document[child.name] = []
        elif again or failed or held is None or _miscounts(child, thing, held):
            numbers[child.name].add(number)
    if kind.single is not None and kind.is_thin(listed) and (again or kind.is_thin(thing)):
        numbers[kind.key].add(number)
    if "activity" in document and document["activity"] is None and _feed_is_past(work, kind, thing):
        numbers["activity"].add(number)
    document["_parts"] = parts
    numbers["held"].add(number)
    if moved and kind.single is not None:
        numbers["moved"].add(number)
    (numbers["open"].add if is_open else numbers["open"].discard)(number)
    if kind is PULL_REQUESTS:
        heads.note_patch(work, number, old)
        if sweep and heads.is_unjudged(old):
            numbers["listed"].discard(number)
    try:
        work.put(path, document)
        work.left_out(kind.part).pop(str(number), None)
    except BadAnswer as error:
        work.leave_out(kind.part, str(number), error)
        if not old:
            for several in numbers.values():
                several.discard(number)


def _miscounts(child: Child, thing: Json, held: Json) -> bool:
    told = child.count(thing)
    return told is not None and told != sum(1 for one in held if child.is_kept(one))


def _feed_is_past(work: Work, kind: Kind, thing: Json) -> bool:
    """Whether the walk through everybody's activity has been where this thing's began."""
    read_to = work.part_state(kind.part).get("activity_to")
    return isinstance(read_to, str) and _seconds(fields.created_on(thing) or "") < _seconds(read_to)


async def _mark_vanished(work: Work, kind: Kind, seen: set[int]) -> None:
    """A thing that a whole list no longer has keeps its last document, marked with when it went.

    The list is asked for by states; one in a state that nobody knows here is not in it, and is there.
    """
    numbers = work.numbers(kind.part)
    since = time_text(work.clock.now())
    missing = numbers["held"] - seen
    if kind.single is not None and len(missing - numbers["gone"]) <= VANISHED_MAX:
        missing = {number for number in missing if not await _is_there(work, kind, kind.single, number)}
    for number in sorted(missing):
        document = work.draft.get(document_path(kind, number))
        if isinstance(document, dict) and kind.key not in (document.get("_parts") or {}):
            mark = {"state": str(PartState.GONE), "since": since}
            parts = {**(document.get("_parts") or {}), kind.key: mark}
            work.put(document_path(kind, number), {**document, "_parts": parts})
        numbers["gone"].add(number)
        for name in _askable(kind):
            numbers[name].discard(number)


def is_marked_gone(kind: Kind, number: int, read: Callable[[str], Json]) -> bool:
    """Whether the document of a thing, as `read` gives it by its path, says that upstream has it no more."""
    document = read(document_path(kind, number))
    return isinstance(document, dict) and kind.key in (document.get("_parts") or {})


async def _is_there(work: Work, kind: Kind, single: Endpoint, number: int) -> bool:
    """Whether a thing that its list lacks is there all the same, or that cannot be said; then it is taken."""
    if number in work.numbers(kind.part)["gone"]:
        return False
    try:
        answer = await work.asking(Priority.FIRST).get(single, None, id=number, **work.names)
        work.answered(single)
        thing = answer.object(kind.noun)
    except ApiError as error:
        return not await is_gone(work, single, error)
    if fields.number_of(thing, kind.noun) == number:
        _take(work, kind, number, thing, sweep=True)
    return True


# -- what belongs to each


def _askable(kind: Kind) -> list[str]:
    names = [child.name for child in kind.children]
    return [kind.key, *names] if kind.single is not None else names


def due(work: Work, kind: Kind) -> dict[str, int]:
    """How many things are still to be asked for what. Activity comes from one walk for all, and is due
    until that has been where the things that moved are."""
    numbers = work.numbers(kind.part)
    found = {name: len(numbers[name]) for name in _askable(kind) if numbers[name]}
    unread = numbers["moved"] | numbers["activity"]
    if unread or "begun" in work.part_state(kind.part).get("feed", {}):
        found["activity"] = max(1, len(unread))
    return found


async def fill(work: Work, kind: Kind, priority: Priority) -> None:
    """Ask for what is due with this priority, as far as the rate limit goes. Raises only where the
    credential as a whole is refused."""
    numbers = work.numbers(kind.part)
    names = _names_of_priority(kind, priority)
    todo: set[int] = set()
    for name in names:
        todo |= numbers[name]
    if priority is Priority.OPEN:
        todo &= numbers["open"]
    order = sorted(todo, reverse=True)
    for start in range(0, len(order), BATCH):
        if work.stopped is not None:
            return
        await together(
            _ask_of(work, kind, number, names, priority) for number in order[start : start + BATCH]
        )
        work.progress.report(work.repository.full_name, kind.part, start, len(order))


def _names_of_priority(kind: Kind, priority: Priority) -> list[str]:
    idle = {child.name for child in kind.children if child.idle}
    match priority:
        case Priority.OPEN:
            return _askable(kind)
        case Priority.CLOSED:
            return [name for name in _askable(kind) if name not in idle]
        case Priority.IDLE:
            return [name for name in _askable(kind) if name in idle]
    return []


async def _ask_of(work: Work, kind: Kind, number: int, names: Sequence[str], priority: Priority) -> None:
    path, numbers = document_path(kind, number), work.numbers(kind.part)
    before = work.draft.get(path)
    if not isinstance(before, dict) or work.draft.is_erased(path):
        for name in names:
            numbers[name].discard(number)
        return
    document: JsonObject = {**before, "_parts": dict(before.get("_parts") or {})}
    settled = []
    for child in _children(kind):
        attempt = (kind.part, number, child.name)
        if child.name not in names or number not in numbers[child.name] or attempt in work.tried:
            continue
        if not work.may_ask(child.endpoint):
            continue
        if await _ask_child(work, kind, number, child, document, priority):
            settled.append(child.name)
        else:
            work.tried.add(attempt)
    settled = work.put_children(kind.part, path, before, document, settled)
    for name in settled:
        numbers[name].discard(number)
    if "commits" in settled:
        numbers["listed"].add(number)
        heads.note_commits(work, number, document)
    if "patch" in settled:
        heads.note_patch(work, number, document)


def _children(kind: Kind) -> tuple[Child, ...]:
    """What is asked of a thing, itself (where lists are thinner) before its children."""
    if kind.single is None:
        return kind.children

    async def whole(work: Work, priority: Priority, number: int, document: JsonObject) -> Json:
        assert kind.single is not None
        answer = await work.asking(priority).get(kind.single, None, id=number, **work.names)
        thing = fields.stable(answer.object(kind.noun))
        if fields.number_of(thing, kind.noun) != number:
            raise BadAnswer(f"{kind.noun} {number}: another one came")
        return fields.merged(document.get(kind.key), thing)

    return (Child(kind.key, kind.single, ask=whole), *kind.children)


async def _ask_child(
    work: Work, kind: Kind, number: int, child: Child, document: JsonObject, priority: Priority
) -> bool:
    """Ask for one child; returns whether there is an end to it. The last good value stays where it
    could not be had, and `_parts` says why."""
    parts = document["_parts"]
    try:
        if child.ask is not None:
            document[child.name] = await child.ask(work, priority, number, document)
        else:
            names: Mapping[str, str | int] = {"id": number, **work.names}
            values = await all_of(work.asking(priority), child.endpoint, None, **names)
            if child.name == "activity":
                document[child.name] = merged_activity(document.get(child.name), values)
            else:
                document[child.name] = [fields.stable(value) for value in values]
    except MirrorError as error:
        may_be = child.may_be_gone or isinstance(error, Gone)
        if may_be and await is_gone(work, child.endpoint, error):
            parts[child.name] = {"state": str(PartState.GONE)}
            return True
        if isinstance(error, ListShort) and error.values:
            # Of a list that shrank while it was read, what came is newer than what is held.
            document[child.name] = [fields.stable(value) for value in error.values]
        if isinstance(error, EntriesLost):
            document[child.name] = fields.with_held(document.get(child.name), error.values)
        if isinstance(error, ApiError):
            parts[child.name] = child_of(error)
        work.failed(kind.part, f"{kind.noun} {number}", error, child.endpoint)
        return False
    parts.pop(child.name, None)
    work.answered(child.endpoint)
    return True


def merged_activity(held: Json, entries: Sequence[JsonObject]) -> list[Json]:
    """Entries of activity with those that are held, each once, the newest first."""
    found = {fields.activity(one).key: fields.activity(one) for one in held or []}
    for entry in entries:
        new = fields.activity(entry)
        found.setdefault(new.key, new)
    ordered = sorted(found.values(), key=lambda one: (one.when, one.key), reverse=True)
    return [one.kept for one in ordered]


def part_of_numbered(work: Work, kind: Kind) -> Part:
    """What a snapshot says of the part, after `survey` and as much of `fill` as there was."""
    numbers = work.numbers(kind.part)
    counts = {kind.part: len(numbers["held"])}
    if numbers["gone"]:
        counts[f"{kind.part}_gone"] = len(numbers["gone"])
    return part_with(work, kind.part, counts, due(work, kind), noun=f"{kind.noun}s")
