"""A repository's wiki: a git repository beside its code, where there still is one.

Bitbucket announced that wikis end in August 2026: that there is none is a fact and no failure. A missing wiki
is asked for seldom; the last copy of one that went is kept. Where a wiki that is held is refused, it is
reported as missing for some days before it counts as gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from mirror.backup.context import FolderContext
from mirror.backup.git.identity import AnotherRepository, check_identity, is_suspect
from mirror.backup.git.mirrors import changes_of, fetch_if_there, part_of_refs, with_each_login
from mirror.collect.context import Context
from mirror.collect.state import WikiState
from mirror.collect.times import parse_time
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.git.failures import GitForbidden, GitNotFound, GitUnauthorized
from mirror.git.mirrors.fetch import FetchJob, FetchResult, GitLogin
from mirror.git.refs import roll_back
from mirror.logs import get_logger
from mirror.model import Part, PartState, RefChange, Refs
from mirror.store.reading.reader import ErasureFilter, MirrorRefs
from mirror.store.writing.writer import RepositoryWriter

PART = "wiki"
# Where there was none, it is asked for again after so long, and up to half of that more.
EVERY = timedelta(days=28)
# A wiki that went is asked for in each run for so long: a server may be wrong. Then, for LOOK_FOR, once a
# day, at whatever time of the day the run is.
UNSURE = timedelta(days=3)
LOOK_FOR = timedelta(days=30)
DAILY = timedelta(hours=20)
_log = get_logger("backup")


@dataclass(frozen=True)
class Wiki:
    """What became of a wiki: its part of the snapshot, and its mirror where there is news.

    `belongs_to_other`: the repository's name means another repository by now.
    """

    part: Part
    mirrors: Mapping[str, MirrorRefs] = field(default_factory=dict)
    changes: tuple[RefChange, ...] = ()
    belongs_to_other: bool = False


async def backup_wiki(
    folder: FolderContext, context: Context, erased: ErasureFilter, *, has_code: bool
) -> Wiki:
    """Bring the mirror of a repository's wiki up to date where that is due.

    `has_code`: the code was fetched just now. Otherwise the wiki is not asked for: what is wrong with the
    network or the credential is reported for the code.
    """
    if not folder.workspace.config.parts.wiki:
        return Wiki(Part(PartState.SKIPPED))
    state, path = context.state.wiki, folder.writer.mirror(PART)
    if state.part is not None and not _is_due(context, state, is_held=path.exists()):
        return Wiki(Part.from_json(state.part))
    if not has_code:
        context.failures.retryable.add(PART)
        return Wiki(Part(PartState.PARTIAL, {}, "not asked for, because the code could not be fetched"))
    try:
        result = await _fetch(folder, path, erased)
        is_new_loss = path.exists() and state.since is None
        if is_suspect(result) if isinstance(result, FetchResult) else is_new_loss:
            # Asked after the code, too; but LFS objects may have come for hours since.
            await check_identity(folder.workspace.client, folder.repository)
    except AnotherRepository as error:
        last = _last(folder.writer)
        refs = last.refs if last is not None else Refs({})
        roll_back(path, refs.refs, {}, refs.head)
        context.failures.retryable.add(PART)
        return Wiki(Part(PartState.PARTIAL, {}, error.message), belongs_to_other=True)
    except MirrorError as error:
        return _failed(context, error)
    if isinstance(result, MirrorError):
        return _absent(folder.writer, context, result)
    state.clear()
    part = part_of_refs(result, {"refs": len(result.refs.refs)})
    return Wiki(part, {PART: MirrorRefs(result.refs)}, changes_of(PART, result))


async def _fetch(folder: FolderContext, path: Path, erased: ErasureFilter) -> FetchResult | MirrorError:
    workspace, name = folder.workspace, folder.repository.full_name
    job = FetchJob(
        mirror=str(path),
        url=f"{workspace.clone_url_of(name)}/wiki",
        erased=erased.refs_of(PART),
        silence_timeout=workspace.silence_timeout,
    )

    async def fetch(login: GitLogin | None) -> FetchResult | MirrorError:
        return await fetch_if_there(
            workspace, replace(job, login=login), name=name, mirror=PART, lock=folder.lock
        )

    return await with_each_login(workspace, name, fetch)


def _failed(context: Context, error: MirrorError) -> Wiki:
    _log.warning("backup.wiki_failed", repository=context.repository.full_name, reason=error.message)
    if isinstance(error, TryLater):
        context.failures.retryable.add(PART)
    elif isinstance(error, CredentialRefused) and not isinstance(error, GitUnauthorized):
        context.failures.refused.add(PART)
    return Wiki(Part(PartState.PARTIAL, {}, error.message))


def _is_due(context: Context, state: WikiState, *, is_held: bool) -> bool:
    """Whether to ask for a wiki that was absent: ever less of one that went, else seldom, and not of all
    repositories at the same time."""
    since = parse_time(state.since)
    if is_held and since is not None:
        gone_for = context.clock.now() - since
        if gone_for < UNSURE:
            return True
        if gone_for < UNSURE + LOOK_FOR:
            return context.is_due(state.asked, DAILY)
    share = hashlib.sha256(context.repository.uuid.encode()).digest()[0] / 255
    return context.is_due(state.asked, EVERY * (1 + share / 2))


def _absent(writer: RepositoryWriter, context: Context, error: MirrorError) -> Wiki:
    """There is no wiki: its last copy stays in every later snapshot, marked with since when it is gone."""
    state = context.state.wiki
    now = state.asked = context.now
    if state.part is not None and (state.since is not None or not writer.mirror(PART).exists()):
        return Wiki(Part.from_json(state.part))
    last = _last(writer)
    if last is not None:
        unclear = _unclear(context, last, error)
        if unclear is not None:
            return Wiki(unclear)
        since = last.gone_since or state.unclear or now
        text = f"gone since {since}, its last copy is kept: {_why(error)}"
        part = Part(PartState.GONE, {"refs": len(last.refs.refs)}, text)
        state.since = since
        last = MirrorRefs(last.refs, gone_since=since)
        _log.warning("backup.wiki_gone", repository=context.repository.full_name, reason=error.message)
    elif isinstance(error, GitUnauthorized | GitForbidden):
        text = f"there is none, or none for this credential: {_why(error)}"
        part = Part(PartState.UNAVAILABLE, {}, text)
    else:
        part = Part(PartState.GONE, {}, f"there is none, or no longer: {error.message}")
    state.part = part.to_json()
    return Wiki(part, {PART: last} if last is not None else {})


def _unclear(context: Context, last: MirrorRefs, error: MirrorError) -> Part | None:
    """The part of a wiki that is held, while the answer need not mean that it is gone: a refusal, or a
    temporary page. None where it is gone."""
    if last.gone_since is not None or isinstance(error, GitNotFound):
        return None
    state, now = context.state.wiki, context.clock.now()
    if state.unclear is None:
        state.unclear = context.now
    if now - (parse_time(state.unclear) or now) >= UNSURE:
        return None
    text = f"not given any more, its last copy is kept: {_why(error)}"
    if isinstance(error, GitUnauthorized | GitForbidden):
        return Part(PartState.DENIED, {}, text)
    context.failures.retryable.add(PART)
    return Part(PartState.PARTIAL, {}, text)


def _why(error: MirrorError) -> str:
    """Why there is none. A 401 says nothing of the credential: the code came with it."""
    return "git lets nobody in there (401)" if isinstance(error, GitUnauthorized) else error.message


def _last(writer: RepositoryWriter) -> MirrorRefs | None:
    """What the last snapshot says of the wiki."""
    latest = writer.folder.metadata.latest()
    return None if latest is None else writer.folder.metadata.mirrors(latest).get(PART)
