"""Pipelines: newest first, because their logs expire; never asked about again once done."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.failures import ApiError, Gone, NotFound
from mirror.bitbucket.lists import all_of, pages
from mirror.collect.outcomes import child_of, part_of
from mirror.collect.ports import Work, together
from mirror.model import JsonObject, Part, PartState

FOLDER = "pipelines"


@dataclass
class _Round:
    with_logs: bool
    open: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    log_faults: list[str] = field(default_factory=list)
    denied: ApiError | None = None


def document_path(number: int) -> str:
    """Where the document of a pipeline stands."""
    return f"{FOLDER}/{number // 100}/{number}.json"


async def collect_pipelines(work: Work, *, with_logs: bool) -> dict[str, Part]:
    """Bring pipelines, their steps and (with `with_logs`) their logs up to date.

    Returns the parts `pipelines` and `pipeline_logs`. Raises what listing raises.
    """
    state = work.part_state("pipelines")
    known = state.get("done_to")
    done_to = known if isinstance(known, int) and not work.full else -1
    if with_logs and not state.get("with_logs"):
        done_to = -1  # logs were switched on since: everything is looked at once more
    found = _Round(with_logs)
    names = {"workspace": work.repository.workspace, "repository": work.repository.slug}
    async for page in pages(work.client, endpoints.PIPELINES, None, **names):
        fresh = [value for value in page.values if fields.pipeline_number(value) > done_to]
        await together(_bring_up_to_date(work, value, found) for value in fresh)
        work.progress.report(work.repository.full_name, "pipelines", len(found.seen), page.size)
        if len(fresh) < len(page.values):
            break
    work.draft.checkpoint()
    if not found.faults and not found.log_faults:
        highest = max(found.seen, default=done_to)
        state["done_to"] = min(found.open, default=highest + 1) - 1
        state["with_logs"] = with_logs
    work.checkpoint()
    return _parts(work, found)


def _parts(work: Work, found: _Round) -> dict[str, Part]:
    counts = {"pipelines": sum(1 for _ in work.draft.paths(FOLDER))}
    parts = {"pipelines": _part(counts, found.faults)}
    if not found.with_logs:
        parts["pipeline_logs"] = Part(PartState.SKIPPED)
    elif found.denied is not None:
        parts["pipeline_logs"] = part_of(
            found.denied, part="pipeline_logs", credential_kind="", absent_is_gone=False
        )
    else:
        parts["pipeline_logs"] = _part({}, found.log_faults)
    return parts


def _part(counts: dict[str, int], faults: list[str]) -> Part:
    if not faults:
        return Part(PartState.COMPLETE, counts)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Part(PartState.PARTIAL, counts, faults[0] + more)


async def _bring_up_to_date(work: Work, listed: JsonObject, found: _Round) -> None:
    number = fields.pipeline_number(listed)
    found.seen.add(number)
    path = document_path(number)
    if work.draft.is_erased(path):
        return
    before = work.draft.get(path)
    old: JsonObject = before if isinstance(before, dict) else {}
    pipeline = fields.merged(old.get("pipeline"), fields.stable(listed))
    if not fields.is_done(pipeline):
        found.open.add(number)
    parts: JsonObject = {}
    document: JsonObject = {
        "pipeline": pipeline,
        "steps": old.get("steps"),
        "logs": old.get("logs"),
        "test_reports": old.get("test_reports"),
        "_parts": parts,
    }
    uuid = fields.uuid_of(listed, "pipeline")
    names = {
        "workspace": work.repository.workspace,
        "repository": work.repository.slug,
        "pipeline": uuid,
    }
    try:
        steps = await all_of(work.client, endpoints.PIPELINE_STEPS, None, **names)
        document["steps"] = [fields.stable(step) for step in steps]
    except ApiError as error:
        parts["steps"] = child_of(error)
        found.faults.append(f"pipeline {number}: {error.message}")
    if found.with_logs and found.denied is None:
        await _take_logs(work, document, number, names, found)
    work.put(path, document)


async def _take_logs(
    work: Work, document: JsonObject, number: int, names: dict[str, str], found: _Round
) -> None:
    """The logs of steps that have run. One once taken stays, whatever becomes of it upstream."""
    logs: JsonObject = dict(document["logs"] or {})
    expired: list[str] = []
    for step in document["steps"] or []:
        try:
            uuid = fields.uuid_of(step, "step")
            if uuid in logs and work.draft.has_file(logs[uuid]["sha256"]):
                continue
            if not fields.step_has_run(step):
                continue
            parts: dict[str, str | int] = {**names, "step": uuid}
            async with work.client.download(endpoints.STEP_LOG, **parts) as chunks:
                logs[uuid] = await work.draft.put_file(chunks, f"{number}-{uuid.strip('{}')}.log", text=True)
        except (NotFound, Gone):
            expired.append(uuid)  # never written, or past Bitbucket's own keeping
        except ApiError as error:
            found.log_faults.append(f"pipeline {number}: {error.message}")
            document["_parts"]["logs"] = child_of(error)
            if error.status in (402, 403):
                found.denied = error
                break
    if expired:
        document["_parts"]["logs"] = {"state": str(PartState.GONE), "steps": sorted(expired)}
    document["logs"] = logs
