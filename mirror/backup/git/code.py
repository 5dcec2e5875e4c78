"""The code of a repository: its mirror, and the heads of its pull requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mirror.backup.context import FolderContext
from mirror.backup.git.heads import Ask, Heads
from mirror.backup.git.identity import AnotherRepository, check_identity
from mirror.backup.git.mirrors import fetch_mirror, login_for_git, part_of_refs, with_each_login
from mirror.collect.kinds.heads import OWN, Place
from mirror.errors import MirrorError
from mirror.git.failures import GitUnauthorized
from mirror.git.mirrors.fetch import FetchJob, FetchResult, GitLogin
from mirror.git.mirrors.pull_request_heads import HeadsJob, HeadsResult
from mirror.git.refs import OURS, roll_back
from mirror.logs import get_logger
from mirror.model import Part, PartState, Refs, name_to_json
from mirror.store.writing.draft import DocumentDraft

_log = get_logger("backup")


@dataclass
class Code:
    """What was fetched of the code; `fetched` and `heads` are None where git could not be read. `error` is
    why the part is incomplete, where that alone is the reason."""

    part: Part
    error: MirrorError | None = None
    fetched: FetchResult | None = None
    heads: Heads | None = None

    @property
    def pins(self) -> dict[int, str] | None:
        """The heads of pull requests that are pinned, by number."""
        return None if self.heads is None else self.heads.pins

    def judge_heads(self) -> None:
        """Take into the part what became of the heads."""
        if self.heads is not None:
            self.part, self.error = self.heads.judged(self.part)


async def fetch_code(
    folder: FolderContext,
    heads: Mapping[int, str],
    erased: frozenset[bytes],
    walked: frozenset[str] | None,
) -> Code:
    """Fetch the mirror of the code, with the `heads` of pull requests. Refs that are `erased` are left out.
    `walked`: list the commits that these tips do not reach; None lists none."""
    workspace, name = folder.workspace, folder.repository.full_name
    job = FetchJob(
        mirror=str(folder.writer.folder.code),
        url=workspace.clone_url_of(name),
        pins=dict(heads),
        erased=erased,
        silence_timeout=workspace.silence_timeout,
        since=walked,
    )

    async def fetch(login: GitLogin | None) -> FetchResult | MirrorError:
        return await fetch_mirror(
            workspace, replace(job, login=login), name=name, mirror="code", lock=folder.lock
        )

    try:
        fetched = await with_each_login(workspace, name, fetch)
        if isinstance(fetched, MirrorError):
            raise fetched
    except MirrorError as error:
        state = PartState.DENIED if isinstance(error, GitUnauthorized) else PartState.PARTIAL
        _log.warning("backup.fetch_failed", repository=name, reason=error.message)
        return Code(Part(state, _kept(folder), error.message), error)
    counts = {"refs": len(fetched.refs.refs)}
    ours = sorted(ref for ref in fetched.refs.refs if ref.startswith(OURS))
    if ours:
        # The mirror keeps refs of its own under these names, so upstream's are kept by value.
        counts["refs_kept_by_value"] = len(ours)
        _log.warning(
            "backup.refs_in_our_place", repository=name, count=len(ours), first=name_to_json(ours[0])
        )
    return Code(
        part_of_refs(fetched, counts), None, fetched, Heads(dict(fetched.pins), set(fetched.unpinned))
    )


def _kept(folder: FolderContext) -> dict[str, int]:
    """The counts of a part that could not be fetched: the refs of the latest snapshot, which the next one
    keeps. None where there is no code yet."""
    metadata = folder.writer.folder.metadata
    latest = metadata.latest()
    known = metadata.code_refs(latest) if latest is not None else None
    return {"refs": len(known[0].refs)} if known is not None else {}


def head_fetcher(folder: FolderContext) -> Ask:
    """A function that fetches heads of pull requests from a place. All places are at the same origin."""
    workspace, own = folder.workspace, folder.repository.full_name

    async def ask(place: Place) -> HeadsResult:
        job = HeadsJob(
            mirror=str(folder.writer.folder.code),
            url=workspace.clone_url_of(place.name or own),
            wants=place.wants,
            login=await login_for_git(workspace, own),
            own=place.name == OWN,
            silence_timeout=workspace.silence_timeout,
        )
        return await workspace.workers.run(
            job, lock_fd=folder.lock, progress=workspace.report_progress(own, "heads")
        )

    return ask


async def undo_if_another(folder: FolderContext, draft: DocumentDraft) -> None:
    """Undo what was listed and fetched where the name means another repository by now, and raise
    AnotherRepository."""
    try:
        await check_identity(folder.workspace.client, folder.repository)
    except AnotherRepository:
        metadata = folder.writer.folder.metadata
        latest = metadata.latest()
        known = metadata.code_refs(latest) if latest is not None else None
        refs, pins = known if known is not None else (Refs({}), {})
        roll_back(folder.writer.folder.code, refs.refs, pins, refs.head)
        folder.writer.discard_draft(draft)
        raise
