"""Pull requests and issues: documents with a number and with children.

`list_changes` reads what was updated since the cursor, with an overlap; a sweep now and then reads
everything, and finds what does not move the update time. `fetch_children` then reads what belongs to each
thing: of open ones first, of the newest first. What is still to be asked for is remembered by number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, EntriesLost, Gone, ListShort
from mirror.bitbucket.lists import Page, all_of, entries_lost
from mirror.collect.context import Context
from mirror.collect.kinds.kind import Change, Child, Kind, change_of
from mirror.collect.listing import ResumableListing
from mirror.collect.marks import Marks
from mirror.collect.outcomes import not_found_means_gone, part_with
from mirror.collect.state import ListedState, NumberedState, NumberSets
from mirror.collect.times import earliest, latest, seconds_of
from mirror.errors import MirrorError
from mirror.model import Json, JsonObject, NotCanonical, Part, PartState, dumps, time_from_text, time_text

OVERLAP = timedelta(minutes=10)
# What belongs to a thing may be seen a little later than its update: what was updated so shortly before the
# list was read is looked at once more in the next, where its numbers of comments and tasks tell what lacks.
FRESH = timedelta(minutes=2)
SWEEP_EVERY = timedelta(days=7)
# So many things that a list lacks are asked for one by one before they count as gone.
VANISHED_MAX = 20


# -- what there is


async def list_changes(context: Context, kind: Kind) -> None:
    """Bring every thing's own data up to date, and note which children are due.

    Raises what listing raises; the cursor then stays where it was.
    """
    state = context.state.numbered(kind.part)
    cursor, is_sweep = _plan(context, state)
    since = time_text(time_from_text(cursor) - OVERLAP) if cursor else ""
    listing = ResumableListing(context, state, since or "everything")
    if is_sweep and not listing.is_resumed:
        state.numbers.held = numbers_of_documents(context, kind.folder)
        state.left_out = None
    recent: JsonObject = {} if is_sweep else state.recent or {}
    newest = str(listing.memory.get("newest") or cursor)
    begun = str(listing.memory.get("begun") or context.now)
    fingerprints: dict[int, tuple[str, str]] = {}
    query = endpoints.updated_since(since) if since else None
    async for page in listing.pages(context.client_for(Priority.FIRST), kind.listing, query):
        for number, value in numbered_entries(context, kind.part, kind.listing, page, kind.number_of):
            listing.seen.add(number)
            when, fingerprint = fields.updated_on(value) or "", fingerprint_of(value)
            newest = latest(newest, when)
            fingerprints[number] = when, fingerprint
            if recent.get(str(number)) == fingerprint:
                continue
            kind.on_listed(context, number, value)
            _keep_listed(context, kind, number, value, sweep=is_sweep)
        listing.memory["newest"], listing.memory["begun"] = newest, begun
        context.report_progress(kind.part, len(listing.seen), page.size)
    if is_sweep and not state.has_nameless:
        await _mark_vanished(context, kind, listing.seen)
    state.numbers.gone -= listing.seen
    context.draft.checkpoint()
    listing.finish()
    # Everything that the cursor covers is stored only now. A time that is yet to come must not hide what
    # is updated until then.
    _move_cursor(state, earliest(newest, begun), begun, fingerprints)
    if is_sweep:
        state.swept = context.now
        kind.on_swept(context)
    context.checkpoint()


def _plan(context: Context, state: NumberedState) -> tuple[str, bool]:
    """The cursor, and whether to look at everything."""
    # The empty text says that there was nothing yet.
    cursor = "" if state.cursor == "" else context.valid_cursor(state.cursor)
    if context.is_due(state.swept, SWEEP_EVERY) or cursor is None or state.has_nameless:
        return "", True
    return cursor, False


def _move_cursor(
    state: NumberedState, cursor: str, begun: str, fingerprints: Mapping[int, tuple[str, str]]
) -> None:
    state.cursor = cursor
    edge, fresh = seconds_of(cursor) - OVERLAP.total_seconds(), seconds_of(begun) - FRESH.total_seconds()
    state.recent = {
        str(number): fingerprint
        for number, (when, fingerprint) in fingerprints.items()
        if edge <= seconds_of(when) < fresh
    }


def numbers_of_documents(context: Context, folder: str) -> set[int]:
    """The numbers of the documents in a folder: what the state remembers of them may be lost."""
    names = (path.rpartition("/")[2].removesuffix(".json") for path in context.draft.paths(folder))
    return {int(name) for name in names if name.isdigit()}


def numbered_entries(
    context: Context, part: str, endpoint: Endpoint, page: Page, number_of: Callable[[JsonObject], int]
) -> list[tuple[int, JsonObject]]:
    """The entries of a page with their numbers. An entry without a number (`number_of` raises BadAnswer) is
    left out; it may be any of those that do not come."""
    found = []
    if page.lost:
        error = entries_lost(endpoint, page.lost)
        context.leave_out(part, error.message, error)
    for value in page.values:
        try:
            found.append((number_of(value), value))
        except BadAnswer as error:
            context.leave_out(part, error.message, error)
    return found


def fingerprint_of(value: JsonObject) -> str:
    """Fingerprint of a thing as it is listed, to detect change."""
    try:
        data = dumps(fields.stable(value))
    except NotCanonical:  # it cannot be kept, but it can be compared
        data = repr(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:16]


def _keep_listed(context: Context, kind: Kind, number: int, listed: JsonObject, *, sweep: bool) -> None:
    """Put a thing as it is listed, and note which of its children are due."""
    path, state = kind.path(number), context.state.numbered(kind.part)
    if context.draft.is_erased(path):
        return
    numbers = state.numbers
    change = change_of(kind, number, context.document(path), listed, sweep=sweep)
    context.moved += change.moved
    marks = Marks.of(change.old)
    marks.remove(kind.key)
    stale = kind.stale_children(change.old.get(kind.key), change.thing)
    if stale:
        numbers.judged.discard(number)
        marks.remove(*stale)
    # Of an open thing everything is read again in a sweep: not all that happens to it moves its time.
    again = change.moved or context.run.full or (sweep and change.is_open)
    document = {**change.old, kind.key: change.thing}
    for child in kind.children:
        _keep_child(child, change, document, numbers, again=again or (sweep and child.name in marks))
    if kind.single is not None and kind.is_thin(listed) and (again or kind.is_thin(change.thing)):
        numbers.to_ask[kind.key].add(number)
    for name in kind.also_due(context, document):
        numbers.to_ask[name].add(number)
    numbers.held.add(number)
    (numbers.open.add if change.is_open else numbers.open.discard)(number)
    kind.on_kept(context, change)
    put_listed(context, state, kind.part, number, path, marks.on(document), is_new=not change.old)


def _keep_child(
    child: Child, change: Change, document: JsonObject, numbers: NumberSets, *, again: bool
) -> None:
    """Take a child over from the old document, or note that it is due."""
    if child.is_optional and child.name not in change.old:
        return
    held = document[child.name] = change.old.get(child.name)
    if child.is_on_demand:
        return
    if child.count(change.thing) == 0 and not held:
        document[child.name] = []
    elif again or held is None or _miscounts(child, change.thing, held):
        numbers.to_ask[child.name].add(change.number)


def put_listed(
    context: Context,
    state: ListedState,
    part: str,
    number: int,
    path: str,
    document: JsonObject,
    *,
    is_new: bool,
) -> None:
    """Put the document of something that was listed. Where it cannot be kept it is left out, and forgotten
    where it `is_new`."""
    try:
        context.put(path, document)
        context.left_out(part).pop(str(number), None)
    except BadAnswer as error:
        context.leave_out(part, str(number), error)
        if is_new:
            state.numbers.forget(number)


def _miscounts(child: Child, thing: Json, held: Json) -> bool:
    count = child.count(thing)
    return count is not None and count != sum(1 for one in held if child.is_kept(one))


async def _mark_vanished(context: Context, kind: Kind, seen: set[int]) -> None:
    """Mark the things that a whole list does not have any more; their last documents stay.

    The list is asked for by states: a thing in a state that is unknown here is not in it, and exists.
    """
    numbers = context.state.numbered(kind.part).numbers
    since = context.now
    missing = numbers.held - seen
    if kind.single is not None and len(missing - numbers.gone) <= VANISHED_MAX:
        missing = {number for number in missing if not await _is_there(context, kind, kind.single, number)}
    for number in sorted(missing):
        path = kind.path(number)
        document = context.draft.get(path)
        if isinstance(document, dict) and not kind.is_marked_gone(document):
            marks = Marks.of(document)
            marks.put_gone(kind.key, since)
            context.put(path, marks.on(document))
        numbers.gone.add(number)
        for child in kind.asked:
            numbers.to_ask[child.name].discard(number)


async def _is_there(context: Context, kind: Kind, single: Endpoint, number: int) -> bool:
    """Whether a thing that its list lacks exists all the same, or may; its data is kept then."""
    if number in context.state.numbered(kind.part).numbers.gone:
        return False
    try:
        answer = await context.client_for(Priority.FIRST).get(single, None, id=number, **context.names)
        context.note_answer(single)
        thing = answer.object(kind.noun)
    except ApiError as error:
        return not await not_found_means_gone(context, single, error)
    if kind.number_of(thing) == number:
        _keep_listed(context, kind, number, thing, sweep=True)
    return True


# -- what belongs to each


def due(context: Context, kind: Kind) -> dict[str, int]:
    """By child, for how many things it is still to be asked for. Activity comes from one list for all, and
    is due until that was read as far as the things that moved."""
    state = context.state.numbered(kind.part)
    numbers = state.numbers
    found = {child.name: len(numbers.to_ask[child.name]) for child in kind.asked}
    found = {name: count for name, count in found.items() if count}
    unread = numbers.moved | numbers.to_ask["activity"]
    if unread or kind.is_under_way(context):
        found["activity"] = max(1, len(unread))
    return found


async def fetch_children(context: Context, kind: Kind, priority: Priority) -> None:
    """Ask for what is due with this priority, until the rate limit stops it. Raises only where the
    credential as a whole is refused."""
    numbers = context.state.numbered(kind.part).numbers
    names = kind.names_for(priority)
    due_now: set[int] = set()
    for name in names:
        due_now |= numbers.to_ask[name]
    if priority is Priority.OPEN:
        due_now &= numbers.open
    order = sorted(due_now, reverse=True)
    await context.ask_in_batches(
        order,
        lambda number: _fetch_one(context, kind, number, names, priority),
        after=lambda start: context.report_progress(kind.part, start, len(order)),
    )


async def _fetch_one(
    context: Context, kind: Kind, number: int, names: Sequence[str], priority: Priority
) -> None:
    path, numbers = kind.path(number), context.state.numbered(kind.part).numbers
    before = context.draft.get(path)
    if not isinstance(before, dict) or context.draft.is_erased(path):
        for name in names:
            numbers.to_ask[name].discard(number)
        return
    document, marks, failures = dict(before), Marks.of(before), context.failures
    read = []
    for child in kind.asked:
        attempt = (kind.part, number, child.name)
        if child.name not in names or number not in numbers.to_ask[child.name] or attempt in failures.tried:
            continue
        if not failures.may_ask(child.endpoint):
            continue
        if await _fetch_child(context, kind, number, child, document, marks, priority):
            read.append(child.name)
        else:
            failures.tried.add(attempt)
    document = marks.on(document)
    kept = context.put_children(kind.part, path, before, document, read)
    for name in kept:
        numbers.to_ask[name].discard(number)
    kind.on_fetched(context, number, document, kept)


async def _fetch_child(
    context: Context,
    kind: Kind,
    number: int,
    child: Child,
    document: JsonObject,
    marks: Marks,
    priority: Priority,
) -> bool:
    """Ask for one child; returns whether it is settled. Where it cannot be read, the last good value stays
    and a mark says why."""
    try:
        if child.ask is not None:
            document[child.name] = await child.ask(context, priority, number, document)
        else:
            names: Mapping[str, str | int] = {"id": number, **context.names}
            values = await all_of(context.client_for(priority), child.endpoint, None, **names)
            document[child.name] = child.merge(document.get(child.name), values)
    except MirrorError as error:
        may_be_gone = child.may_be_gone or isinstance(error, Gone)
        if may_be_gone and await not_found_means_gone(context, child.endpoint, error):
            marks.put_state(child.name, PartState.GONE)
            return True
        if isinstance(error, ListShort) and error.values:
            # Of a list that shrank while it was read, what came is newer than what is held.
            document[child.name] = [fields.stable(value) for value in error.values]
        if isinstance(error, EntriesLost):
            document[child.name] = fields.with_held(document.get(child.name), error.values)
        if isinstance(error, ApiError):
            marks.put_failed(child.name, error)
        context.failures.record(kind.part, f"{kind.noun} {number}", error, child.endpoint)
        return False
    marks.remove(child.name)
    context.note_answer(child.endpoint)
    return True


def part_of(context: Context, kind: Kind) -> Part:
    """What a snapshot says of the part."""
    numbers = context.state.numbered(kind.part).numbers
    counts = {kind.part: len(numbers.held)}
    if numbers.gone:
        counts[f"{kind.part}_gone"] = len(numbers.gone)
    return part_with(context, kind.part, counts, due(context, kind), noun=f"{kind.noun}s")
