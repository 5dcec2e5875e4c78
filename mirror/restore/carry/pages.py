"""Pages that show what cannot be made anew, on a branch of the target.

The branch is one commit without parents, made in a temporary folder. It is made anew where its tip is such a
commit of the same repository; anybody else's branch is left.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirror.bitbucket import endpoints
from mirror.bitbucket.readable.parts import string
from mirror.errors import worst
from mirror.git.documents.folder import CommitFolderJob, FolderCommit
from mirror.git.wire.client import GitLogin
from mirror.git.wire.push import PushJob
from mirror.git.workers.pool import WorkerPool
from mirror.model import time_text
from mirror.restore import server
from mirror.restore.carry.api import Api
from mirror.restore.carry.report import Entry, Outcome
from mirror.restore.plan.source import Source, Target
from mirror.restore.plan.steps import PushPages, Step

# Makes the pages of a snapshot in a new folder; returns what went wrong, each with an exit code.
MakePages = Callable[[Source, Path], Sequence[tuple[int, str]]]

_MARK = "Mirror-Archive: "


@dataclass(frozen=True)
class Pages:
    """Makes pages, and pushes them. `api` says what a branch of the target holds."""

    make: MakePages
    api: Api
    pool: WorkerPool

    async def carry(
        self, step: Step, source: Source, url: str, target: Target, login: GitLogin | None
    ) -> Entry:
        """Carry out the step. Raises CredentialRefused and TryLater, and OSError where there is no room for
        the pages."""
        assert isinstance(step.action, PushPages)
        branch = step.action.branch
        with tempfile.TemporaryDirectory(prefix="mirror-pages-") as name:
            folder, repository = Path(name) / "pages", Path(name) / "pages.git"
            problems = list(await asyncio.to_thread(self.make, source, folder))
            made = await self._commit(source, folder, repository)
            refs = {b"refs/heads/" + branch.encode(): made.commit}
            job = PushJob(str(repository), url, login, refs)
            result = await self.pool.run(job)
            if result.would_overwrite:
                if not await self._is_ours(source, target, branch):
                    return Entry.of(step, Outcome.DIFFERS, f"{branch} is there, and no restore made its tip")
                result = await self.pool.run(replace(job, overwrite=True))
        problems += server.problems_of(result, overwrite=True)
        problems += [(3, f"{one} is too large to be pushed") for one in made.left_out]
        if problems:
            codes = [code for code, _ in problems if code != 3]
            text = "; ".join(text for _, text in problems)
            return Entry.of(step, Outcome.REFUSED, text, code=worst(codes))
        outcome = Outcome.MADE if result.pushed else Outcome.FOUND
        return Entry.of(step, outcome, "they show what cannot be made anew")

    async def _commit(self, source: Source, folder: Path, repository: Path) -> FolderCommit:
        snapshot = source.snapshot
        message = (
            f"Show {snapshot.full_name} as of {time_text(snapshot.time)}\n\n"
            "These pages show what could not be made anew, such as merged pull requests.\n\n"
            f"{_MARK}{snapshot.uuid}\n"
        )
        return await self.pool.run(CommitFolderJob(str(folder), str(repository), message, snapshot.time))

    async def _is_ours(self, source: Source, target: Target, branch: str) -> bool:
        """Whether the tip of the branch is a commit of pages of the same repository."""
        for one in await self.api.entries(endpoints.BRANCH, {**target.parts, "branch": branch}):
            return string(one, "target", "message").rstrip().endswith(f"{_MARK}{source.snapshot.uuid}")
        return False
