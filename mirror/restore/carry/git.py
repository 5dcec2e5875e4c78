"""The steps that git carries out: LFS objects, then refs, as far as the target accepts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mirror.git.failures import GitFailed
from mirror.git.wire.client import GitLogin
from mirror.git.wire.push import PushJob, PushResult
from mirror.git.workers.pool import WorkerPool
from mirror.model import Progress, name_to_json
from mirror.restore import lfs, server
from mirror.restore.carry.api import Api
from mirror.restore.carry.pages import Pages
from mirror.restore.carry.report import Entry, Outcome
from mirror.restore.plan.source import Source, Target
from mirror.restore.plan.steps import Push, PushPages, SendObjects, Step
from mirror.store.reading.folders import RepositoryFolder


@dataclass(frozen=True)
class Git:
    """What a git step needs: the sources and targets by the first part of its key, the API that says where
    the server is, and what makes pages, if anything does."""

    sources: Mapping[str, Source]
    targets: Mapping[str, Target]
    api: Api
    pool: WorkerPool
    progress: Progress
    overwrite: bool = False
    pages: Pages | None = None

    async def carry(self, step: Step) -> Entry:
        """Carry out a push, be it of pages, or the sending of LFS objects. Raises CredentialRefused and
        TryLater where there is no login; what the git server refuses is in the entry."""
        name = step.key.partition("/")[0]
        mirror_name = step.action.mirror if isinstance(step.action, Push) else "code"
        login = await self.api.git_login()
        url = await self.api.git_url(self.targets[name], mirror_name)
        if isinstance(step.action, SendObjects):
            return await self._send_objects(step, step.action, self.sources[name], url, login)
        if isinstance(step.action, PushPages):
            assert self.pages is not None
            return await self.pages.carry(step, self.sources[name], url, self.targets[name], login)
        assert isinstance(step.action, Push)
        mirror = self.sources[name].folder.mirror(step.action.mirror)
        overwrite = self.overwrite and not step.is_passing
        job = PushJob(str(mirror), url, login, step.action.refs, overwrite)
        result, others = await self._push(step, job)
        return _entry_of_push(step, result, () if step.is_passing else others)

    async def _push(self, step: Step, job: PushJob) -> tuple[PushResult, tuple[bytes, ...]]:
        """Push, leaving out the refs that the target has with another value; returns these, too."""

        def report(text: str, *counts: int | None) -> None:
            self.progress.report(step.key.partition("/")[0], f"push: {text}", *counts)

        result = await self.pool.run(job, progress=report)
        others = result.would_overwrite
        if not others or job.overwrite:
            return result, ()
        left = {name: value for name, value in job.refs.items() if name not in others}
        return await self.pool.run(replace(job, refs=left), progress=report), others

    async def _send_objects(
        self, step: Step, action: SendObjects, source: Source, url: str, login: GitLogin | None
    ) -> Entry:
        folder = source.folder
        assert isinstance(folder, RepositoryFolder)
        try:
            oids = await lfs.reached_by(folder, action.tips, self.pool)
        except GitFailed as error:  # the code may be complete all the same
            return Entry.of(step, Outcome.REFUSED, error.message, code=4)
        if not oids:
            return Entry.of(step, Outcome.FOUND)
        sent = await lfs.to_url(
            folder, source.snapshot, oids, action.tips, url, login, self.pool,
            lambda text, *counts: self.progress.report(source.name, f"lfs: {text}", *counts),
        )  # fmt: skip
        return _entry(step, sent.problems, "")


def _entry_of_push(step: Step, result: PushResult, others: tuple[bytes, ...]) -> Entry:
    problems = server.problems_of(result, overwrite=True)
    if others and not problems:
        first = name_to_json(others[0])
        text = f"{len(others)} of these refs are there with another value, such as {first} (see --overwrite)"
        return Entry.of(step, Outcome.DIFFERS, text)
    if others:
        problems.append((3, f"{len(others)} refs are there with another value (see --overwrite)"))
    if not problems and not result.pushed:
        return Entry.of(step, Outcome.FOUND)
    return _entry(step, tuple(problems), "")


def _entry(step: Step, problems: tuple[tuple[int, str], ...], note: str) -> Entry:
    if not problems:
        return Entry.of(step, Outcome.MADE, note)
    # What the target refuses is owed, and no failure of the program.
    codes = [code for code, _ in problems if code not in (0, 1, 3)]
    text = "; ".join(text for _, text in problems)
    return Entry.of(step, Outcome.REFUSED, text, code=min(codes, default=0))
