"""The LFS objects of one repository, after its code and before its snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mirror.backup.context import FolderContext
from mirror.backup.git.mirrors import login_for_git
from mirror.collect.context import Context
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.git.lfs.sync import LfsJob, LfsResult
from mirror.logs import get_logger
from mirror.model import JsonObject, Part, PartState, Snapshot

PART = "lfs"
# So many missing objects are named in the run record and the log; the snapshot lists all.
NAMED_MAX = 20

_log = get_logger("backup")


@dataclass(frozen=True)
class LfsOutcome:
    """What became of the objects. `objects` is what the snapshot is to list (None: as the last one does),
    `retryable` whether a later run may get what is missing, `facts` are for the run record."""

    part: Part
    objects: Mapping[str, tuple[int, bool]] | None = None
    retryable: bool = False
    facts: JsonObject = field(default_factory=dict)


async def fetch_lfs(
    folder: FolderContext, context: Context, code_error: MirrorError | None, *, has_code: bool
) -> LfsOutcome:
    """Download every LFS object that the mirror's refs reach. Where git could not be read in this turn, the
    objects stay as they were; `code_error` is why. Never raises for what the server does."""
    workspace, name = folder.workspace, folder.repository.full_name
    if not workspace.config.parts.lfs:
        return LfsOutcome(Part(PartState.SKIPPED))
    state = context.state.lfs
    if not has_code:
        latest = folder.writer.folder.metadata.latest()
        return _unchanged(latest, code_error, was_retryable=state.retryable is True)
    try:
        login = await login_for_git(workspace, name)
    except MirrorError as error:
        if isinstance(error, CredentialRefused):
            context.failures.refused.add(PART)
        return _failed(error)
    job = LfsJob(
        mirror=str(folder.writer.folder.code),
        url=workspace.clone_url_of(name),
        login=login,
        silence_timeout=workspace.silence_timeout,
    )
    try:
        result = await workspace.workers.run(
            job, lock_fd=folder.lock, progress=workspace.report_progress(name, "lfs")
        )
    except MirrorError as error:
        _log.warning("backup.lfs_failed", repository=name, reason=error.message)
        outcome = _failed(error)
    else:
        for oid, reason in _first(result).items():
            _log.warning("backup.lfs_missing", repository=name, oid=oid, reason=reason)
        outcome = LfsOutcome(_part_of(result), result.objects, result.retryable, _facts(result))
    state.retryable = outcome.retryable
    return outcome


def _failed(error: MirrorError) -> LfsOutcome:
    return LfsOutcome(Part(PartState.PARTIAL, {}, error.message), retryable=isinstance(error, TryLater))


def _unchanged(last: Snapshot | None, code_error: MirrorError | None, *, was_retryable: bool) -> LfsOutcome:
    """The outcome of the last snapshot once more."""
    before = last.parts.get(PART) if last is not None else None
    if before is not None and before.state is not PartState.SKIPPED:
        return LfsOutcome(before, retryable=was_retryable)
    part = Part(PartState.PARTIAL, {}, "the code could not be fetched")
    return LfsOutcome(part, retryable=isinstance(code_error, TryLater))


def _part_of(result: LfsResult) -> Part:
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
    """For the run record; nothing where nothing came and nothing is missing."""
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
