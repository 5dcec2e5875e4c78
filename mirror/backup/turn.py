"""One turn of a repository, with the lock of its folder held: lists, git, details, snapshot."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mirror import __version__
from mirror.backup.announcements import RepositoryVisit
from mirror.backup.api_refused import merge_refusals, refused_parts, without_api
from mirror.backup.brake import FolderJudge
from mirror.backup.context import FolderContext, WorkspaceContext
from mirror.backup.entries import IDENTITY_FILE, problems_of_parts, repository_entry
from mirror.backup.git import lfs
from mirror.backup.git.code import Code, fetch_code, head_fetcher, undo_if_another
from mirror.backup.git.heads import Heads, fetch_from_elsewhere
from mirror.backup.git.identity import is_suspect
from mirror.backup.git.lfs import LfsOutcome, fetch_lfs
from mirror.backup.git.maintenance import run_maintenance
from mirror.backup.git.wiki import Wiki, backup_wiki
from mirror.backup.results import Remaining, TurnResult
from mirror.bitbucket.client.budget import Priority
from mirror.collect import repository as collecting
from mirror.collect.context import Context, Draft
from mirror.collect.kinds import commits, heads
from mirror.collect.repository import Wanted
from mirror.collect.state import State
from mirror.config.settings import WorkspaceConfig
from mirror.errors import CredentialRefused, TryLater
from mirror.git.mirrors.fetch import FetchResult
from mirror.model import Outcome, Part, Repository
from mirror.store.reading.reader import ErasureFilter
from mirror.store.reading.run_history import GOOD
from mirror.store.writing.writer import RepositoryWriter, SnapshotResult, WorkspaceWriter

# The order in which details are asked for.
PRIORITIES = (Priority.OPEN, Priority.CLOSED, Priority.OLD, Priority.IDLE)


def wanted_parts(config: WorkspaceConfig) -> Wanted:
    """The parts that the configuration of a workspace asks for."""
    parts = config.parts
    return Wanted(
        parts.pull_requests, parts.issues, parts.pipelines, parts.pipeline_logs, parts.downloads,
        parts.settings, bool(parts.commit_comments), parts.commit_comments == "all",
    )  # fmt: skip


def collect_context(
    workspace: WorkspaceContext,
    writer: RepositoryWriter | WorkspaceWriter,
    repository: Repository,
    draft: Draft,
    *,
    until: float,
) -> Context:
    """The context of collecting into a folder; it may wait for requests `until` then (monotonic)."""
    return Context(workspace, repository, draft, State(writer.read_state()), writer.write_state, until)


class _Turn:
    """A turn of one repository."""

    def __init__(self, folder: FolderContext, erased: ErasureFilter, *, until: float) -> None:
        self.folder = folder
        self.workspace = folder.workspace
        self.writer = folder.writer
        self.erased = erased
        self.begun = self.workspace.clock.now()
        self.wanted = wanted_parts(self.workspace.config)
        self.draft = self.writer.draft(erased)
        self.context = collect_context(
            self.workspace, self.writer, folder.repository, self.draft, until=until
        )


@dataclass
class _Git:
    """What git gave in a turn."""

    code: Code
    lfs: LfsOutcome
    wiki: Wiki

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that git gives."""
        return {"code": self.code.part, lfs.PART: self.lfs.part, "wiki": self.wiki.part}

    @property
    def codes(self) -> dict[str, int]:
        """The exit codes of what the code and its LFS objects lack, where a later try or another credential
        may mend it."""
        codes = {}
        if isinstance(self.code.error, TryLater | CredentialRefused):
            codes["code"] = self.code.error.exit_code
        if self.lfs.retryable:
            codes[lfs.PART] = TryLater.exit_code
        return codes


