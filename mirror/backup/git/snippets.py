"""Snippets as git repositories: each is one, besides what the API gives of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from mirror.backup.context import WorkspaceContext
from mirror.backup.failures import as_mirror_error
from mirror.backup.git.mirrors import changes_of, fetch_if_there, login_for_git, part_of_refs, with_each_login
from mirror.bitbucket.clone_urls import clone_url
from mirror.collect.context import Context
from mirror.collect.kinds import snippets
from mirror.collect.kinds.snippets import DueMirror
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.git.mirrors.fetch import FetchJob, FetchResult, GitLogin
from mirror.logs import get_logger
from mirror.model import Part, PartState, RefChange
from mirror.store.reading.reader import ErasureFilter, MirrorRefs
from mirror.store.writing.writer import WorkspaceWriter

PART = snippets.PART
# So many are fetched side by side, as far as there are workers.
_WIDTH = 4
_log = get_logger("backup")


@dataclass
class SnippetMirrors:
    """What became of the snippets' mirrors: the refs of each that was fetched, and what failed.
    `are_retryable`: a later run may get all that failed."""

    mirrors: dict[str, MirrorRefs] = field(default_factory=dict)
    changes: list[RefChange] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    are_retryable: bool = True


async def mirror_snippets(
    workspace: WorkspaceContext, home: WorkspaceWriter, context: Context, erased: ErasureFilter, lock: int
) -> SnippetMirrors:
    """Fetch each snippet that moved since its mirror was fetched; all of them now and then.

    A failure of one is noted, and the next run fetches it again. That git does not give a snippet is a fact;
    where it gave it before, only after days. It is asked again when the snippet moves, or in the next sweep.
    """
    result = SnippetMirrors()
    due = snippets.due_mirrors(context)
    if not due:
        return result
    try:
        await login_for_git(workspace)
    except MirrorError as error:
        result.faults.append(error.message)
        result.are_retryable = isinstance(error, TryLater)
        if isinstance(error, CredentialRefused):
            context.failures.refused.add(PART)
        return result
    fetcher = _Fetcher(workspace, home, context, erased, lock, result)
    slots = asyncio.Semaphore(_WIDTH)

    async def turn(each: DueMirror) -> None:
        async with slots:
            await fetcher.fetch(each)

    async with asyncio.TaskGroup() as group:
        for each in due:
            group.create_task(turn(each))
    return result


@dataclass(frozen=True)
class _Fetcher:
    workspace: WorkspaceContext
    home: WorkspaceWriter
    context: Context
    erased: ErasureFilter
    lock: int
    result: SnippetMirrors

    async def fetch(self, due: DueMirror) -> None:
        """Fetch the mirror of one snippet. Any failure is noted."""
        try:
            await self._fetch(due)
        except Exception as error:  # noqa: BLE001 - a snippet that fails never stops the others
            fault = as_mirror_error(error, due.mirror)
            self._fail(due, fault.message, is_retryable=isinstance(fault, TryLater))

    async def _fetch(self, due: DueMirror) -> None:
        workspace, result, git_url = self.workspace, self.result, self.workspace.git_url
        addresses = [own for href in due.addresses if (own := clone_url(href, git_url)) is not None]
        if not addresses:
            self._fail(due, "its clone address is not one of the configured git server; not followed")
            return
        job = FetchJob(
            mirror=str(self.home.mirror(due.mirror)),
            url=addresses[0],
            erased=self.erased.refs_of(due.mirror),
            silence_timeout=workspace.silence_timeout,
        )
        name = self.context.repository.workspace

        async def fetch(login: GitLogin | None) -> FetchResult | MirrorError:
            return await fetch_if_there(
                workspace, replace(job, login=login), name=name, mirror=due.mirror, lock=self.lock
            )

        fetched = await with_each_login(workspace, f"snippets of {name}", fetch)
        if isinstance(fetched, MirrorError):
            self._note_refused(due, fetched)
            return
        result.mirrors[due.mirror] = MirrorRefs(fetched.refs)
        result.changes += changes_of(due.mirror, fetched)
        part = part_of_refs(fetched, {})
        if part.reason is None:
            snippets.note_fetched(self.context, due)
        else:
            self._fail(due, part.reason)

    def _note_refused(self, due: DueMirror, error: MirrorError) -> None:
        """Git does not give a snippet, though the list has it."""
        if not snippets.note_refused(self.context, due, is_held=self.home.mirror(due.mirror).exists()):
            self._fail(due, f"git gave it before, and does not now: {error.message}")
            return
        _log.warning("backup.snippet_absent", snippet=due.mirror, reason=error.message)

    def _fail(self, due: DueMirror, text: str, *, is_retryable: bool = False) -> None:
        _log.warning("backup.snippet_failed", snippet=due.mirror, reason=text)
        self.result.faults.append(f"{due.mirror}: {text}")
        self.result.are_retryable = self.result.are_retryable and is_retryable


def part_of_snippets(home: WorkspaceWriter, context: Context, part: Part, fetched: SnippetMirrors) -> Part:
    """What a snapshot says of the snippets; `part` is what the API gave of them."""
    held, faults, absent = len(home.folder.mirrors()), fetched.faults, snippets.absent_mirrors(context)
    texts = [part.reason] if part.reason else []
    if absent:
        texts.append(f"git does not give {len(absent)} of them, such as {min(absent)}")
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        texts.append(f"{min(faults)}{more}")
    if not texts and not held:
        return part
    counts = {**part.counts, **({"mirrors": held} if held else {})}
    part = replace(part, counts=counts, reason="; ".join(texts) or None)
    if faults and part.state is PartState.COMPLETE:
        if fetched.are_retryable:
            context.failures.retryable.add(PART)
        return replace(part, state=PartState.PARTIAL)
    return part
