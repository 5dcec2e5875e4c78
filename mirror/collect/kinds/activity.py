"""The activity of all pull requests from one list, instead of one request for each of them.

The list is read from the newest entry down to where the last reading began. Where a repository has no such
list, each pull request is asked for its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.failures import ApiError, BadAnswer
from mirror.bitbucket.lists import Page, entries_lost
from mirror.collect.context import Context
from mirror.collect.kinds.numbered import OVERLAP
from mirror.collect.kinds.pull_requests import PULL_REQUESTS, merged_activity
from mirror.collect.listing import ResumableListing
from mirror.collect.state import ActivityState
from mirror.collect.times import earliest, latest, parse_time
from mirror.errors import TryLater
from mirror.model import JsonObject

# An approval need not move a pull request's update time: the list is read once a day where none moved.
READ_EVERY = timedelta(days=1)
# A list that was refused is asked for again after so long.
TRY_AGAIN_AFTER = timedelta(days=7)
# So many entries are held before they are put into their documents.
BUFFER_MAX = 1000


async def update_activity(context: Context) -> None:
    """Bring the activity of the held pull requests up to date, where any of them moved.

    Raises TryLater where the list could not be read to its end; what was read is kept.
    """
    state = context.state.pull_requests
    activity, numbers = state.activity, state.numbers
    if activity is None:
        activity = state.activity = ActivityState()
    if not numbers.held:
        return
    if not (numbers.moved or activity.begun is not None or context.is_due(activity.asked, READ_EVERY)):
        return
    if activity.refused is not None and not context.is_due(activity.refused, TRY_AGAIN_AFTER):
        numbers.to_ask["activity"] |= numbers.moved
        numbers.moved.clear()
        return
    if activity.begun is None:  # stays until the list is read to its end
        activity.begun = context.now
    try:
        await _read(context, activity)
    except ApiError as error:
        # There is no such list, or not for this credential: each is asked for its own.
        activity.walk = None
        activity.refused = context.now
        numbers.to_ask["activity"] |= numbers.moved | _without_activity(context)
        context.report_progress(f"activity: {error.message}")
    numbers.moved.clear()
    activity.begun = None
    context.checkpoint()


class _Buffer:
    """Entries on their way into the documents of their pull requests."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._entries: defaultdict[int, list[JsonObject]] = defaultdict(list)
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to put the entries."""
        return self._count >= BUFFER_MAX or self._context.is_checkpoint_due

    def add(self, number: int, value: JsonObject) -> None:
        """Add an entry of a pull request."""
        self._entries[number].append(value)
        self._count += 1

    def flush(self) -> None:
        """Put all entries into their documents."""
        for number, entries in self._entries.items():
            _put(self._context, number, entries)
        self._entries.clear()
        self._count = 0


async def _read(context: Context, activity: ActivityState) -> None:
    state, endpoint = context.state.pull_requests, endpoints.PULL_REQUESTS_ACTIVITY
    read_to = "" if context.run.full else context.valid_cursor(state.activity_to) or ""
    listing = ResumableListing(context, activity, f"down to {read_to}")
    edge = parse_time(read_to)
    newest = str(listing.memory.get("newest") or read_to)
    buffer = _Buffer(context)
    pages = listing.pages(context.client_for(Priority.OPEN), endpoint, None)
    has_ended = False
    while not has_ended and (page := await _next(context, listing, pages, buffer)) is not None:
        if page.lost:
            context.failures.texts[PULL_REQUESTS.part].append(entries_lost(endpoint, page.lost).message)
        entries = [(fields.activity(value), value) for value in page.values]
        # One entry that claims to be older than those behind it is not where the known ones begin.
        while entries and edge is not None and _is_before(entries[-1][0], edge - OVERLAP):
            entries.pop()
            has_ended = True
        for entry, value in entries:
            newest = latest(newest, entry.when)
            if entry.number is not None:
                buffer.add(entry.number, value)
                listing.seen.add(entry.number)
        # A later run may resume at the next page only where all entries before it are put.
        if buffer.is_full:
            buffer.flush()
        listing.memory["newest"] = newest
        listing.is_paused = bool(buffer)
    buffer.flush()
    if not read_to:
        # A pull request of which the list has nothing is asked for its own.
        state.numbers.to_ask["activity"] |= _without_activity(context, listing.seen)
    context.draft.checkpoint()
    listing.finish()
    activity.refused = None
    activity.asked = context.now
    begun = str(activity.begun)
    state.activity_to = earliest(newest or begun, begun)


def _is_before(entry: fields.Activity, edge: datetime) -> bool:
    when = parse_time(entry.when)
    return when is not None and when < edge


async def _next(
    context: Context, listing: ResumableListing, pages: AsyncIterator[Page], buffer: _Buffer
) -> Page | None:
    """The next page, None at the end. Where it cannot be read now, what came before it is kept."""
    try:
        return await anext(pages, None)
    except TryLater:
        buffer.flush()
        listing.save()
        context.checkpoint()
        raise


def _put(context: Context, number: int, entries: list[JsonObject]) -> None:
    """Put entries into the document of their pull request, and note what they say is due."""
    numbers, path = context.state.pull_requests.numbers, PULL_REQUESTS.path(number)
    document = context.draft.get(path) if number in numbers.held else None
    if not isinstance(document, dict) or context.draft.is_erased(path):
        return
    known = {fields.activity(one).key for one in document.get("activity") or []}
    comments = {one.get("id") for one in document.get("comments") or []}
    updated = parse_time(fields.updated_on(document.get("pull_request")))
    for entry in map(fields.activity, entries):
        if entry.key in known:
            continue
        if entry.comment is not None and entry.comment not in comments:
            numbers.to_ask["comments"].add(number)
        when = parse_time(entry.when)
        if entry.decides and when is not None and updated is not None and when > updated:
            numbers.to_ask[PULL_REQUESTS.key].add(number)
    try:
        context.put(path, {**document, "activity": merged_activity(document.get("activity"), entries)})
    except BadAnswer:
        numbers.to_ask["activity"].add(number)  # asked for its own, which reports why


def _without_activity(context: Context, seen: Iterable[int] = ()) -> set[int]:
    found = set()
    for number in context.state.pull_requests.numbers.held.difference(seen):
        document = context.draft.get(PULL_REQUESTS.path(number))
        if isinstance(document, dict) and document.get("activity") is None:
            found.add(number)
    return found