class FirstTurn(_Turn):
    """What there is, then git, then the details for which requests are left, then the snapshot.

    Only what there is may wait for requests here: the other repositories want their turn.
    """

    is_scheduled = True

    def __init__(self, folder: FolderContext, erased: ErasureFilter) -> None:
        super().__init__(folder, erased, until=folder.workspace.clock.monotonic())
        self.began = self.workspace.clock.monotonic()
        self.unread: dict[str, Part] = {}
        self.is_filled = False
        self.is_polled = False

    async def run(self) -> TurnResult:
        """Take the turn. Raises what concerns more than one part."""
        code = await self.read()
        has_code = code.fetched is not None
        outcome = await self.fetch_lfs(code)
        wiki = await self.backup_wiki(has_code=has_code)
        result = await self._finish(_Git(code, outcome, wiki))
        self._note_visit(code)
        return result

    async def read(self) -> Code:
        """Read what there is, then the code, so that every head that the documents name can be pinned."""
        await self.poll(everything=polls(self.workspace, self.context))
        return await self.fetch_code()

    async def poll(self, *, everything: bool) -> None:
        """Ask the API what there is, and for details, as far as requests are left. Unless `everything`, for
        what an earlier turn left only."""
        context, unread = self.context, self.unread
        with without_api(context, self.wanted, unread):
            if everything:
                unread.update(await collecting.list_changes(context, self.wanted))
            else:
                unread.update(await collecting.take_profile(context))
            self.is_polled = everything and not context.failures.retryable.intersection(unread)
            self.is_filled = has_requests_left(self.workspace, context, self.wanted)
            if self.is_filled:
                await self._fetch_children()

    async def fetch_lfs(self, code: Code) -> LfsOutcome:
        """Fetch the LFS objects that the code reaches."""
        has_code = code.fetched is not None
        return await fetch_lfs(self.folder, self.context, code.error, has_code=has_code)

    async def backup_wiki(self, *, has_code: bool) -> Wiki:
        """Back up the wiki."""
        return await backup_wiki(self.folder, self.context, self.erased, has_code=has_code)

    def _note_visit(self, code: Code) -> None:
        """Tell the announcements what this turn found, if it could see it."""
        announcements = self.workspace.run.request.announcements
        if announcements is None or code.fetched is None:
            return
        visit = RepositoryVisit(
            self.folder.repository.uuid, self.workspace.uuid, self.began, self.is_polled,
            has_new_refs=bool(code.fetched.changes), has_moved=self.context.moved > 0,
            is_scheduled=self.is_scheduled,
        )  # fmt: skip
        announcements.note_visit(visit)

    async def _finish(self, git: _Git) -> TurnResult:
        """The snapshot, and the result of the turn."""
        context, unread, code = self.context, self.unread, git.code
        pinned = None if code.pins is None else frozenset(code.pins)
        counted = {**git.parts, "code": heads.with_head_counts(context.state, code.part, pinned)}
        parts = {**counted, **collecting.parts(context, self.wanted, unread)}
        snapshot = self._snapshot(git, parts)
        return await self._result(git, parts, pinned, snapshot)

    async def _fetch_children(self) -> None:
        await collecting.update_activity(self.context, self.wanted)
        for priority in PRIORITIES:
            await collecting.fetch_children(self.context, self.wanted, priority)

    async def fetch_code(self) -> Code:
        """The code, the heads of pull requests from wherever they are, and the details that are due then."""
        context, wanted, state = self.context, self.wanted, self.context.state
        walked = commits.walked_tips(state) if wanted.every_commit else None
        code = await fetch_code(self.folder, heads.unpinned_heads(state), self.erased.refs, walked)
        fetched, found = code.fetched, code.heads
        if fetched is None or found is None:
            return code
        if is_suspect(fetched):
            await undo_if_another(self.folder, self.draft)
        ask = head_fetcher(self.folder)
        await fetch_from_elsewhere(context, found, ask)
        note_fetched(context, wanted, fetched, found)
        if walked is not None:
            # The commits of heads from elsewhere are walked by the next fetch, which sees their pins.
            commits.note_walked(state, {*fetched.refs.refs.values(), *fetched.pins.values()})
        self.is_filled = self.is_filled and has_requests_left(self.workspace, context, wanted)
        if self.is_filled and not context.failures.refused:
            with without_api(context, wanted, self.unread):
                await self._fetch_children()
                before = set(found.pins)
                await fetch_from_elsewhere(context, found, ask, own_only=True)
                new = {number: value for number, value in found.pins.items() if number not in before}
                collecting.note_pinned_later(context, wanted, new)
                heads.note_pinned(state, found.unpinned)
                await collecting.fetch_children(context, wanted, Priority.IDLE)
        code.judge_heads()
        return code

    def _snapshot(self, git: _Git, parts: dict[str, Part]) -> SnapshotResult:
        refs = git.code.fetched.refs if git.code.fetched is not None else None
        gone = self.context.state.pull_requests.numbers.gone
        judge = FolderJudge(
            self.workspace, self.writer, parts, refs, self.erased.refs,
            None if "pull_requests" in self.unread else frozenset(gone),
        )  # fmt: skip
        snapshot = self.writer.snapshot(
            self.draft,
            begun=self.begun,
            program=__version__,
            parts=parts,
            refs=refs,
            pins=git.code.pins,
            lfs=git.lfs.objects,
            mirrors=git.wiki.mirrors,
            judge=judge,
            last_confirmed=self.workspace.last_confirmed("repository", self.folder.repository.uuid),
        )
        judge.finish(snapshot.snapshot)
        self.context.save_state()
        return snapshot

    async def _result(
        self, git: _Git, parts: dict[str, Part], pinned: frozenset[int] | None, snapshot: SnapshotResult
    ) -> TurnResult:
        context, repository, fetched = self.context, self.folder.repository, git.code.fetched
        codes = {**context.failures.exit_codes, **git.codes}
        problems = problems_of_parts(self.workspace.config, parts, codes)
        problems = merge_refusals(problems, self.unread, context)
        changes = (*(fetched.changes if fetched is not None else ()), *git.wiki.changes)
        facts = git.lfs.facts
        if fetched is not None:
            facts = facts | await run_maintenance(
                self.workspace,
                dict(self.writer.folder.mirrors()),
                name=repository.full_name,
                lock=self.folder.lock,
            )
        entry = repository_entry(self.workspace, self.writer, snapshot, parts, changes, problems, facts)
        git_codes = {name: code for name, code in codes.items() if name in git.parts}
        due = collecting.requests_due(context, self.wanted)
        remaining = Remaining(repository, self.unread, git.parts, git_codes, pinned, due)
        return TurnResult(entry, remaining if self._is_more_to_ask(git) else None)

    def _is_more_to_ask(self, git: _Git) -> bool:
        """Whether details are left for the time when every repository has had its turn."""
        is_due = not self.is_filled and collecting.requests_due(self.context, self.wanted) > 0
        is_more = self.context.failures.stopped is not None or is_due
        return is_more and not git.wiki.belongs_to_other and not refused_parts(self.context, self.unread)


