"""Snippets as git repositories: each is one, besides what the API tells of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from mirror.backup.failures import understood
from mirror.backup.git.mirrors import changes_of, fetch_if_there, login_for_git, part_of_refs, with_each_login
from mirror.backup.tools import Tools
from mirror.bitbucket.clone_urls import clone_url
from mirror.collect.kinds import snippets
from mirror.collect.kinds.snippets import Due
from mirror.collect.ports import Work
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.git.mirrors.fetch import FetchJob, FetchResult, GitLogin
from mirror.logs import get_logger
from mirror.model import Part, PartState, RefChange
from mirror.store.reading.reader import ErasureFilter, MirrorRefs
from mirror.store.writing.writer import WorkspaceWriter

PART = snippets.PART
# So many are fetched at a time, as far as there are workers.
_WIDTH = 4
_log = get_logger("backup")


@dataclass
class Snippets:
    """What came of the snippets' mirrors: what to tell of each that was fetched, and what went wrong."""

    mirrors: dict[str, MirrorRefs] = field(default_factory=dict)
    changes: list[RefChange] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    are_passing: bool = True


async def mirror_snippets(
    tools: Tools, home: WorkspaceWriter, work: Work, erased: ErasureFilter, lock: int
) -> Snippets:
    """Fetch each snippet that moved since its mirror was fetched; all of them now and then.

    What goes wrong with one is noted, and it is due again in the next run. That git does not give a
    snippet is a fact, where it gave it before only after days; it is asked again when the snippet moves,
    or in the next sweep.
    """
    result = Snippets()
    due = snippets.to_mirror(work)
    if not due:
        return result
    try:
        await login_for_git(tools)
    except MirrorError as error:
        result.faults.append(error.message)
        result.are_passing = isinstance(error, TryLater)
        if isinstance(error, CredentialRefused):
            work.refused.add(PART)
        return result
    one = _One(tools, home, work, erased, lock, result)
    slots = asyncio.Semaphore(_WIDTH)

    async def turn(each: Due) -> None:
        async with slots:
            await one.fetch(each)

    async with asyncio.TaskGroup() as group:
        for each in due:
            group.create_task(turn(each))
    return result


@dataclass(frozen=True)
class _One:
    tools: Tools
    home: WorkspaceWriter
    work: Work
    erased: ErasureFilter
    lock: int
    result: Snippets

    async def fetch(self, due: Due) -> None:
        """Fetch the mirror of one snippet. Whatever goes wrong is noted."""
        try:
            await self._fetch(due)
        except Exception as error:  # noqa: BLE001 - one that fails never stops the others
            fault = understood(error, due.mirror)
            self._fault(due, fault.message, passing=isinstance(fault, TryLater))

    async def _fetch(self, due: Due) -> None:
        result, git_url = self.result, self.tools.git_url
        addresses = [own for href in due.addresses if (own := clone_url(href, git_url)) is not None]
        if not addresses:
            self._fault(due, "its clone address is not one of the configured git server; not followed")
            return
        job = FetchJob(
            mirror=str(self.home.mirror(due.mirror)),
            url=addresses[0],
            erased=self.erased.refs_of(due.mirror),
            silence_timeout=self.tools.silence_timeout,
        )
        name = self.work.repository.workspace

        async def fetch(login: GitLogin | None) -> FetchResult | MirrorError:
            return await fetch_if_there(
                self.tools, replace(job, login=login), name=name, mirror=due.mirror, lock=self.lock
            )

        fetched = await with_each_login(self.tools, f"snippets of {name}", fetch)
        if isinstance(fetched, MirrorError):
            self._refused(due, fetched)
            return
        result.mirrors[due.mirror] = MirrorRefs(fetched.refs)
        result.changes += changes_of(due.mirror, fetched)
        part = part_of_refs(fetched, {})
        if part.reason is None:
            snippets.note_mirrored(self.work, due)
        else:
            self._fault(due, part.reason)

    def _refused(self, due: Due, error: MirrorError) -> None:
        """Git does not give a snippet, though the list has it."""
        if not snippets.note_refused(self.work, due, is_held=self.home.mirror(due.mirror).exists()):
            self._fault(due, f"git gave it before, and does not now: {error.message}")
            return
        _log.warning("backup.snippet_absent", snippet=due.mirror, reason=error.message)

    def _fault(self, due: Due, text: str, *, passing: bool = False) -> None:
        _log.warning("backup.snippet_failed", snippet=due.mirror, reason=text)
        self.result.faults.append(f"{due.mirror}: {text}")
        self.result.are_passing = self.result.are_passing and passing


def part_of_snippets(home: WorkspaceWriter, work: Work, part: Part, mirrored: Snippets) -> Part:
    """What a snapshot says of the snippets, of which `part` tells what the API gave."""
    held, faults, absent = len(home.folder.mirrors()), mirrored.faults, snippets.without_repository(work)
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
        if mirrored.are_passing:
            work.passing.add(PART)
        return replace(part, state=PartState.PARTIAL)
    return part
