"""What a snapshot says of a kind or part that could not be read, from the error and the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, Denied, Gone, NotFound
from mirror.bitbucket.lists import all_with_lost
from mirror.collect.catalogue import Meaning, Row
from mirror.collect.context import Context
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.model import JsonObject, Part, PartState

# For so long pipelines count as switched off while they are refused all the time.
OFF_FOR = timedelta(days=7)
_CONFIGURATION = "settings/pipelines-configuration.json"


async def part_after(context: Context, row: Row, error: MirrorError, *, is_held: bool) -> Part:
    """The state of a kind that could not be read because of `error`, by what its row says of refusals.

    `is_held`: the store has a copy, which stays. Raises `error` itself where the credential as a whole is
    refused.
    """
    if isinstance(error, CredentialRefused):
        raise error
    kinds = [context.client.kind_of(one) for one in context.client.sign_ins]
    # Where a copy is held, the credential could read it once: that it never can is believed after days.
    if is_out_of_reach(kinds, row, error) and (not is_held or context.is_retired(row.endpoint)):
        return Part(PartState.UNAVAILABLE, {}, "this kind of credential has no access to this")
    if isinstance(error, Gone) and error.endpoint == row.endpoint.name:
        return _retired(context, row, error, is_held=is_held)
    if await _is_absent(context, row, error):
        is_doubtful = is_held and isinstance(error, NotFound) and row.not_found is Meaning.NONE
        if is_doubtful and not context.is_retired(row.endpoint):
            return _not_yet_gone(context, row, error, is_held=True)
        return Part(PartState.GONE, {}, f"{row.absence} ({error.message})")
    if isinstance(error, Denied):
        return Part(PartState.DENIED, {}, error.message, ", ".join(error.required) or None)
    return Part(PartState.PARTIAL, {}, error.message)


def is_out_of_reach(kinds: Sequence[str], row: Row, error: MirrorError) -> bool:
    """Whether a row itself was refused because credentials of these `kinds` can never read it. A refusal
    for another reason, such as the address it is asked from, does not count."""
    if not isinstance(error, Denied | NotFound) or error.endpoint != row.endpoint.name:
        return False
    if not kinds or not all(kind in row.never_for for kind in kinds):
        return False
    return not isinstance(error, Denied) or error.is_for_kind(names_scope=row.has_no_scope)


def _retired(context: Context, row: Row, error: Gone, *, is_held: bool) -> Part:
    """The state after a 410. Bitbucket answers 410 for some hours to announce that a part of its API ends."""
    if row.gone is Meaning.ENDED and not is_held:
        return Part(PartState.GONE, {}, error.message)
    if context.is_retired(row.endpoint):
        since = context.retired_since(row.endpoint)
        return Part(PartState.GONE, {}, f"retired, as it answers since {since}: {error.message}")
    return _not_yet_gone(context, row, error, is_held=is_held)


def _not_yet_gone(context: Context, row: Row, error: MirrorError, *, is_held: bool) -> Part:
    """The state of a kind that may have ended: missing, until the answer has lasted."""
    kept = "; the last copy is kept" if is_held else ""
    return Part(PartState.PARTIAL, {}, f"{error.message}, since {context.retired_since(row.endpoint)}{kept}")


async def _is_absent(context: Context, row: Row, error: MirrorError) -> bool:
    if isinstance(error, NotFound) and error.endpoint == row.endpoint.name:
        if row.not_found is Meaning.NONE:
            return await context.repository_answers()
        return row.not_found is Meaning.OFF and await pipelines_are_off(context, error)
    if isinstance(error, Denied) and error.endpoint == row.endpoint.name and not error.required:
        return row.forbidden is Meaning.OFF and await pipelines_are_off(context, error)
    return False


async def pipelines_are_off(context: Context, error: ApiError) -> bool:
    """Whether pipelines are switched off in a repository that refused them: the refusal or the repository's
    configuration says so. The configuration is asked for once in `OFF_FOR`."""
    if isinstance(error, Denied) and error.says_switched_off:
        return True
    state = context.state.pipelines
    if not context.is_due(state.off, OFF_FOR):
        return True
    try:
        answer = await context.client.get(endpoints.PIPELINES_CONFIG, None, **context.names)
        is_off = fields.pipelines_are_off(answer.data)
    except NotFound:
        # Every repository where pipelines were ever on has a configuration: where one is held, its 404 is
        # doubted.
        was_on = context.draft.get(_CONFIGURATION) is not None
        is_gone = not was_on or context.is_retired(endpoints.PIPELINES_CONFIG)
        is_off = is_gone and await context.repository_answers()
    except (ApiError, TryLater):
        return False
    if is_off:
        state.off = context.now
    return is_off


async def not_found_means_gone(context: Context, endpoint: Endpoint, error: MirrorError) -> bool:
    """Whether a 404 or 410 for one thing, which may be absent, means that it is: the repository itself
    answers, or the 410 has lasted."""
    if isinstance(error, NotFound):
        return await context.repository_answers()
    return isinstance(error, Gone) and context.is_retired(endpoint)


def incomplete(faults: Sequence[ApiError]) -> ApiError:
    """The error of a list that was read, of which some details were not: a refusal, which another
    credential mends, or else that details are missing. The 404 of a detail never means that the list is
    gone."""
    denied = next((one for one in faults if isinstance(one, Denied)), None)
    return denied or BadAnswer(f"{len(faults)} could not be had, such as {faults[0].message}")


def by_name(
    values: Sequence[JsonObject], lost: ApiError | None, name_of: Callable[[JsonObject], str]
) -> tuple[list[tuple[str, JsonObject]], list[ApiError]]:
    """The entries of a list with their names, and the errors of those that are left out: `name_of` raises
    BadAnswer for them, or they are `lost`. Where one is left out, no other can be said to be gone."""
    found: list[tuple[str, JsonObject]] = []
    faults: list[ApiError] = [] if lost is None else [lost]
    for one in values:
        try:
            found.append((name_of(one), one))
        except BadAnswer as error:
            faults.append(error)
    return found, faults


async def entries_by_name(
    client: Client,
    endpoint: Endpoint,
    names: Mapping[str, str | int],
    name_of: Callable[[JsonObject], str],
) -> tuple[list[tuple[str, JsonObject]], list[ApiError]]:
    """The whole list at `endpoint`, as `by_name` gives it. Raises what reading a list raises."""
    return by_name(*await all_with_lost(client, endpoint, None, **names), name_of)


def part_with(
    context: Context, part: str, counts: dict[str, int], due: Mapping[str, int], *, noun: str
) -> Part:
    """The state of a part whose list was read: what of it could not be read, and for how many `noun` each
    child is still `due`."""
    failures = context.failures
    denied = failures.denial_of(part)
    if denied is not None:
        return Part(PartState.DENIED, counts, denied.message, ", ".join(denied.required) or None)
    faults = [*failures.texts[part], *context.left_out(part).values()]
    if due:
        counts = {**counts, f"{part}_to_ask": sum(due.values())}
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Part(PartState.PARTIAL, counts, faults[0] + more)
    if due:
        failures.retryable.add(part)
        names = ", ".join(f"{name.replace('_', ' ')} of {count}" for name, count in due.items())
        why = f"; {failures.stopped.message}" if failures.stopped is not None else ""
        return Part(PartState.PARTIAL, counts, f"{noun} still to be asked for: {names}{why}")
    return Part(PartState.COMPLETE, counts)
