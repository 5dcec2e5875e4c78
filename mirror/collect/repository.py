"""One repository's documents, part by part. A part that cannot be read never stops the next.

`list_changes` updates what there is, from lists alone; `fetch_children` asks for what belongs to
each thing, as far as requests are left; `parts` says how each part stands. In between, git is fetched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.collect.catalogue import row_of
from mirror.collect.context import Context
from mirror.collect.kinds import activity as activity_list
from mirror.collect.kinds import (
    commits,
    heads,
    numbered,
    pipeline_details,
    pipelines,
    repository_settings,
    settings,
)
from mirror.collect.kinds.issues import ISSUES
from mirror.collect.kinds.numbered import SWEEP_EVERY
from mirror.collect.kinds.pull_requests import PULL_REQUESTS, lacking_in_git
from mirror.collect.outcomes import part_after
from mirror.collect.state import AbsentPart, State
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.logs import get_logger
from mirror.model import Part, PartState

PROFILE = settings.PROFILE

_LISTED = ("pull_requests", "issues", "pipelines")
_FROM_API = (*_LISTED, "pipeline_logs", "downloads", "settings", "commit_comments")

_log = get_logger("collect")


@dataclass(frozen=True)
class Wanted:
    """The parts that the configuration asks for. `every_commit`: ask about all commits, and not only about
    heads."""

    pull_requests: bool = True
    issues: bool = True
    pipelines: bool = True
    pipeline_logs: bool = True
    downloads: bool = True
    settings: bool = True
    commit_comments: bool = True
    every_commit: bool = False

    def in_rounds(self) -> list[str]:
        """The parts that are read in rounds over the settings."""
        return [name for name in ("settings", "downloads", "issues") if getattr(self, name)]


# -- what there is


def are_listed(state: State, wanted: Wanted) -> bool:
    """Whether earlier turns have read the list of each wanted part to its end, or found that there is
    none."""
    known = {
        "pull_requests": state.pull_requests.cursor is not None,
        "issues": state.issues.cursor is not None or state.issues.absent is not None,
        "pipelines": state.pipelines.done_to is not None or state.pipelines.off is not None,
    }
    return all(known[name] and state.listed(name).walk is None for name in _LISTED if getattr(wanted, name))


async def take_profile(context: Context) -> dict[str, Part]:
    """Bring the profile up to date where a list of the workspace gave it. Asks for nothing; returns as
    `list_changes` does."""
    if not context.repository.profile:
        return {}
    return await _attempt(context, ("profile",), lambda: _update_profile(context))


async def list_changes(context: Context, wanted: Wanted) -> dict[str, Part]:
    """Bring what there is of the repository up to date, from lists alone; returns the parts that could not
    be read.

    Raises CredentialRefused where the credential as a whole is refused.
    """
    steps: list[tuple[bool, tuple[str, ...], Callable[[], Awaitable[None]]]] = [
        (True, ("profile",), lambda: _update_profile(context)),
        (wanted.pull_requests, ("pull_requests",), lambda: _list_pull_requests(context)),
        (wanted.issues, ("issues",), lambda: _list_issues(context)),
        (
            wanted.pipelines,
            ("pipelines", "pipeline_logs"),
            lambda: _list_pipelines(context, with_logs=wanted.pipeline_logs),
        ),
    ]
    unread: dict[str, Part] = {}
    for is_wanted, names, update in steps:
        if is_wanted:
            unread |= await _attempt(context, names, update)
    return unread


async def _update_profile(context: Context) -> None:
    data = context.repository.profile
    if not data:
        answer = await context.client.get(endpoints.REPOSITORY, None, **context.names)
        data = fields.repository(answer.data, workspace=context.repository.workspace).profile
    fingerprint = numbered.fingerprint_of(data)
    if context.state.profile != fingerprint:
        context.put(PROFILE, fields.merged(context.draft.get(PROFILE), fields.stable(data)))
        context.state.profile = fingerprint


async def _list_pull_requests(context: Context) -> None:
    await numbered.list_changes(context, PULL_REQUESTS)
    context.note_answer(endpoints.PULL_REQUESTS)


async def _list_issues(context: Context) -> None:
    """Where the tracker was found to be off, it is asked for as seldom as a sweep."""
    state = context.state.issues
    if state.absent is not None and not context.is_due(state.absent.asked, SWEEP_EVERY):
        return
    await numbered.list_changes(context, ISSUES)
    context.note_answer(endpoints.ISSUES)
    state.absent = None


async def _list_pipelines(context: Context, *, with_logs: bool) -> None:
    await pipelines.list_changes(context, with_logs=with_logs)
    context.note_answer(endpoints.PIPELINES)
    context.state.pipelines.off = None


async def _attempt(
    context: Context, names: tuple[str, ...], update: Callable[[], Awaitable[None]]
) -> dict[str, Part]:
    """Do an update of the parts `names`; returns how they stand where it fails."""
    try:
        await update()
    except MirrorError as error:
        return await _parts_after(context, names, error)
    return {}


async def _parts_after(context: Context, names: tuple[str, ...], error: MirrorError) -> dict[str, Part]:
    first = names[0]
    # What the last run reported as gone is not reported as missing.
    was_absent = first == "issues" and context.state.issues.absent is not None
    is_held = any(_held(context, first).values()) and not was_absent
    state = await part_after(context, row_of(first), error, is_held=is_held)
    unread = {}
    for name in names:
        part = unread[name] = Part(state.state, _held(context, name), state.reason, state.scope)
        if name == "issues" and part.is_settled:
            context.state.issues.absent = AbsentPart(asked=context.now, part=part.to_json())
        if isinstance(error, TryLater):
            context.failures.retryable.add(name)
    log = _log.info if state.is_settled else _log.warning
    log(
        "collect.part_missing",
        repository=context.repository.full_name,
        part=first,
        state=str(state.state),
        reason=error.message,
    )
    return unread


def _held(context: Context, part: str) -> dict[str, int]:
    """How many documents of a part an earlier run has stored."""
    if part == "profile":
        return {}
    part = "pipelines" if part == "pipeline_logs" else part
    return {part: len(context.state.listed(part).numbers.held)}


def parts_refused(context: Context, wanted: Wanted, error: CredentialRefused) -> dict[str, Part]:
    """The parts that the API gives, where it refuses the credential; what is held of each stays."""
    names = ["profile", *(name for name in _FROM_API if getattr(wanted, name))]
    if not wanted.pipelines and "pipeline_logs" in names:
        names.remove("pipeline_logs")
    context.failures.refused.update(names)
    return {
        name: Part(PartState.DENIED, _held(context, name) if name in _LISTED else {}, error.message)
        for name in names
    }


# -- what belongs to each


def requests_due(context: Context, wanted: Wanted) -> int:
    """About how many requests `fetch_children` would make."""
    count = 0
    if wanted.pull_requests:
        count += sum(numbered.due(context, PULL_REQUESTS).values())
    if wanted.issues:
        count += sum(numbered.due(context, ISSUES).values())
    if wanted.pipelines:
        for due in pipelines.due(context, with_logs=wanted.pipeline_logs):
            count += 2 * sum(due.values())
    count += repository_settings.requests_due(context, wanted.in_rounds())
    if wanted.commit_comments:
        count += commits.requests_due(context.state)
    return count


async def update_activity(context: Context, wanted: Wanted) -> None:
    """Bring the activity of pull requests up to date."""
    if wanted.pull_requests and context.failures.stopped is None:
        try:
            await activity_list.update_activity(context)
        except MirrorError as error:
            endpoint = endpoints.PULL_REQUESTS_ACTIVITY
            context.failures.record("pull_requests", "activity", error, endpoint)


async def fetch_children(context: Context, wanted: Wanted, priority: Priority) -> None:
    """Ask for what is due with this priority, as far as requests are left or may be waited for.

    Raises only where the credential as a whole is refused.
    """
    await repository_settings.collect_settings(context, priority, wanted.in_rounds())
    if wanted.pull_requests:
        await numbered.fetch_children(context, PULL_REQUESTS, priority)
    if wanted.issues:
        await numbered.fetch_children(context, ISSUES, priority)
    if wanted.pipelines and priority is Priority.CLOSED:
        await pipeline_details.fetch_children(context, with_logs=wanted.pipeline_logs)
    if wanted.commit_comments and priority is Priority.IDLE:
        await commits.fetch(context)
    context.checkpoint()


def note_fetched(
    context: Context,
    wanted: Wanted,
    *,
    pinned: Mapping[int, str],
    unpinned: Collection[int],
    branches: Iterable[str],
    more_commits: Iterable[str] = (),
) -> None:
    """Note what git gave, which decides what is asked of the API: the commits that git lacks, and what is
    said about those that it has.

    `pinned` are the heads of pull requests that git has, by number, `unpinned` those that it lacks;
    `branches` are the heads of branches, `more_commits` further commits that are to be asked about.
    """
    numbers = context.state.pull_requests.numbers
    changed = heads.unpinned_heads(context.state)
    if wanted.pull_requests:
        # A document that was judged is not opened again until its head moves.
        missing = numbers.held & heads.missing_in_git(context.state, pinned, unpinned)
        for name in ("commits", "patch"):
            numbers.to_ask[name] &= missing
        for number in missing - numbers.judged:
            for name in lacking_in_git(context, number):
                numbers.to_ask[name].add(number)
        numbers.judged = missing - numbers.to_ask["commits"]
    if wanted.commit_comments:
        known = {number: value for number, value in pinned.items() if number not in unpinned}
        current = [value for number, value in known.items() if number in numbers.open]
        once = [known[number] for number in changed.keys() & known.keys() if number not in numbers.open]
        reviewed = current if wanted.pull_requests else ()
        commits.note_heads(context, [*branches, *current], [*once, *more_commits], reviewed)
    heads.note_pinned(context.state, unpinned)


def note_pinned_later(context: Context, wanted: Wanted, pinned: Mapping[int, str]) -> None:
    """Note the heads that were pinned after `note_fetched`: they are to be asked about, too."""
    if wanted.commit_comments:
        is_open = context.state.pull_requests.numbers.open
        commits.note_more_heads(
            context.state,
            [value for number, value in pinned.items() if number in is_open],
            [value for number, value in pinned.items() if number not in is_open],
        )


# -- what snapshots say


def parts(context: Context, wanted: Wanted, unread: Mapping[str, Part]) -> dict[str, Part]:
    """What a snapshot says of each part now; `unread` are those whose lists could not be read."""
    found: dict[str, Part] = {"profile": Part(PartState.COMPLETE)}
    off = Part(PartState.SKIPPED)
    found["pull_requests"] = numbered.part_of(context, PULL_REQUESTS) if wanted.pull_requests else off
    in_rounds = settings.parts(context)
    found["issues"] = _issues(context, in_rounds.get("issues")) if wanted.issues else off
    of_pipelines = pipelines.parts(context, with_logs=wanted.pipeline_logs)
    found.update(of_pipelines if wanted.pipelines else dict.fromkeys(of_pipelines, off))
    for name in ("settings", "downloads"):
        missing = Part(PartState.PARTIAL, {}, "not asked for yet")
        found[name] = in_rounds.get(name, missing) if getattr(wanted, name) else off
        settings.note_retryable(context, name, found[name])
    found["commit_comments"] = commits.part(context) if wanted.commit_comments else off
    return {**found, **unread}


def _issues(context: Context, lists: Part | None) -> Part:
    """The issues together with the `lists` of their milestones, versions and components."""
    absent = context.state.issues.absent
    if absent is not None and absent.part is not None:
        return Part.from_json(absent.part)
    part = numbered.part_of(context, ISSUES)
    if lists is None or lists.is_settled or part.state is not PartState.COMPLETE:
        return part
    return replace(part, state=lists.state, reason=lists.reason, scope=lists.scope)
