"""One repository's documents, part by part; what one part cannot have never stops the next.

`survey` brings what there is up to date from lists alone; `fill` asks for what belongs to each thing,
as far as requests are left; `parts` says what came of it. In between the mirror is fetched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.collect.catalogue import row_of
from mirror.collect.kinds import commits, heads, numbered, pipelines, settings
from mirror.collect.kinds.feed import read_feed
from mirror.collect.kinds.numbered import ISSUES, PULL_REQUESTS, SWEEP_EVERY
from mirror.collect.outcomes import is_passing, judged
from mirror.collect.ports import Work
from mirror.errors import CredentialRefused, MirrorError
from mirror.logs import get_logger
from mirror.model import JsonObject, Part, PartState, Repository, time_text

PROFILE = settings.PROFILE

_OF_API = (
    "pull_requests",
    "issues",
    "pipelines",
    "pipeline_logs",
    "downloads",
    "settings",
    "commit_comments",
)

_log = get_logger("collect")


@dataclass(frozen=True)
class Wanted:
    """Which parts the configuration asks for."""

    pull_requests: bool = True
    issues: bool = True
    pipelines: bool = True
    pipeline_logs: bool = True
    downloads: bool = True
    settings: bool = True
    commit_comments: bool = True
    # Ask about every commit, and not only about heads.
    every_commit: bool = False

    def slow(self) -> list[str]:
        """The parts that are asked for in a round over the settings."""
        return [name for name in ("settings", "downloads", "issues") if getattr(self, name)]


async def survey(work: Work, wanted: Wanted) -> dict[str, Part]:
    """Bring what there is of `work.repository` up to date in its draft, from lists alone; returns the
    parts that could not be read.

    Raises CredentialRefused where the credential as a whole is refused; anything else ends in the
    part that it touched.
    """
    unread: dict[str, Part] = {}
    work.last_checkpoint = work.clock.monotonic()

    async def profile() -> None:
        data = work.repository.profile or (await _ask(work)).profile
        if work.state.get("profile") != (digest := numbered.digest_of(data)):
            work.put(PROFILE, fields.merged(work.draft.get(PROFILE), fields.stable(data)))
            work.state["profile"] = digest

    async def pull_requests() -> None:
        await numbered.survey(work, PULL_REQUESTS)
        work.answered(endpoints.PULL_REQUESTS)

    async def issues() -> None:
        if not work.is_due(work.part_state("issues").get("absent") or {}, "asked", SWEEP_EVERY):
            return
        await numbered.survey(work, ISSUES)
        work.answered(endpoints.ISSUES)
        work.part_state("issues").pop("absent", None)

    async def built() -> None:
        await pipelines.survey(work, with_logs=wanted.pipeline_logs)
        work.answered(endpoints.PIPELINES)
        work.part_state("pipelines").pop("off", None)

    await _attempt(work, unread, ("profile",), profile)
    if wanted.pull_requests:
        await _attempt(work, unread, ("pull_requests",), pull_requests)
    if wanted.issues:
        await _attempt(work, unread, ("issues",), issues)
    if wanted.pipelines:
        await _attempt(work, unread, ("pipelines", "pipeline_logs"), built)
    return unread


def refused(work: Work, wanted: Wanted, error: CredentialRefused) -> dict[str, Part]:
    """The parts that the API gives, where it refuses the credential: what is held of each stays."""
    names = ["profile", *(name for name in _OF_API if getattr(wanted, name))]
    if not wanted.pipelines and "pipeline_logs" in names:
        names.remove("pipeline_logs")
    work.refused.update(names)
    counted = ("pull_requests", "issues", "pipelines")
    return {
        name: Part(PartState.DENIED, _held(work, name) if name in counted else {}, error.message)
        for name in names
    }


async def activity(work: Work, wanted: Wanted) -> None:
    """Bring the activity of pull requests up to date."""
    if wanted.pull_requests and work.stopped is None:
        try:
            await read_feed(work)
        except MirrorError as error:
            work.failed("pull_requests", "activity", error, endpoints.PULL_REQUESTS_ACTIVITY)


def to_ask(work: Work, wanted: Wanted) -> int:
    """About how many requests are due: what `fill` would ask for."""
    count = 0
    if wanted.pull_requests:
        count += sum(numbered.due(work, PULL_REQUESTS).values())
    if wanted.issues:
        count += sum(numbered.due(work, ISSUES).values())
    if wanted.pipelines:
        for due in pipelines.due(work, with_logs=wanted.pipeline_logs):
            count += 2 * sum(due.values())
    is_round = settings.round_priority(work) is not None
    count += len(settings.rows_wanted(work, wanted.slow()) if is_round else settings.lacking(work))
    if wanted.commit_comments:
        count += commits.requests_due(work)
    return count


async def fill(work: Work, wanted: Wanted, priority: Priority) -> None:
    """Ask for what is due with this priority, as far as requests are left or may be waited for.

    Raises only where the credential as a whole is refused.
    """
    await settings.collect_settings(work, priority, wanted.slow())
    if wanted.pull_requests:
        await numbered.fill(work, PULL_REQUESTS, priority)
    if wanted.issues:
        await numbered.fill(work, ISSUES, priority)
    if wanted.pipelines and priority is Priority.CLOSED:
        await pipelines.fill(work, with_logs=wanted.pipeline_logs)
    if wanted.commit_comments and priority is Priority.IDLE:
        await commits.fill(work)
    work.checkpoint()


def note_fetched(
    work: Work,
    wanted: Wanted,
    *,
    pinned: Mapping[int, str],
    unpinned: Collection[int],
    branches: Iterable[str],
    came: Iterable[str] = (),
) -> None:
    """What the mirror holds decides what is asked for: the commits that git lacks, and what is said
    about commits. `pinned` are the heads of pull requests that it holds, `unpinned` those it lacks;
    `came` are commits to be asked about that are no heads."""
    numbers, told = work.numbers("pull_requests"), heads.told_heads(work)
    if wanted.pull_requests:
        # Those whose document has been judged are not opened again until their head moves.
        held = numbers["held"] & heads.without(work, pinned, unpinned)
        for name in ("commits", "patch"):
            numbers[name] &= held
        for number in held - numbers["listed"]:
            for name in _lacks(work, number):
                numbers[name].add(number)
        numbers["listed"] = held - numbers["commits"]
    if wanted.commit_comments:
        known = {number: value for number, value in pinned.items() if number not in unpinned}
        current = [value for number, value in known.items() if number in numbers["open"]]
        once = [known[number] for number in told.keys() & known.keys() if number not in numbers["open"]]
        commits.note_heads(
            work, [*branches, *current], [*once, *came], current if wanted.pull_requests else ()
        )
    heads.note_pinned(work, unpinned)


def note_pinned_since(work: Work, wanted: Wanted, pinned: Mapping[int, str]) -> None:
    """Heads that were pinned after `note_fetched`: what is said about them is asked for, too."""
    if wanted.commit_comments:
        is_open = work.numbers("pull_requests")["open"]
        commits.note_more(
            work,
            [value for number, value in pinned.items() if number in is_open],
            [value for number, value in pinned.items() if number not in is_open],
        )


def _lacks(work: Work, number: int) -> tuple[str, ...]:
    """What the document of a pull request lacks of what git does not have."""
    document = work.draft.get(numbered.document_path(PULL_REQUESTS, number))
    if not isinstance(document, dict):
        return ()
    head = fields.pull_request_head(document.get("pull_request"))
    listed, marks = document.get("commits"), document.get("_parts") or {}
    # Of one whose fork is gone no head is told: any list is all that there is.
    has_commits = (
        isinstance(listed, list) and bool(listed) and (head is None or fields.starts_with(listed[0], head))
    )
    if not has_commits and not _is_gone(marks.get("commits")):
        return "commits", "patch"
    return ("patch",) if heads.is_unjudged(document) else ()


def _is_gone(mark: JsonObject | None) -> bool:
    return mark is not None and mark.get("state") == PartState.GONE


def parts(work: Work, wanted: Wanted, unread: dict[str, Part]) -> dict[str, Part]:
    """What a snapshot says of each part now."""
    found: dict[str, Part] = {"profile": Part(PartState.COMPLETE)}
    off = Part(PartState.SKIPPED)
    found["pull_requests"] = numbered.part_of_numbered(work, PULL_REQUESTS) if wanted.pull_requests else off
    slow = settings.parts(work)
    found["issues"] = _issues(work, slow.get("issues")) if wanted.issues else off
    several = pipelines.parts(work, with_logs=wanted.pipeline_logs)
    found.update(several if wanted.pipelines else dict.fromkeys(several, off))
    for name in ("settings", "downloads"):
        missing = Part(PartState.PARTIAL, {}, "not asked for yet")
        found[name] = slow.get(name, missing) if getattr(wanted, name) else off
        settings.note_passing(work, name, found[name])
    found["commit_comments"] = commits.part(work) if wanted.commit_comments else off
    return {**found, **unread}


def _issues(work: Work, lists: Part | None) -> Part:
    """The issues, and the `lists` of their milestones, versions and components, which may lack something,
    too."""
    absent = work.part_state("issues").get("absent")
    if absent:
        return Part.from_json(absent["part"])
    part = numbered.part_of_numbered(work, ISSUES)
    if lists is None or lists.is_settled or part.state is not PartState.COMPLETE:
        return part
    return replace(part, state=lists.state, reason=lists.reason, scope=lists.scope)


async def _ask(work: Work) -> Repository:
    answer = await work.client.get(endpoints.REPOSITORY, None, **work.names)
    return fields.repository(answer.data, workspace=work.repository.workspace)


async def _attempt(
    work: Work, unread: dict[str, Part], names: tuple[str, ...], collect: Callable[[], Awaitable[None]]
) -> None:
    row = row_of(names[0])
    try:
        await collect()
    except MirrorError as error:
        # What the last run reported as gone is not reported as missing.
        is_held = any(_held(work, names[0]).values()) and "absent" not in work.part_state(names[0])
        state = await judged(work, row, error, is_held=is_held)
        for name in names:
            part = Part(state.state, _held(work, name), state.reason, state.scope)
            if name == "issues" and part.is_settled:
                asked = time_text(work.clock.now())
                work.part_state(name)["absent"] = {"asked": asked, "part": part.to_json()}
            unread[name] = part
            if is_passing(error):
                work.passing.add(name)
        tell = _log.info if state.is_settled else _log.warning
        tell(
            "collect.part_missing",
            repository=work.repository.full_name,
            part=names[0],
            state=str(state.state),
            reason=error.message,
        )


def _held(work: Work, part: str) -> dict[str, int]:
    """How many documents of a part are held from before."""
    if part == "profile":
        return {}
    part = "pipelines" if part == "pipeline_logs" else part
    return {part: len(work.numbers(part)["held"])}
