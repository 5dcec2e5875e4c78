"""The activity of all pull requests in one walk, instead of one request for each of them.

It is read from the newest entry down to where the last walk began. Where a repository has no such
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
from mirror.collect.kinds.numbered import OVERLAP, PULL_REQUESTS, document_path, merged_activity
from mirror.collect.ports import Work, earliest, latest, moment
from mirror.collect.walks import Walk
from mirror.errors import TryLater
from mirror.model import JsonObject, time_text

# Approvals need not move a pull request's own time, so they are looked for even where nothing did.
LOOK_EVERY = timedelta(days=1)
# A list that was refused is tried again after so long.
TRY_AGAIN_AFTER = timedelta(days=7)
# So many entries are held before they are put into their documents.
HELD_MAX = 1000

_PART = PULL_REQUESTS.part


async def read_feed(work: Work) -> None:
    """Bring the activity of the pull requests that are held up to date, where any has moved.

    Raises TryLater where the walk could not be ended; what was read is kept.
    """
    state, numbers = work.part_state(_PART), work.numbers(_PART)
    feed: JsonObject = state.setdefault("feed", {})
    if not numbers["held"]:
        return
    if not (numbers["moved"] or "begun" in feed or work.is_due(feed, "asked", LOOK_EVERY)):
        return
    if "refused" in feed and not work.is_due(feed, "refused", TRY_AGAIN_AFTER):
        numbers["activity"] |= numbers["moved"]
        numbers["moved"].clear()
        return
    feed.setdefault("begun", time_text(work.clock.now()))  # until it was read to its end
    try:
        await _walk(work, feed)
    except ApiError as error:
        # No such list, or not for this credential: each is asked for its own.
        feed.pop("walk", None)
        feed["refused"] = time_text(work.clock.now())
        numbers["activity"] |= numbers["moved"] | _without_activity(work)
        work.progress.report(work.repository.full_name, f"activity: {error.message}")
    numbers["moved"].clear()
    feed.pop("begun", None)
    work.checkpoint()


async def _walk(work: Work, feed: JsonObject) -> None:
    state, numbers = work.part_state(_PART), work.numbers(_PART)
    read_to = "" if work.full else work.cursor(state.get("activity_to")) or ""
    walk = Walk(work, feed, f"down to {read_to}")
    edge = moment(read_to)
    newest = str(walk.memory.get("newest") or read_to)
    buffer: defaultdict[int, list[JsonObject]] = defaultdict(list)
    held = 0
    ended = False
    several = walk.pages(work.asking(Priority.OPEN), endpoints.PULL_REQUESTS_ACTIVITY, None)
    while (page := await _next(work, walk, several, buffer)) is not None:
        if page.lost:
            told = entries_lost(endpoints.PULL_REQUESTS_ACTIVITY, page.lost)
            work.faults[_PART].append(told.message)
        entries = [(fields.activity(value), value) for value in page.values]
        # One that says it is older than others that follow it is not where the known ones begin.
        while entries and edge is not None and _is_before(entries[-1][0], edge - OVERLAP):
            entries.pop()
            ended = True
        for entry, value in entries:
            newest = latest(newest, entry.when)
            if entry.number is not None:
                buffer[entry.number].append(value)
                walk.seen.add(entry.number)
                held += 1
        # Everything is put before the next page is asked for, so that it may be gone on from there.
        if held >= HELD_MAX or work.is_checkpoint_due:
            _put(work, buffer)
            held = 0
        if ended:
            break
        walk.memory["newest"] = newest
        walk.is_held = held > 0
    _put(work, buffer)
    if not read_to:
        # What the walk has nothing of is asked for by itself.
        numbers["activity"] |= _without_activity(work, walk.seen)
    work.draft.checkpoint()
    walk.done()
    feed.pop("refused", None)
    feed["asked"] = time_text(work.clock.now())
    begun = str(feed["begun"])
    state["activity_to"] = earliest(newest or begun, begun)


def _is_before(entry: fields.Activity, edge: datetime) -> bool:
    when = moment(entry.when)
    return when is not None and when < edge


async def _next(
    work: Work, walk: Walk, several: AsyncIterator[Page], buffer: defaultdict[int, list[JsonObject]]
) -> Page | None:
    """The next page, None at the end. Where it cannot be had for now, what came before it is kept."""
    try:
        return await anext(several, None)
    except TryLater:
        _put(work, buffer)
        walk.put_down()
        work.checkpoint()
        raise


def _put(work: Work, buffer: defaultdict[int, list[JsonObject]]) -> None:
    """Put entries into the documents of their pull requests."""
    numbers = work.numbers(_PART)
    for number, entries in buffer.items():
        path = document_path(PULL_REQUESTS, number)
        document = work.draft.get(path) if number in numbers["held"] else None
        if not isinstance(document, dict) or work.draft.is_erased(path):
            continue
        known = {fields.activity(one).key for one in document.get("activity") or []}
        activity = merged_activity(document.get("activity"), entries)
        comments = {one.get("id") for one in document.get("comments") or []}
        updated = moment(fields.updated_on(document.get("pull_request")))
        for entry in map(fields.activity, entries):
            if entry.key in known:
                continue
            if entry.comment is not None and entry.comment not in comments:
                numbers["comments"].add(number)
            when = moment(entry.when)
            if entry.decides and when is not None and updated is not None and when > updated:
                numbers[PULL_REQUESTS.key].add(number)
        try:
            work.put(path, {**document, "activity": activity})
        except BadAnswer:
            numbers["activity"].add(number)  # asked for by itself, which tells of it
    buffer.clear()


def _without_activity(work: Work, seen: Iterable[int] = ()) -> set[int]:
    found = set()
    for number in work.numbers(_PART)["held"].difference(seen):
        document = work.draft.get(document_path(PULL_REQUESTS, number))
        if isinstance(document, dict) and document.get("activity") is None:
            found.add(number)
    return found
