"""One repository's documents, part by part; what one part cannot have never stops the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mirror.bitbucket import endpoints, fields
from mirror.collect.numbered import ISSUES, PULL_REQUESTS, SWEEP_EVERY, collect_numbered
from mirror.collect.outcomes import is_passing, part_of
from mirror.collect.pipelines import collect_pipelines
from mirror.collect.ports import Work
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Part, PartState, Repository, time_from_text, time_text

PROFILE = "repository.json"
# A repository that is listed has pull requests; a 404 there hides them. The others can be off.
ABSENT_IS_GONE = frozenset({"issues", "pipelines"})

_log = get_logger("collect")


@dataclass(frozen=True)
class Wanted:
    """Which parts the configuration asks for."""

    pull_requests: bool = True
    issues: bool = True
    pipelines: bool = True
    pipeline_logs: bool = True


@dataclass
class Collected:
    """The parts, the head of each pull request that was looked at, and which parts failed for now
    only."""

    parts: dict[str, Part] = field(default_factory=dict)
    heads: dict[int, str] = field(default_factory=dict)
    passing: set[str] = field(default_factory=set)


async def collect_repository(work: Work, wanted: Wanted) -> Collected:
    """Bring all documents of `work.repository` up to date in its draft.

    Raises CredentialRefused where the credential as a whole is refused; anything else ends in the
    part that it touched.
    """
    result = Collected()
    work.last_checkpoint = work.clock.monotonic()

    async def profile() -> dict[str, Part]:
        data = work.repository.profile
        if not data:
            data = (await _ask(work)).profile
        work.put(PROFILE, fields.merged(work.draft.get(PROFILE), fields.stable(data)))
        return {"profile": Part(PartState.COMPLETE)}

    async def pull_requests() -> dict[str, Part]:
        part, result.heads = await collect_numbered(work, PULL_REQUESTS)
        return {"pull_requests": part}

    async def issues() -> dict[str, Part]:
        absent = _known_absent(work)
        if absent is None:
            part, _ = await collect_numbered(work, ISSUES)
            work.part_state("issues").pop("absent", None)
            return {"issues": part}
        return {"issues": absent}

    async def pipelines() -> dict[str, Part]:
        return await collect_pipelines(work, with_logs=wanted.pipeline_logs)

    await _attempt(work, result, ("profile",), True, profile)
    await _attempt(work, result, ("pull_requests",), wanted.pull_requests, pull_requests)
    await _attempt(work, result, ("issues",), wanted.issues, issues)
    await _attempt(work, result, ("pipelines", "pipeline_logs"), wanted.pipelines, pipelines)
    return result


async def _ask(work: Work) -> Repository:
    answer = await work.client.get(
        endpoints.REPOSITORY, None, workspace=work.repository.workspace, repository=work.repository.slug
    )
    return fields.repository(answer.data, workspace=work.repository.workspace)


async def _attempt(
    work: Work,
    result: Collected,
    parts: tuple[str, ...],
    wanted: bool,
    collect: Callable[[], Awaitable[dict[str, Part]]],
) -> None:
    if not wanted:
        result.parts.update(dict.fromkeys(parts, Part(PartState.SKIPPED)))
        return
    kind = work.client.sign_ins[0].kind if work.client.sign_ins else ""
    try:
        result.parts.update(await collect())
    except MirrorError as error:
        for part in parts:
            state = part_of(error, part=part, credential_kind=kind, absent_is_gone=part in ABSENT_IS_GONE)
            result.parts[part] = Part(state.state, _held(work, part), state.reason, state.scope)
            if part == "issues" and state.is_settled:
                asked = time_text(work.clock.now())
                work.part_state(part)["absent"] = {"asked": asked, "part": result.parts[part].to_json()}
            if is_passing(error):
                result.passing.add(part)
        tell = _log.info if all(result.parts[part].is_settled for part in parts) else _log.warning
        tell(
            "collect.part_missing",
            repository=work.repository.full_name,
            part=parts[0],
            state=str(result.parts[parts[0]].state),
            reason=error.message,
        )


def _known_absent(work: Work) -> Part | None:
    """What was found of an issue tracker that is gone, where that was not long ago.

    Bitbucket removed it for good, so asking each time would waste a request for each repository.
    """
    absent = work.part_state("issues").get("absent")
    if work.full or not isinstance(absent, dict):
        return None
    try:
        if work.clock.now() - time_from_text(absent["asked"]) < SWEEP_EVERY:
            return Part.from_json(absent["part"])
    except (KeyError, TypeError, ValueError):
        pass
    return None


def _held(work: Work, part: str) -> dict[str, int]:
    """How many documents of a part are held from before."""
    folders = {
        "pull_requests": "pull-requests",
        "issues": "issues",
        "pipelines": "pipelines",
        "pipeline_logs": "pipelines",
    }
    if part not in folders:
        return {}
    return {"pipelines" if part == "pipeline_logs" else part: sum(1 for _ in work.draft.paths(folders[part]))}
