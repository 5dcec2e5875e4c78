"""The LFS objects of one repository, after its code and before its snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mirror.errors import MirrorError, TryLater
from mirror.git.lfs.sync import LfsJob, LfsResult
from mirror.git.workers.pool import WorkerPool
from mirror.logs import get_logger
from mirror.model import JsonObject, Part, PartState, Snapshot

PART = "lfs"
# So many objects that are missing are named in the run record and the log; the snapshot lists all.
NAMED_MAX = 20

_log = get_logger("backup")


@dataclass(frozen=True)
class Held:
    """What came of it. `objects` is what the snapshot is to list (None: as the last one does), `passing`
    whether what is missing may be had later, `facts` what the run record tells."""

    part: Part
    objects: Mapping[str, tuple[int, bool]] | None = None
    passing: bool = False
    facts: JsonObject = field(default_factory=dict)


OFF = Held(Part(PartState.SKIPPED))


async def hold_objects(
    workers: WorkerPool, job: LfsJob, name: str, lock: int, progress: Callable[[str], None]
) -> Held:
    """Have every LFS object that the mirror's refs reach. Never raises for what the server does."""
    try:
        result = await workers.run(job, lock_fd=lock, progress=progress)
    except MirrorError as error:
        _log.warning("backup.lfs_failed", repository=name, reason=error.message)
        part = Part(PartState.PARTIAL, {}, error.message)
        return Held(part, passing=isinstance(error, TryLater))
    for oid, reason in _first(result).items():
        _log.warning("backup.lfs_missing", repository=name, oid=oid, reason=reason)
    return Held(part_of(result), result.objects, result.retryable, _facts(result))


def as_before(last: Snapshot | None, why: MirrorError | None, *, was_passing: bool) -> Held:
    """Where the code could not be fetched, its LFS objects are what they were. `why` it could not;
    `was_passing`: what was missing before may be had later."""
    before = last.parts.get(PART) if last is not None else None
    if before is not None and before.state is not PartState.SKIPPED:
        return Held(before, passing=was_passing)
    part = Part(PartState.PARTIAL, {}, "the code could not be fetched")
    return Held(part, passing=isinstance(why, TryLater))


def part_of(result: LfsResult) -> Part:
    """What the snapshot says of it."""
    counts = {
        "objects": len(result.objects),
        "bytes": sum(size for size, _ in result.objects.values()),
        "missing": len(result.missing),
    }
    if not result.missing:
        return Part(PartState.COMPLETE, counts)
    oid, reason = next(iter(_first(result).items()))
    text = f"{len(result.missing)} of {len(result.objects)} objects are missing; {oid[:12]}…: {reason}"
    return Part(PartState.DENIED if result.denied else PartState.PARTIAL, counts, text)


def _first(result: LfsResult) -> dict[str, str]:
    return {oid: result.missing[oid] for oid in sorted(result.missing)[:NAMED_MAX]}


def _facts(result: LfsResult) -> JsonObject:
    """What the run record tells; nothing where nothing came and nothing is missing."""
    if not result.received and not result.missing:
        return {}
    return {
        PART: {
            "received": result.received,
            "received_bytes": result.received_bytes,
            "missing": len(result.missing),
            "first_missing": _first(result),
        }
    }
