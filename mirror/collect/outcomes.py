"""From what went wrong to what a snapshot says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, Denied, Gone, NotFound
from mirror.collect.catalogue import Row, Says
from mirror.collect.ports import Work
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.model import JsonObject, Part, PartState, time_text

# So long it is believed that pipelines are switched off, where they are refused all the time.
OFF_FOR = timedelta(days=7)
_CONFIGURATION = "settings/pipelines-configuration.json"


async def judged(work: Work, row: Row, error: MirrorError, *, is_held: bool) -> Part:
    """The state of a kind that could not be read because of `error`, by what its row says of refusals.

    `is_held`: there is a copy of it, which stays. Raises `error` itself where the credential as a whole
    was refused.
    """
    if isinstance(error, CredentialRefused):
        raise error
    # What was given once, and is held, is believed to be out of reach, or to be no more, only after days.
    kinds = [work.client.kind_of(one) for one in work.client.sign_ins]
    if is_out_of_reach(kinds, row, error) and (not is_held or work.is_retired(row.endpoint)):
        return Part(PartState.UNAVAILABLE, {}, "this kind of credential has no access to this")
    if isinstance(error, Gone) and error.endpoint == row.endpoint.name:
        return _retired(work, row, error, is_held=is_held)
    if await _is_absent(work, row, error):
        is_doubtful = is_held and isinstance(error, NotFound) and row.not_found is Says.NONE
        if is_doubtful and not work.is_retired(row.endpoint):
            return _not_yet(work, row, error, is_held=True)
        return Part(PartState.GONE, {}, f"{row.absence} ({error.message})")
    if isinstance(error, Denied):
        return Part(PartState.DENIED, {}, error.message, ", ".join(error.required) or None)
    return Part(PartState.PARTIAL, {}, error.message)


def is_out_of_reach(kinds: Sequence[str], row: Row, error: MirrorError) -> bool:
    """Whether a row itself was refused because credentials of these `kinds` can never read it. A refusal that
    is about something else, such as the address that it is asked from, is none of that."""
    if not isinstance(error, Denied | NotFound) or error.endpoint != row.endpoint.name:
        return False
    if not kinds or not all(kind in row.never_for for kind in kinds):
        return False
    return not isinstance(error, Denied) or error.is_for_kind(names_scope=row.has_no_scope)


def _retired(work: Work, row: Row, error: Gone, *, is_held: bool) -> Part:
    """What a 410 says. Bitbucket announces the end of a part of its API by answering so for some hours."""
    if row.gone is Says.ENDED and not is_held:
        return Part(PartState.GONE, {}, error.message)
    if work.is_retired(row.endpoint):
        since = work.retired_since(row.endpoint)
        return Part(PartState.GONE, {}, f"retired, as it answers since {since}: {error.message}")
    return _not_yet(work, row, error, is_held=is_held)


def _not_yet(work: Work, row: Row, error: MirrorError, *, is_held: bool) -> Part:
    """What is told of a kind that may have ended: it is missing until that has lasted."""
    kept = "; the last copy is kept" if is_held else ""
    return Part(PartState.PARTIAL, {}, f"{error.message}, since {work.retired_since(row.endpoint)}{kept}")


async def _is_absent(work: Work, row: Row, error: MirrorError) -> bool:
    if isinstance(error, NotFound) and error.endpoint == row.endpoint.name:
        if row.not_found is Says.NONE:
            return await work.stands()
        return row.not_found is Says.OFF and await pipelines_are_off(work, error)
    if isinstance(error, Denied) and error.endpoint == row.endpoint.name and not error.required:
        return row.forbidden is Says.OFF and await pipelines_are_off(work, error)
    return False


async def pipelines_are_off(work: Work, error: ApiError) -> bool:
    """Whether pipelines are switched off in a repository, which is why it refused. Its configuration says
    so, which is asked for seldom; so does a refusal that is in so many words."""
    if isinstance(error, Denied) and error.says_switched_off:
        return True
    state = work.part_state("pipelines")
    if "off" in state and not work.is_due(state, "off", OFF_FOR):
        return True
    try:
        answer = await work.client.get(endpoints.PIPELINES_CONFIG, None, **work.names)
        is_off = fields.pipelines_are_off(answer.data)
    except NotFound:
        # Whoever has one configuration keeps it; where it is held, its 404 is doubted.
        was_on = work.draft.get(_CONFIGURATION) is not None
        is_off = (not was_on or work.is_retired(endpoints.PIPELINES_CONFIG)) and await work.stands()
    except (ApiError, TryLater):
        return False
    if is_off:
        state["off"] = time_text(work.clock.now())
    return is_off


def child_of(error: MirrorError) -> JsonObject:
    """What `_parts` says of a child that could not be read; no times, so that nothing churns."""
    if isinstance(error, Denied):
        return {"state": str(PartState.DENIED), "scopes": list(error.required)}
    return {"state": str(PartState.PARTIAL)}


def is_gap(mark: JsonObject | None) -> bool:
    """Whether a mark of `_parts` says that something may yet be had."""
    return mark is not None and mark.get("state") in (PartState.DENIED, PartState.PARTIAL)


async def is_gone(work: Work, endpoint: Endpoint, error: MirrorError) -> bool:
    """Whether a 404 or 410 for what may honestly be absent means that it is: the repository itself
    answers, or the 410 has lasted."""
    if isinstance(error, NotFound):
        return await work.stands()
    return isinstance(error, Gone) and work.is_retired(endpoint)


def not_all(faults: Sequence[ApiError]) -> ApiError:
    """What is told of a list that came, where some of what belongs to its entries did not: a refusal, which
    a better credential mends, or that it is not all. The 404 of one thing never means that the list is gone.
    """
    denied = next((one for one in faults if isinstance(one, Denied)), None)
    return denied or BadAnswer(f"{len(faults)} could not be had, such as {faults[0].message}")


def named(
    values: Sequence[JsonObject], lost: ApiError | None, name_of: Callable[[JsonObject], str]
) -> tuple[list[tuple[str, JsonObject]], list[ApiError]]:
    """The entries of a list, each with what `name_of` calls it, and why others are left out: it raises
    BadAnswer for them, or they are `lost`. Where any is left out, no other can be said to be gone."""
    found: list[tuple[str, JsonObject]] = []
    faults: list[ApiError] = [] if lost is None else [lost]
    for one in values:
        try:
            found.append((name_of(one), one))
        except BadAnswer as error:
            faults.append(error)
    return found, faults


def part_with(work: Work, part: str, counts: dict[str, int], due: Mapping[str, int], *, noun: str) -> Part:
    """The state of a part that was read, with what could not be had of it and what is still `due` (how
    many `noun` are to be asked for what)."""
    denied = [error for of, error in work.denied.values() if of == part]
    if denied:
        scope = ", ".join(denied[0].required) or None
        return Part(PartState.DENIED, counts, denied[0].message, scope)
    faults = [*work.faults[part], *work.left_out(part).values()]
    if due:
        counts = {**counts, f"{part}_to_ask": sum(due.values())}
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Part(PartState.PARTIAL, counts, faults[0] + more)
    if due:
        work.passing.add(part)
        told = ", ".join(f"{name.replace('_', ' ')} of {count}" for name, count in due.items())
        why = f"; {work.stopped.message}" if work.stopped is not None else ""
        return Part(PartState.PARTIAL, counts, f"{noun} still to be asked for: {told}{why}")
    return Part(PartState.COMPLETE, counts)


def is_passing(error: BaseException) -> bool:
    """Whether asking again later may help."""
    return isinstance(error, TryLater)
