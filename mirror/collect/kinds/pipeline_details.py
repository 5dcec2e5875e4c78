"""What belongs to a pipeline: its steps, their logs and their test reports."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import BadAnswer, EntriesLost
from mirror.bitbucket.lists import all_of
from mirror.collect.context import Context
from mirror.collect.kinds.files import keep_file
from mirror.collect.kinds.pipelines import CHILDREN, OPEN_EVERY, PART, document_path
from mirror.collect.marks import Marks
from mirror.collect.outcomes import by_name, not_found_means_gone
from mirror.collect.times import parse_time
from mirror.errors import MirrorError
from mirror.model import JsonObject, PartState

_LOGS_PART = "pipeline_logs"


async def fetch_children(context: Context, *, with_logs: bool) -> None:
    """Ask for steps, then logs and test reports, the newest first, until the rate limit stops it."""
    to_ask = context.state.pipelines.numbers.to_ask
    names = [name for name in CHILDREN if name != "logs" or with_logs]
    for several in (["steps"], names):
        due: set[int] = set()
        for name in several:
            due |= to_ask[name]
        order = sorted(due, reverse=True)

        def report(start: int, name: str = several[-1], total: int = len(order)) -> None:
            context.report_progress(name, start, total)

        def fetch(number: int, several: list[str] = several) -> Coroutine[Any, Any, None]:
            return _fetch_one(context, number, several)

        await context.ask_in_batches(order, fetch, after=report)


async def _fetch_one(context: Context, number: int, names: list[str]) -> None:
    path, numbers = document_path(number), context.state.pipelines.numbers
    before = context.draft.get(path)
    if not isinstance(before, dict) or context.draft.is_erased(path):
        for name in names:
            numbers.to_ask[name].discard(number)
        return
    tried = context.failures.tried
    due = [
        name for name in names if number in numbers.to_ask[name] and (PART, number, name) not in tried
    ]  # fmt: skip
    try:
        uuid = fields.uuid_of(before["pipeline"], "pipeline")
    except BadAnswer as error:
        tried.update((PART, number, name) for name in due)
        context.failures.record(PART, f"pipeline {number}", error, endpoints.PIPELINE)
        return
    details = _Details(context, number, dict(before), Marks.of(before), {**context.names, "pipeline": uuid})
    # One after the other: the steps decide about the rest.
    read = [name for name in due if await details.read(name)]
    tried.update((PART, number, name) for name in due if name not in read)
    document = details.marks.on(details.document)
    for name in context.put_children(PART, path, before, document, read):
        numbers.to_ask[name].discard(number)


@dataclass(frozen=True)
class _Log:
    """One log, by the uuid of what wrote it: a step, or a service beside it. `is_whole`: the step ended."""

    uuid: str
    endpoint: Endpoint
    place: dict[str, str | int]
    is_whole: bool


@dataclass
class _Details:
    """The children of one pipeline, as they are read into its document; `place` fills in its address."""

    context: Context
    number: int
    document: JsonObject
    marks: Marks
    place: dict[str, str | int]

    async def read(self, name: str) -> bool:
        """Read one child; returns whether it is settled. A mark says what could not be read."""
        match name:
            case "steps":
                return await self._read_steps()
            case "logs":
                return await self._read_logs()
            case _:
                return await self._read_test_reports()

    def _fail(self, name: str, error: MirrorError, endpoint: Endpoint) -> None:
        """Note that (some of) a child could not be read. Raises what concerns more than this part."""
        self.marks.put_failed(name, error)
        part = _LOGS_PART if name == "logs" else PART
        self.context.failures.record(part, f"pipeline {self.number}", error, endpoint)

    async def _read_steps(self) -> bool:
        context, endpoint = self.context, endpoints.PIPELINE_STEPS
        if not context.failures.may_ask(endpoint):
            return False
        try:
            steps = await all_of(context.client_for(Priority.CLOSED), endpoint, None, **self.place)
        except MirrorError as error:
            if isinstance(error, EntriesLost):
                self.document["steps"] = fields.with_held(self.document.get("steps"), error.values)
            self._fail("steps", error, endpoint)
            return False
        self.document["steps"] = [fields.stable(step) for step in steps]
        self.marks.remove("steps")
        context.note_answer(endpoint)
        if "unended" in self.marks.get("logs"):
            context.state.pipelines.numbers.to_ask["logs"].add(self.number)
        _, faults = by_name(steps, None, lambda step: fields.uuid_of(step, "step"))
        if faults:  # without a uuid neither its log nor its report can be asked for
            self._fail("steps", faults[0], endpoint)
            return False
        return not self._lags_behind()

    def _lags_behind(self) -> bool:
        """Whether the pipeline ended lately and a step says that it still runs: it is asked for again."""
        pipeline = self.document["pipeline"]
        ended = parse_time(fields.pipeline_ended(pipeline))
        return (
            fields.is_done(pipeline)
            and any(fields.is_in_progress(step) for step in self.document["steps"])
            and ended is not None
            and self.context.clock.now() - ended < OPEN_EVERY
        )

    def _steps_with_logs(self) -> list[JsonObject]:
        """The steps that may have a log and a test report."""
        has_ended = fields.is_done(self.document["pipeline"])
        steps = self.document["steps"] or []
        return [step for step in steps if fields.may_have_log(step, has_ended=has_ended)]

    def _logs(self) -> Iterator[_Log]:
        for step in self._steps_with_logs():
            if fields.has_uuid(step):
                uuid, is_whole = fields.uuid_of(step, "step"), fields.is_done(step)
                yield _Log(uuid, endpoints.STEP_LOG, {"step": uuid}, is_whole)
                for one in fields.services_of(step):
                    yield _Log(one, endpoints.SERVICE_LOG, {"step": uuid, "log": one}, is_whole)

    async def _read_logs(self) -> bool:
        """The logs of steps that have run, and of their services. A log stays once it is read, whatever
        happens to it upstream; only that of a step that had not ended is read again."""
        context = self.context
        logs: JsonObject = dict(self.document.get("logs") or {})
        before = frozenset(self.marks.get("logs").get("unended") or ())
        unended: set[str] = set()
        expired: list[str] = []
        is_whole = self.document["steps"] is not None
        _, faults = by_name(self._steps_with_logs(), None, lambda step: fields.uuid_of(step, "step"))
        if faults:  # without a uuid its log cannot be asked for
            is_whole = False
            self._fail("logs", faults[0], endpoints.STEP_LOG)
        for log in self._logs():
            held = logs.get(log.uuid)
            if held is not None and log.uuid not in before and context.draft.has_file(held["sha256"]):
                continue
            if not context.failures.may_ask(log.endpoint):
                is_whole = False
                continue
            try:
                logs[log.uuid] = await self._keep_log(log)
                if not log.is_whole:
                    unended.add(log.uuid)
            except MirrorError as error:
                if await not_found_means_gone(context, log.endpoint, error):
                    expired.append(log.uuid)  # never written, or Bitbucket removed it
                    continue
                is_whole = False
                self._fail("logs", error, log.endpoint)
        self.document["logs"] = logs
        self._mark_logs(expired, unended, is_whole=is_whole)
        return is_whole

    async def _keep_log(self, log: _Log) -> JsonObject:
        context, name = self.context, f"{self.number}-{log.uuid.strip('{}')}.log"
        client, place = context.client_for(Priority.OLD), {**self.place, **log.place}
        kept = await keep_file(context.draft, client, log.endpoint, name, place, text=True)
        context.note_answer(log.endpoint)
        return kept

    def _mark_logs(self, expired: list[str], unended: set[str], *, is_whole: bool) -> None:
        if expired or unended:
            state = PartState.GONE if expired else PartState.PARTIAL
            named = {"steps": sorted(expired), "unended": sorted(unended)}
            known = {name: uuids for name, uuids in named.items() if uuids}
            self.marks.put("logs", {"state": str(state), **known})
        elif is_whole:
            self.marks.remove("logs")

    async def _read_test_reports(self) -> bool:
        """The test reports by step; a step without a report has none here."""
        context, endpoint = self.context, endpoints.TEST_REPORT
        reports: JsonObject = {}
        is_whole = True
        for step in self._steps_with_logs():
            if not fields.has_uuid(step):
                continue
            if not context.failures.may_ask(endpoint):
                return False
            try:
                uuid = fields.uuid_of(step, "step")
                reports[uuid] = await _test_report(context, {**self.place, "step": uuid})
                context.note_answer(endpoint)
            except MirrorError as error:
                if not await not_found_means_gone(context, endpoint, error):
                    is_whole = False
                    self._fail("test_reports", error, endpoint)
        if self.document["steps"] is None:
            return False
        if is_whole or reports:
            self.document["test_reports"] = {**(self.document.get("test_reports") or {}), **reports}
        if is_whole:
            self.marks.remove("test_reports")
        return is_whole


async def _test_report(context: Context, place: dict[str, str | int]) -> JsonObject:
    """The test report of a step, with its cases and the reasons of those that failed."""
    client = context.client_for(Priority.OLD)
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
