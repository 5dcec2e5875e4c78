"""From what went wrong to what a snapshot says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mirror.bitbucket.failures import ApiError, BadAnswer, Denied, Gone, NotFound
from mirror.collect.catalogue import never_readable
from mirror.collect.ports import Work
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.model import JsonObject, Part, PartState


def part_of(
    error: MirrorError, *, part: str, kinds: Sequence[str] = (), absent_is_gone: bool = False
) -> Part:
    """The state of a part that could not be collected because of `error`.

    `kinds` are those of the credentials that asked. `absent_is_gone`: a 404 means that the thing is
    not there (its parent is); else it may be hidden. Raises `error` itself where the credential as a
    whole was refused.
    """
    if isinstance(error, CredentialRefused):
        raise error
    if isinstance(error, Denied):
        if kinds and all(never_readable(part, kind) for kind in kinds):
            return Part(PartState.UNAVAILABLE, {}, "this kind of credential has no scope for this")
        scope = ", ".join(error.required) or None
        return Part(PartState.DENIED, {}, error.message, scope)
    if isinstance(error, Gone) or (isinstance(error, NotFound) and absent_is_gone):
        return Part(PartState.GONE, {}, error.message)
    return Part(PartState.PARTIAL, {}, error.message)


def child_of(error: MirrorError) -> JsonObject:
    """What `_parts` says of a child that could not be read; no times, so that nothing churns."""
    if isinstance(error, Denied):
        return {"state": str(PartState.DENIED), "scopes": list(error.required)}
    if isinstance(error, Gone | NotFound):
        return {"state": str(PartState.GONE)}
    return {"state": str(PartState.PARTIAL)}


def not_all(faults: Sequence[ApiError]) -> ApiError:
    """What is told of a list that came, where some of what belongs to its entries did not: a refusal, which
    a better credential mends, or that it is not all. The 404 of one thing never means that the list is gone.
    """
    denied = next((one for one in faults if isinstance(one, Denied)), None)
    return denied or BadAnswer(f"{len(faults)} could not be had, such as {faults[0].message}")


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