class LaterTurn(_Turn):
    """A turn of a repository that was asked about before, for details alone."""

    def __init__(self, folder: FolderContext, erased: ErasureFilter, before: TurnResult) -> None:
        super().__init__(folder, erased, until=folder.workspace.run.request.until)
        self.before = before

    async def run(self, priority: Priority, *, last: bool) -> TurnResult:
        """Ask for what is due with this priority; with `last` the outcome becomes a snapshot."""
        if priority is not Priority.IDLE:
            await collecting.update_activity(self.context, self.wanted)
        await collecting.fetch_children(self.context, self.wanted, priority)
        return self._finish() if last else self.before

    def _finish(self) -> TurnResult:
        remaining, before, context = self.before.remaining, self.before.entry, self.context
        assert remaining is not None
        code = heads.with_head_counts(context.state, remaining.git["code"], remaining.pinned)
        parts = {
            **remaining.git, "code": code, **collecting.parts(context, self.wanted, remaining.unread)
        }  # fmt: skip
        snapshot = self.writer.snapshot(
            self.draft,
            begun=self.begun,
            program=__version__,
            parts=parts,
            last_confirmed=self.workspace.last_confirmed("repository", remaining.repository.uuid),
        )
        context.save_state()
        codes = {**context.failures.exit_codes, **remaining.codes}
        problems = problems_of_parts(self.workspace.config, parts, codes)
        entry = repository_entry(
            self.workspace, self.writer, snapshot, parts, before.ref_changes, problems, before.facts
        )
        again = tuple(one for one in before.problems if one.part == IDENTITY_FILE)
        entry = replace(entry, problems=(*entry.problems, *again))
        if before.outcome is Outcome.SAVED and entry.outcome is Outcome.CONFIRMED:
            entry = replace(entry, outcome=Outcome.SAVED)
        return TurnResult(replace(entry, seconds=before.seconds))


def polls(workspace: WorkspaceContext, context: Context) -> bool:
    """Whether the API is asked what changed in a repository: in a poll, where a hook announced it, and where
    it was not asked to the end before."""
    announcements, uuid = workspace.run.request.announcements, context.repository.uuid
    if announcements is None or workspace.is_poll or workspace.full or announcements.is_waiting(uuid):
        return True
    if not collecting.are_listed(context.state, wanted_parts(workspace.config)):
        return True
    past = workspace.run.history.find("repository", uuid)
    return past is None or past.outcome not in GOOD


def has_requests_left(workspace: WorkspaceContext, context: Context, wanted: Wanted) -> bool:
    """Whether there are requests enough for all that is due here and for the turns of the others."""
    others = len(workspace.run.results.pending)
    return collecting.requests_due(context, wanted) <= workspace.client.remaining() - 3 * others


def note_fetched(context: Context, wanted: Wanted, fetched: FetchResult, found: Heads) -> None:
    """Note for collecting what git gave."""
    branches = [value for name, value in fetched.refs.refs.items() if name.startswith(b"refs/heads/")]
    collecting.note_fetched(
        context,
        wanted,
        pinned=found.pins,
        unpinned=found.unpinned,
        branches=branches,
        more_commits=fetched.commits,
    )
