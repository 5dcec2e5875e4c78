"""Pipelines: the list of them, newest first, because their logs expire.

What belongs to each (`kinds/pipeline_details.py`) is read until the pipeline is done, and never again.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.failures import ApiError, ListShort
from mirror.bitbucket.lists import Page, Resume
from mirror.collect.context import Context
from mirror.collect.kinds.numbered import numbered_entries, numbers_of_documents, put_listed
from mirror.collect.listing import ResumableListing
from mirror.collect.marks import Marks
from mirror.collect.outcomes import not_found_means_gone, part_with
from mirror.collect.state import AscendingEnd, PipelinesState
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import JsonObject, Part, PartState

PART = "pipelines"
FOLDER = "pipelines"
# A pipeline that waits for an approval may stay open for ever: it is looked at once a day.
OPEN_EVERY = timedelta(days=1)
# In the order of asking: the steps say which logs and reports there may be.
CHILDREN = ("steps", "logs", "test_reports")
# The order of the list. The server may honour `sort`, or not, or not any more.
ASCENDING, DESCENDING, MIXED = "ascends", "descends", "mixed"

_log = get_logger("collect")


def document_path(number: int) -> str:
    """Where the document of a pipeline stands."""
    return f"{FOLDER}/{number // 100}/{number}.json"


async def list_changes(context: Context, *, with_logs: bool) -> None:
    """Bring every pipeline's own data up to date, and note which children are due.

    The list is read from the newest down to what is known. Raises what listing raises.
    """
    state = context.state.pipelines
    numbers, done_to = state.numbers, state.done_to
    if done_to is None or context.run.full or state.has_nameless:
        done_to = 0
        numbers.held = numbers_of_documents(context, FOLDER)
        state.ascending, state.left_out = None, None
    if with_logs and not state.with_logs:
        numbers.to_ask["logs"] |= numbers.held  # switched on since: look at what is held once more
    seen = await _read(context, done_to, _start(state), with_logs=with_logs)
    if seen is None:
        _log.info("collect.pipelines_restarted", repository=context.repository.full_name)
        state.ascending, state.walk = None, None
        seen = await _read(context, done_to, None, with_logs=with_logs) or set()
    state.done_to = max(seen, default=done_to)
    state.with_logs = with_logs
    await _look_at_open(context, seen, with_logs=with_logs)
    context.checkpoint()


async def _read(context: Context, done_to: int, start: Resume | None, *, with_logs: bool) -> set[int] | None:
    """Read the list from its first page, or from `start`, and keep what is new and what was open.

    Returns the numbers that came; None where the list does not continue at `start`: the server changed
    the order, or does not know the page any more.
    """
    state, client = context.state.pipelines, context.client_for(Priority.FIRST)
    listing = ResumableListing(context, state, f"down to {done_to}")
    trail: list[int] = []
    try:
        async for page in listing.pages(client, endpoints.PIPELINES, None, start):
            found = dict(numbered_entries(context, PART, endpoints.PIPELINES, page, fields.pipeline_number))
            trail = [*trail[-1:], *found]
            before = listing.memory.get("order", ASCENDING if start else None)
            order = _order_with(trail, before)
            if order == MIXED != before and (start is not None or listing.is_resumed):
                return None
            listing.memory["order"] = order
            _keep_new(context, found, done_to, with_logs=with_logs)
            listing.seen |= found.keys()
            context.report_progress(PART, len(listing.seen), page.size)
            if order == DESCENDING and min(listing.seen) <= done_to <= max(listing.seen):
                break
            _note_end(state, page, order, client.page_size(endpoints.PIPELINES))
    except ListShort:
        raise
    except ApiError:
        if start is None:
            raise
        return None
    if start is not None and max(listing.seen, default=0) < done_to:
        return None  # the end of an ascending list has the newest of the last listing
    context.draft.checkpoint()
    listing.finish()
    return listing.seen


def _order_with(trail: list[int], before: str | None) -> str | None:
    """The order of a list, from the numbers of a page behind the last number of the page before it;
    `before` is the order of the pages before. None where there are too few to say."""
    if len(trail) < 2:
        return before
    rises = {one < other for one, other in pairwise(trail)}
    order = MIXED if len(rises) > 1 else ASCENDING if rises == {True} else DESCENDING
    return order if before in (None, order) else MIXED


def _note_end(state: PipelinesState, page: Page, order: str | None, page_size: int) -> None:
    """Where the server ignores `sort`, new pipelines are at the end: the next listing starts there."""
    if order in (DESCENDING, MIXED):
        state.ascending = None
    elif order == ASCENDING and page.next is not None:
        before = page.number * page_size
        state.ascending = AscendingEnd(next=page.next, number=page.number + 1, before=before)


def _start(state: PipelinesState) -> Resume | None:
    end = state.ascending
    if end is None or end.next is None or end.number is None or end.before is None:
        return None
    return Resume(end.next, end.number, end.before)


def _keep_new(context: Context, found: dict[int, JsonObject], done_to: int, *, with_logs: bool) -> None:
    numbers = context.state.pipelines.numbers
    for number, value in found.items():
        if number > done_to or number in numbers.open or number not in numbers.held:
            _keep_listed(context, number, value, with_logs=with_logs)


def _keep_listed(context: Context, number: int, listed: JsonObject, *, with_logs: bool) -> None:
    """Put a pipeline as it is listed, and note which of its children are due."""
    path, state = document_path(number), context.state.pipelines
    if context.draft.is_erased(path):
        return
    numbers, old = state.numbers, context.document(path)
    pipeline = fields.merged(old.get("pipeline"), fields.stable(listed))
    document = Marks.of(old).on({**dict.fromkeys(CHILDREN), **old, "pipeline": pipeline})
    again = pipeline != old.get("pipeline") or context.run.full
    for name in CHILDREN:
        if (again or document[name] is None) and (name != "logs" or with_logs):
            numbers.to_ask[name].add(number)
    numbers.held.add(number)
    is_settled = fields.is_done(pipeline) and fields.has_uuid(pipeline)
    (numbers.open.discard if is_settled else numbers.open.add)(number)
    put_listed(context, state, PART, number, path, document, is_new=not old)


async def _look_at_open(context: Context, seen: set[int], *, with_logs: bool) -> None:
    """Ask one by one for those that had not ended and did not come with the list."""
    state = context.state.pipelines
    numbers = state.numbers
    if not numbers.open - seen or not context.is_due(state.opened, OPEN_EVERY):
        return
    for number in sorted(numbers.open - seen, reverse=True):
        document = context.draft.get(document_path(number))
        if not isinstance(document, dict):
            numbers.open.discard(number)
            continue
        try:
            listed = await _ask_again(context, document)
            if fields.pipeline_number(listed) == number:
                _keep_listed(context, number, listed, with_logs=with_logs)
        except MirrorError as error:
            if await not_found_means_gone(context, endpoints.PIPELINE, error):
                numbers.open.discard(number)
                continue
            context.failures.record(PART, f"pipeline {number}", error, endpoints.PIPELINE)
            if context.failures.stopped is not None:
                return
    state.opened = context.now


async def _ask_again(context: Context, document: JsonObject) -> JsonObject:
    uuid = fields.uuid_of(document["pipeline"], "pipeline")
    client = context.client_for(Priority.OPEN)
    answer = await client.get(endpoints.PIPELINE, None, pipeline=uuid, **context.names)
    context.note_answer(endpoints.PIPELINE)
    return answer.object("pipeline")


def due(context: Context, *, with_logs: bool) -> tuple[dict[str, int], dict[str, int]]:
    """By child, for how many pipelines it is still to be asked for; the logs apart."""
    to_ask = context.state.pipelines.numbers.to_ask
    own = {name: len(to_ask[name]) for name in ("steps", "test_reports") if to_ask[name]}
    return own, {"logs": len(to_ask["logs"])} if with_logs and to_ask["logs"] else {}


def parts(context: Context, *, with_logs: bool) -> dict[str, Part]:
    """What a snapshot says of the pipelines and of their logs."""
    own, logs = due(context, with_logs=with_logs)
    counts = {PART: len(context.state.pipelines.numbers.held)}
    result = {PART: part_with(context, PART, counts, own, noun="pipelines")}
    if with_logs:
        result["pipeline_logs"] = part_with(context, "pipeline_logs", {}, logs, noun="pipelines")
    else:
        result["pipeline_logs"] = Part(PartState.SKIPPED)
    return result
