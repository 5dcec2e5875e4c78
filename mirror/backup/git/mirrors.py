"""Fetching one mirror, and what snapshots say of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mirror.backup.context import WorkspaceContext
from mirror.errors import MirrorError
from mirror.git.failures import GitFailed, GitForbidden, GitNotFound, GitUnauthorized
from mirror.git.mirrors.fetch import FetchJob, FetchResult, GitLogin, ProbeJob
from mirror.logs import get_logger
from mirror.model import Part, PartState, RefChange, name_to_json
from mirror.store.reading.reader import qualified_ref

_PROBE_SILENCE = 30.0
# So many refs that could not be fetched for the same reason are named.
NAMED_MAX = 20
# Refusals that another credential may not meet.
_REFUSALS = (GitUnauthorized, GitForbidden, GitNotFound)
T = TypeVar("T")
_log = get_logger("backup")


async def login_for_git(workspace: WorkspaceContext, name: str = "") -> GitLogin | None:
    """The login for `name`: the one that git accepted there before, or else that of the first credential.
    Raises CredentialRefused, or TryLater where the sign-in server cannot say."""
    return next(iter(await _logins(workspace, name)), None)


async def _logins(workspace: WorkspaceContext, name: str) -> list[GitLogin]:
    found = [GitLogin(*pair) for pair in await workspace.client.git_logins()]
    best = workspace.logins.get(name)
    return (
        sorted(found, key=lambda one: one.username != best[0] or one.password != best[1]) if best else found
    )


async def with_each_login(
    workspace: WorkspaceContext, name: str, do: Callable[[GitLogin | None], Awaitable[T | MirrorError]]
) -> T | MirrorError:
    """The result of `do` with the first login that git accepts for `name`.

    Where git accepts none, the most telling refusal is raised, or returned if `do` returned it: a 404 for a
    login that was accepted there before, or else a 403, a 401, a 404.
    """
    known = workspace.logins.get(name)
    refusals: list[tuple[int, bool, MirrorError]] = []
    logins: list[GitLogin | None] = [*await _logins(workspace, name)]
    for login in logins or [None]:
        raised = False
        try:
            result = await do(login)
        except _REFUSALS as error:
            result, raised = error, True
        if not isinstance(result, _REFUSALS):
            if login is not None:
                workspace.logins.setdefault(name, (login.username, login.password))
            return result
        is_known = login is not None and known == (login.username, login.password)
        refusals.append((_weight(result, is_known=is_known), raised, result))
    _, raised, refusal = min(refusals, key=lambda one: one[0])
    if raised:
        raise refusal
    return refusal


def _weight(refusal: MirrorError, *, is_known: bool) -> int:
    if isinstance(refusal, GitNotFound):
        return 0 if is_known else 3
    return 1 if isinstance(refusal, GitForbidden) else 2


async def fetch_mirror(
    workspace: WorkspaceContext, job: FetchJob, *, name: str, mirror: str, lock: int
) -> FetchResult:
    """Fetch a mirror of `name`, a repository or workspace; refs that upstream rewrote or removed are logged.

    `lock` is the descriptor of the folder's lock. Raises the errors of `mirror.git.failures`.
    """
    what = "git" if mirror == "code" else mirror
    workspace.progress.report(name, what)
    result = await workspace.workers.run(job, lock_fd=lock, progress=workspace.report_progress(name, what))
    for change in result.changes:
        if change.kind in ("rewritten", "removed"):
            ref = name_to_json(qualified_ref(mirror, change.name))
            _log.warning(
                "backup.ref_" + change.kind, repository=name, ref=ref, old=change.old, new=change.new
            )
    for ref_name, reason in result.lacking:
        ref = name_to_json(qualified_ref(mirror, ref_name))
        _log.warning("backup.ref_not_fetched", repository=name, ref=ref, reason=reason)
    return result


async def fetch_if_there(
    workspace: WorkspaceContext, job: FetchJob, *, name: str, mirror: str, lock: int
) -> FetchResult | MirrorError:
    """As fetch_mirror, for a git repository that need not exist: returns why git does not give it.

    Any answer that is no git repository counts as absent: 404, 410, 401, 403, a page, a redirect elsewhere.
    Nothing is made on the disk then. Raises TryLater where the server cannot say, and the errors of
    fetch_mirror for a repository that exists.
    """
    if not Path(job.mirror).exists() and (absence := await _absence(workspace, job)) is not None:
        return absence
    try:
        return await fetch_mirror(workspace, job, name=name, mirror=mirror, lock=lock)
    except (GitFailed, GitUnauthorized):
        absence = await _absence(workspace, job)
        if absence is None:
            raise
        return absence


async def _absence(workspace: WorkspaceContext, job: FetchJob) -> MirrorError | None:
    """Why git does not give it; None where it does. Asked by a worker, which a stopped run does not wait
    for."""
    silence = min(_PROBE_SILENCE, job.silence_timeout)
    return await workspace.workers.run(ProbeJob(job.url, job.login, silence))


def part_of_refs(result: FetchResult, counts: Mapping[str, int]) -> Part:
    """What a snapshot says of a mirror that was fetched."""
    texts = []
    if result.lacking:
        counts = {**counts, "refs_not_had": len(result.lacking)}
        texts.append(_of_lacking(result.lacking))
    if result.refused:
        first, reason = result.refused[0]
        texts.append(f"{len(result.refused)} refs refused, the first {name_to_json(first)!r}: {reason}")
    if not texts:
        return Part(PartState.COMPLETE, counts)
    return Part(PartState.PARTIAL, counts, "; ".join(texts))


def _of_lacking(lacking: Sequence[tuple[bytes, str]]) -> str:
    """Which refs could not be fetched and why, grouped by reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in lacking:
        by_reason.setdefault(reason, []).append(name_to_json(name))
    texts = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
        texts.append(f"{', '.join(names[:NAMED_MAX])}{more}: {reason}")
    return f"{len(lacking)} refs could not be had and stay as they are held: {'; '.join(texts)}"


def changes_of(mirror: str, result: FetchResult) -> tuple[RefChange, ...]:
    """The refs of a mirror that changed, with names that include the mirror."""
    return tuple(
        RefChange(qualified_ref(mirror, one.name), one.old, one.new, one.kind) for one in result.changes
    )
