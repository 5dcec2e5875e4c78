"""Pipelines: newest first, because their logs expire; never asked about again once done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, EntriesLost, ListShort
from mirror.bitbucket.lists import Page, Resume, all_of, entries_lost
from mirror.collect.kinds.files import keep_file
from mirror.collect.outcomes import child_of, is_gone, named, part_with
from mirror.collect.ports import Work, moment, together
from mirror.collect.walks import Walk
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import JsonObject, Part, PartState, time_text

PART = "pipelines"
FOLDER = "pipelines"
BATCH = 16
# One that waits for somebody's go-ahead may stay open for ever; it is looked at once a day.
OPEN_EVERY = timedelta(days=1)
# In the order of asking: steps tell what logs and reports there may be.
CHILDREN = ("steps", "logs", "test_reports")
# In which order the list comes: `sort` may be heeded, or not, or not any more.
ASCENDS, DESCENDS, MIXED = "ascends", "descends", "mixed"

_log = get_logger("collect")


def document_path(number: int) -> str:
    """Where the document of a pipeline stands."""
    return f"{FOLDER}/{number // 100}/{number}.json"


# -- what there is


async def survey(work: Work, *, with_logs: bool) -> None:
    """Bring every pipeline's own data up to date, and remember what is to be asked of each.

    The list is read from the newest down to what is known. Raises what listing raises.
    """
    state, numbers = work.part_state(PART), work.numbers(PART)
    done_to = state.get("done_to")
    is_lacking = not all(what.isdigit() for what in work.left_out(PART))
    if not isinstance(done_to, int) or work.full or is_lacking:
        done_to = 0
        numbers["held"] = _held(work)
        state.pop("ascending", None)
        state.pop("left_out", None)
    if with_logs and not state.get("with_logs"):
        numbers["logs"] |= numbers["held"]  # switched on since: what is held is looked at once more
    seen = await _read(work, done_to, _start(state), with_logs=with_logs)
    if seen is None:
        _log.info("collect.pipelines_begun_again", repository=work.repository.full_name)
        state.pop("ascending", None)
        state.pop("walk", None)
        seen = await _read(work, done_to, None, with_logs=with_logs) or set()
    state["done_to"] = max(seen, default=done_to)
    state["with_logs"] = with_logs
    await _look_at_open(work, seen, with_logs=with_logs)
    work.checkpoint()


async def _read(work: Work, done_to: int, start: Resume | None, *, with_logs: bool) -> set[int] | None:
    """Read the list from its first page, or from `start`, and take what is new and what was open.

    Returns the numbers that came; None where the list does not go on from where it was read to before:
    the server has changed the order since, or knows the page no more.
    """
    state, numbers, client = work.part_state(PART), work.numbers(PART), work.asking(Priority.FIRST)
    walk = Walk(work, state, f"down to {done_to}")
    trail: list[int] = []
    try:
        async for page in walk.pages(client, endpoints.PIPELINES, None, start):
            found = _numbered(work, page)
            trail = [*trail[-1:], *found]
            before = walk.memory.get("order", ASCENDS if start else None)
            order = _order_with(trail, before)
            if order == MIXED != before and (start is not None or walk.is_resumed):
                return None
            walk.memory["order"] = order
            for number, value in found.items():
                if number > done_to or number in numbers["open"] or number not in numbers["held"]:
                    _take(work, number, value, with_logs=with_logs)
            walk.seen |= found.keys()
            work.progress.report(work.repository.full_name, PART, len(walk.seen), page.size)
            if order == DESCENDS and min(walk.seen) <= done_to <= max(walk.seen):
                break
            _note_end(state, page, order, client.page_size(endpoints.PIPELINES))
    except ListShort:
        raise
    except ApiError:
        if start is None:
            raise
        return None
    if start is not None and max(walk.seen, default=0) < done_to:
        return None  # the end of an ascending list has what was its newest
    work.draft.checkpoint()
    walk.done()
    return walk.seen


def _numbered(work: Work, page: Page) -> dict[int, JsonObject]:
    """The entries of a page by their numbers; one without a number is left out."""
    found = {}
    if page.lost:
        lost = entries_lost(endpoints.PIPELINES, page.lost)
        work.leave_out(PART, lost.message, lost)
    for value in page.values:
        try:
            found[fields.pipeline_number(value)] = value
        except BadAnswer as error:
            work.leave_out(PART, error.message, error)
    return found


def _order_with(trail: list[int], before: str | None) -> str | None:
    """The order of a list of which more has come, the last number of the page before with it; `before`
    is that of the pages before. None where too little came to tell."""
    if len(trail) < 2:
        return before
    rises = {one < other for one, other in pairwise(trail)}
    order = MIXED if len(rises) > 1 else ASCENDS if rises == {True} else DESCENDS
    return order if before in (None, order) else MIXED


def _note_end(state: JsonObject, page: Page, order: str | None, page_size: int) -> None:
    """Where `sort` is not heeded the new ones are at the end, which is gone to at once next time."""
    if order in (DESCENDS, MIXED):
        state.pop("ascending", None)
    elif order == ASCENDS and page.next is not None:
        before = page.number * page_size
        state["ascending"] = {"next": page.next, "number": page.number + 1, "before": before}


def _start(state: JsonObject) -> Resume | None:
    match state.get("ascending"):
        case {"next": str() as url, "number": int() as number, "before": int() as before}:
            return Resume(url, number, before)
    return None


def _held(work: Work) -> set[int]:
    names = (path.rpartition("/")[2].removesuffix(".json") for path in work.draft.paths(FOLDER))
    return {int(name) for name in names if name.isdigit()}


def _take(work: Work, number: int, listed: JsonObject, *, with_logs: bool) -> None:
    path, numbers = document_path(number), work.numbers(PART)
    if work.draft.is_erased(path):
        return
    before = work.draft.get(path)
    old: JsonObject = before if isinstance(before, dict) else {}
    pipeline = fields.merged(old.get("pipeline"), fields.stable(listed))
    document: JsonObject = {
        **dict.fromkeys(CHILDREN),
        **old,
        "pipeline": pipeline,
        "_parts": old.get("_parts") or {},
    }
    changed = pipeline != old.get("pipeline")
    for name in CHILDREN:
        if (changed or document[name] is None or work.full) and (name != "logs" or with_logs):
            numbers[name].add(number)
    numbers["held"].add(number)
    is_settled = fields.is_done(pipeline) and fields.has_uuid(pipeline)
    (numbers["open"].discard if is_settled else numbers["open"].add)(number)
    try:
        work.put(path, document)
        work.left_out(PART).pop(str(number), None)
    except BadAnswer as error:
        work.leave_out(PART, str(number), error)
        if not old:
            for several in numbers.values():
                several.discard(number)


async def _look_at_open(work: Work, seen: set[int], *, with_logs: bool) -> None:
    """Those that had not ended and were not in the list as far as it was read."""
    state, numbers = work.part_state(PART), work.numbers(PART)
    if not numbers["open"] - seen or not work.is_due(state, "opened", OPEN_EVERY):
        return
    for number in sorted(numbers["open"] - seen, reverse=True):
        document = work.draft.get(document_path(number))
        if not isinstance(document, dict):
            numbers["open"].discard(number)
            continue
        try:
            uuid = fields.uuid_of(document["pipeline"], "pipeline")
            answer = await work.asking(Priority.OPEN).get(
                endpoints.PIPELINE, None, pipeline=uuid, **work.names
            )
            work.answered(endpoints.PIPELINE)
            listed = answer.object("pipeline")
            if fields.pipeline_number(listed) == number:
                _take(work, number, listed, with_logs=with_logs)
        except MirrorError as error:
            if await is_gone(work, endpoints.PIPELINE, error):
                numbers["open"].discard(number)
                continue
            work.failed(PART, f"pipeline {number}", error, endpoints.PIPELINE)
            if work.stopped is not None:
                return
    state["opened"] = time_text(work.clock.now())


# -- what belongs to each


def due(work: Work, *, with_logs: bool) -> tuple[dict[str, int], dict[str, int]]:
    """How many pipelines are still to be asked for what; their logs apart."""
    numbers = work.numbers(PART)
    own = {name: len(numbers[name]) for name in ("steps", "test_reports") if numbers[name]}
    return own, {"logs": len(numbers["logs"])} if with_logs and numbers["logs"] else {}


async def fill(work: Work, *, with_logs: bool) -> None:
    """Ask for steps, then logs and test reports, the newest first, as far as the rate limit goes."""
    numbers = work.numbers(PART)
    names = [name for name in CHILDREN if name != "logs" or with_logs]
    for several in (["steps"], names):
        todo: set[int] = set()
        for name in several:
            todo |= numbers[name]
        order = sorted(todo, reverse=True)
        for start in range(0, len(order), BATCH):
            if work.stopped is not None:
                return
            await together(_ask_of(work, number, several) for number in order[start : start + BATCH])
            work.progress.report(work.repository.full_name, several[-1], start, len(order))


async def _ask_of(work: Work, number: int, names: list[str]) -> None:
    path, numbers = document_path(number), work.numbers(PART)
    before = work.draft.get(path)
    if not isinstance(before, dict) or work.draft.is_erased(path):
        for name in names:
            numbers[name].discard(number)
        return
    document: JsonObject = {**before, "_parts": dict(before.get("_parts") or {})}
    due = [name for name in names if number in numbers[name] and (PART, number, name) not in work.tried]
    try:
        place = {**work.names, "pipeline": fields.uuid_of(document["pipeline"], "pipeline")}
    except BadAnswer as error:
        work.tried.update((PART, number, name) for name in due)
        work.failed(PART, f"pipeline {number}", error, endpoints.PIPELINE)
        return
    # One after the other: what steps there are decides about the rest.
    settled = [name for name in due if await _ASK[name](work, number, place, document)]
    work.tried.update((PART, number, name) for name in due if name not in settled)
    for name in work.put_children(PART, path, before, document, settled):
        numbers[name].discard(number)


async def _steps(work: Work, number: int, place: dict[str, str | int], document: JsonObject) -> bool:
    if not work.may_ask(endpoints.PIPELINE_STEPS):
        return False
    try:
        steps = await all_of(work.asking(Priority.CLOSED), endpoints.PIPELINE_STEPS, None, **place)
    except MirrorError as error:
        if isinstance(error, EntriesLost):
            document["steps"] = fields.with_held(document.get("steps"), error.values)
        document["_parts"]["steps"] = child_of(error)
        work.failed(PART, f"pipeline {number}", error, endpoints.PIPELINE_STEPS)
        return False
    document["steps"] = [fields.stable(step) for step in steps]
    document["_parts"].pop("steps", None)
    work.answered(endpoints.PIPELINE_STEPS)
    if "unended" in (document["_parts"].get("logs") or {}):
        work.numbers(PART)["logs"].add(number)
    _, odd = named(steps, None, lambda step: fields.uuid_of(step, "step"))
    if odd:  # neither its log nor its report can be asked for
        document["_parts"]["steps"] = child_of(odd[0])
        work.failed(PART, f"pipeline {number}", odd[0], endpoints.PIPELINE_STEPS)
        return False
    return not _lags_behind(work, document)


def _lags_behind(work: Work, document: JsonObject) -> bool:
    """Whether a pipeline that ended lately has a step that says it still runs: it is asked for again."""
    pipeline = document["pipeline"]
    ended = moment(fields.pipeline_ended(pipeline))
    return (
        fields.is_done(pipeline)
        and any(fields.is_in_progress(step) for step in document["steps"])
        and ended is not None
        and work.clock.now() - ended < OPEN_EVERY
    )


async def _logs(work: Work, number: int, place: dict[str, str | int], document: JsonObject) -> bool:
    """The logs of steps that have run, and of their services. One once taken stays, whatever becomes of it
    upstream; only that of a step that was not known to have ended is taken again when its pipeline moves."""
    logs: JsonObject = dict(document.get("logs") or {})
    mark: JsonObject = document["_parts"].get("logs") or {}
    before = frozenset(mark.get("unended") or ())
    unended: set[str] = set()
    expired: list[str] = []
    whole = document["steps"] is not None
    _, odd = named(_with_logs(document), None, lambda step: fields.uuid_of(step, "step"))
    if odd:  # no address to ask for its log
        whole = False
        document["_parts"]["logs"] = child_of(odd[0])
        work.failed("pipeline_logs", f"pipeline {number}", odd[0], endpoints.STEP_LOG)
    for log in _logs_of(document):
        if log.uuid in logs and log.uuid not in before and work.draft.has_file(logs[log.uuid]["sha256"]):
            continue
        if not work.may_ask(log.endpoint):
            whole = False
            continue
        name, where = f"{number}-{log.uuid.strip('{}')}.log", {**place, **log.place}
        try:
            logs[log.uuid] = await keep_file(
                work, work.asking(Priority.OLD), log.endpoint, name, where, text=True
            )
            work.answered(log.endpoint)
            if not log.is_whole:
                unended.add(log.uuid)
        except MirrorError as error:
            if await is_gone(work, log.endpoint, error):
                expired.append(log.uuid)  # never written, or past Bitbucket's own keeping
                continue
            whole = False
            document["_parts"]["logs"] = child_of(error)
            work.failed("pipeline_logs", f"pipeline {number}", error, log.endpoint)
    if expired or unended:
        state = PartState.GONE if expired else PartState.PARTIAL
        told = {"steps": sorted(expired), "unended": sorted(unended)}
        known = {name: several for name, several in told.items() if several}
        document["_parts"]["logs"] = {"state": str(state), **known}
    elif whole:
        document["_parts"].pop("logs", None)
    document["logs"] = logs
    return whole


@dataclass(frozen=True)
class _Log:
    """One log, by the uuid of what wrote it: a step, or a service beside it."""

    uuid: str
    endpoint: Endpoint
    place: dict[str, str | int]
    is_whole: bool


def _with_logs(document: JsonObject) -> list[JsonObject]:
    """The steps that may have a log and a test report."""
    has_ended = fields.is_done(document["pipeline"])
    steps = document["steps"] or []
    return [step for step in steps if fields.may_have_log(step, has_ended=has_ended)]


def _logs_of(document: JsonObject) -> Iterator[_Log]:
    for step in _with_logs(document):
        if fields.has_uuid(step):
            uuid, is_whole = fields.uuid_of(step, "step"), fields.is_done(step)
            yield _Log(uuid, endpoints.STEP_LOG, {"step": uuid}, is_whole)
            for one in fields.services_of(step):
                yield _Log(one, endpoints.SERVICE_LOG, {"step": uuid, "log": one}, is_whole)


async def _test_reports(work: Work, number: int, place: dict[str, str | int], document: JsonObject) -> bool:
    """What each step's tests came to, by step; a step without a report has none here."""
    reports: JsonObject = {}
    steps, whole = document["steps"], True
    for step in _with_logs(document):
        if not fields.has_uuid(step):
            continue
        if not work.may_ask(endpoints.TEST_REPORT):
            return False
        try:
            uuid = fields.uuid_of(step, "step")
            reports[uuid] = await _one_report(work, {**place, "step": uuid})
            work.answered(endpoints.TEST_REPORT)
        except MirrorError as error:
            if await is_gone(work, endpoints.TEST_REPORT, error):
                continue
            whole = False
            document["_parts"]["test_reports"] = child_of(error)
            work.failed(PART, f"pipeline {number}", error, endpoints.TEST_REPORT)
    if steps is None:
        return False
    held = document.get("test_reports") or {}
    if whole or reports:
        document["test_reports"] = {**held, **reports}
    if whole:
        document["_parts"].pop("test_reports", None)
    return whole


