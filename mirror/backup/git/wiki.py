"""A repository's wiki: a git repository beside its code, where there still is one.

Bitbucket announced that wikis end in August 2026, so that there is none is a fact and no failure. It is
asked for again seldom, and what was there once is kept. That one which is held is refused is told as missing
for some days before it is taken for gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from mirror.backup.git.identity import AnotherRepository, check_identity, is_suspect
from mirror.backup.git.mirrors import changes_of, fetch_if_there, part_of_refs, with_each_login
from mirror.backup.tools import Tools
from mirror.collect.outcomes import is_passing
from mirror.collect.ports import Work, moment
from mirror.errors import CredentialRefused, MirrorError
from mirror.git.failures import GitForbidden, GitNotFound, GitUnauthorized
from mirror.git.mirrors.fetch import FetchJob, FetchResult, GitLogin
from mirror.git.refs import roll_back
from mirror.logs import get_logger
from mirror.model import JsonObject, Part, PartState, RefChange, Refs, time_text
from mirror.store.reading.reader import ErasureFilter, MirrorRefs
from mirror.store.writing.writer import RepositoryWriter

PART = "wiki"
# Where there was none it is asked for again after so long, and up to half of that more.
EVERY = timedelta(days=28)
# One that was there and is not is asked for in each run for so long: a server may be mistaken. Afterwards
# it is asked for once a day for so much longer, whenever in the day the run is.
UNSURE = timedelta(days=3)
LOOK_FOR = timedelta(days=30)
DAILY = timedelta(hours=20)
_log = get_logger("backup")


@dataclass(frozen=True)
class Wiki:
    """What came of a wiki: what the snapshot says of it, and of its mirror where there is news.

    `is_anothers`: the repository's name means another one by now.
    """

    part: Part
    mirrors: Mapping[str, MirrorRefs] = field(default_factory=dict)
    changes: tuple[RefChange, ...] = ()
    is_anothers: bool = False


async def backup_wiki(
    tools: Tools, writer: RepositoryWriter, work: Work, erased: ErasureFilter, lock: int, *, code_came: bool
) -> Wiki:
    """Bring the mirror of a repository's wiki up to date where that is due.

    `code_came`: the code was fetched just now. Otherwise the wiki is not asked for: what the answer
    would say of the network or the credential is for the code to tell.
    """
    if not tools.config.parts.wiki:
        return Wiki(Part(PartState.SKIPPED))
    state = work.part_state(PART)
    path = writer.mirror(PART)
    if not _is_due(work, state, held=path.exists()):
        return Wiki(Part.from_json(state["part"]))
    if not code_came:
        work.passing.add(PART)
        return Wiki(Part(PartState.PARTIAL, {}, "not asked for, because the code could not be fetched"))
    url = f"{tools.git_url.rstrip('/')}/{work.repository.workspace}/{work.repository.slug}.git/wiki"
    name = work.repository.full_name
    job = FetchJob(
        mirror=str(path), url=url, erased=erased.refs_of(PART), silence_timeout=tools.silence_timeout
    )

    async def fetch(login: GitLogin | None) -> FetchResult | MirrorError:
        return await fetch_if_there(tools, replace(job, login=login), name=name, mirror=PART, lock=lock)

    try:
        result = await with_each_login(tools, name, fetch)
        if is_suspect(result) if isinstance(result, FetchResult) else path.exists() and "since" not in state:
            # Asked after the code, too; but LFS objects may have come for hours since.
            await check_identity(tools.client, work.repository)
    except AnotherRepository as error:
        told = _last_told(writer)
        refs = told.refs if told is not None else Refs({})
        roll_back(path, refs.refs, {}, refs.head)
        work.passing.add(PART)
        return Wiki(Part(PartState.PARTIAL, {}, error.message), is_anothers=True)
    except MirrorError as error:
        _log.warning("backup.wiki_failed", repository=name, reason=error.message)
        if is_passing(error):
            work.passing.add(PART)
        elif isinstance(error, CredentialRefused) and not isinstance(error, GitUnauthorized):
            work.refused.add(PART)
        return Wiki(Part(PartState.PARTIAL, {}, error.message))
    if isinstance(result, MirrorError):
        return _absent(writer, work, state, result)
    state.clear()
    part = part_of_refs(result, {"refs": len(result.refs.refs)})
    return Wiki(part, {PART: MirrorRefs(result.refs)}, changes_of(PART, result))


def _is_due(work: Work, state: JsonObject, *, held: bool) -> bool:
    """Whether to ask for a wiki: in each run where there is one, else seldom, and not of all at a time;
    of one that went, ever less."""
    if "part" not in state:
        return True
    since = moment(state.get("since"))
    if held and since is not None:
        gone_for = work.clock.now() - since
        if gone_for < UNSURE:
            return True
        if gone_for < UNSURE + LOOK_FOR:
            return work.is_due(state, "asked", DAILY)
    share = hashlib.sha256(work.repository.uuid.encode()).digest()[0] / 255
    return work.is_due(state, "asked", EVERY * (1 + share / 2))


def _absent(writer: RepositoryWriter, work: Work, state: JsonObject, error: MirrorError) -> Wiki:
    """There is no wiki: what it was stays in every later snapshot, marked with since when it is gone."""
    now = time_text(work.clock.now())
    state["asked"] = now
    if "part" in state and ("since" in state or not writer.mirror(PART).exists()):
        return Wiki(Part.from_json(state["part"]))
    told = _last_told(writer)
    if told is not None:
        unclear = _unclear(work, state, told, error)
        if unclear is not None:
            return Wiki(unclear)
        since = told.gone_since or state.get("unclear") or now
        text = f"gone since {since}, its last copy is kept: {_why(error)}"
        part = Part(PartState.GONE, {"refs": len(told.refs.refs)}, text)
        state["since"] = since
        told = MirrorRefs(told.refs, gone_since=since)
        _log.warning("backup.wiki_gone", repository=work.repository.full_name, reason=error.message)
    elif isinstance(error, GitUnauthorized | GitForbidden):
        text = f"there is none, or none for this credential: {_why(error)}"
        part = Part(PartState.UNAVAILABLE, {}, text)
    else:
        part = Part(PartState.GONE, {}, f"there is none, or no longer: {error.message}")
    state["part"] = part.to_json()
    return Wiki(part, {PART: told} if told is not None else {})


def _unclear(work: Work, state: JsonObject, told: MirrorRefs, error: MirrorError) -> Part | None:
    """What is said for a while of one that is held, where an answer need not mean that it is gone: a
    credential that may not, or a page for the time being. None where it is gone."""
    if told.gone_since is not None or isinstance(error, GitNotFound):
        return None
    now = work.clock.now()
    if now - (moment(state.setdefault("unclear", time_text(now))) or now) >= UNSURE:
        return None
    text = f"not given any more, its last copy is kept: {_why(error)}"
    if isinstance(error, GitUnauthorized | GitForbidden):
        return Part(PartState.DENIED, {}, text)
    work.passing.add(PART)
    return Part(PartState.PARTIAL, {}, text)


def _why(error: MirrorError) -> str:
    """Why there is none. That git wants somebody else to sign in says nothing of the credential here:
    the code came with it."""
    return "git lets nobody in there (401)" if isinstance(error, GitUnauthorized) else error.message


def _last_told(writer: RepositoryWriter) -> MirrorRefs | None:
    """What the last snapshot says of the wiki."""
    latest = writer.folder.metadata.latest()
    return None if latest is None else writer.folder.metadata.mirrors(latest).get(PART)
