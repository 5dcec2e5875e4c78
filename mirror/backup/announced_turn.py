"""One turn of a repository that a hook announced: git first, then what the API says."""

from __future__ import annotations

from dataclasses import replace

from mirror.backup.context import FolderContext
from mirror.backup.git.code import Code, undo_if_another
from mirror.backup.git.lfs import PART as LFS
from mirror.backup.git.lfs import LfsOutcome, fetch_lfs
from mirror.backup.git.wiki import PART as WIKI
from mirror.backup.git.wiki import Wiki
from mirror.backup.results import TurnResult
from mirror.backup.turn import FirstTurn
from mirror.bitbucket import endpoints, fields
from mirror.collect import repository as collecting
from mirror.collect.kinds import heads
from mirror.errors import MirrorError, TryLater
from mirror.model import Outcome, Part, Problem
from mirror.store.reading.reader import ErasureFilter

_SHORT = "a hook announced a change, and only git was asked: too few requests of this hour are left"


class Renamed(TryLater):
    """The repository has another name now, which the next list of its workspace gives."""


class AnnouncedTurn(FirstTurn):
    """A turn that a hook caused. Where git and the API have no news it costs one request to git, and those
    for the lists; `git_only`: one request to git alone.

    It never waits for requests, and leaves a share of the hour's to the schedule.
    """

    is_scheduled = False

    def __init__(self, folder: FolderContext, erased: ErasureFilter, *, git_only: bool) -> None:
        super().__init__(folder, erased)
        self._latest = folder.writer.folder.metadata.latest()
        # What was never read to its end is read now, whatever the hook says.
        self._is_first = self._latest is None or not collecting.are_listed(self.context.state, self.wanted)
        self._git_only = git_only and not self._is_first
        self._is_short = False
        self._has_news = False

    async def run(self) -> TurnResult:
        """Take the turn."""
        result = await super().run()
        if not self._is_short:
            return result
        problems = (*result.entry.problems, Problem(TryLater.exit_code, _SHORT))
        return replace(result, entry=replace(result.entry, outcome=Outcome.PARTIAL, problems=problems))

    async def read(self) -> Code:
        """Read the code, then what there is."""
        code = await self.fetch_code()
        if code.fetched is None:
            assert code.error is not None
            raise code.error  # the schedule finds out what became of the repository
        self._has_news = bool(code.fetched.changes)
        if self._git_only:
            return code
        self._is_short = not self.workspace.client.remaining()
        if self._is_short:
            return code
        await self._identify()
        await self.poll(everything=True)
        if not self._names_new_heads(code):
            return code
        later = await self.fetch_code()
        if later.fetched is None:
            return code
        changes = (*code.fetched.changes, *later.fetched.changes)
        later.fetched = replace(later.fetched, changes=changes)
        return later

    async def fetch_lfs(self, code: Code) -> LfsOutcome:
        """Fetch LFS objects where git had news."""
        is_known = self._latest is not None and LFS in self._latest.parts
        has_code = self._has_news or not is_known
        return await fetch_lfs(self.folder, self.context, code.error, has_code=has_code)

    async def backup_wiki(self, *, has_code: bool) -> Wiki:
        """Leave the wiki to the schedule: no hook announces it."""
        before: Part | None = self._latest.parts.get(WIKI) if self._latest is not None else None
        return Wiki(before) if before is not None else await super().backup_wiki(has_code=has_code)

    def _names_new_heads(self, code: Code) -> bool:
        """Whether the lists name heads of pull requests that were not asked for when git was."""
        known = set() if code.heads is None else {*code.heads.pins, *code.heads.unpinned}
        return bool(heads.unpinned_heads(self.context.state).keys() - known)

    async def _identify(self) -> None:
        """Ask what the repository's name means, and take its profile. Raises AnotherRepository, and Renamed;
        where the API does not say, the lists find out why."""
        repository = self.context.repository
        try:
            answer = await self.context.client.get(endpoints.REPOSITORY, None, **self.context.names)
            now = fields.repository(answer.data, workspace=repository.workspace)
        except MirrorError:
            return
        if now.uuid != repository.uuid.lower():
            await undo_if_another(self.folder, self.draft)
        if now.full_name != repository.full_name:
            raise Renamed(f"it is called {now.full_name} now")
        self.context.repository = replace(repository, profile=now.profile)