async def _one_report(work: Work, place: dict[str, str | int]) -> JsonObject:
    client = work.asking(Priority.OLD)
    answer = await client.get(endpoints.TEST_REPORT, None, **place)
    cases = await all_of(client, endpoints.TEST_CASES, None, **place)
    kept = []
    for case in fields.ordered(cases):
        reasons = None
        if fields.may_have_reasons(case):
            uuid = fields.uuid_of(case, "test case")
            found = await all_of(client, endpoints.TEST_CASE_REASONS, None, case=uuid, **place)
            reasons = fields.ordered(found)
        kept.append({"case": case, "reasons": reasons})
    return {"report": fields.stable(answer.object("test report")), "cases": kept}


_ASK = {"steps": _steps, "logs": _logs, "test_reports": _test_reports}


def parts(work: Work, *, with_logs: bool) -> dict[str, Part]:
    """What a snapshot says of the two parts, after `survey` and as much of `fill` as there was."""
    own, logs = due(work, with_logs=with_logs)
    counts = {PART: len(work.numbers(PART)["held"])}
    result = {PART: part_with(work, PART, counts, own, noun="pipelines")}
    if with_logs:
        result["pipeline_logs"] = part_with(work, "pipeline_logs", {}, logs, noun="pipelines")
    else:
        result["pipeline_logs"] = Part(PartState.SKIPPED)
    return result
