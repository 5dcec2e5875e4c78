"""What upstream has now, against a snapshot. Only reads, upstream and in the store.

Settings are asked for anew; pull requests and issues as far as they moved since the snapshot; refs in one
request of git. What is asked for, and what is made of the answers, is what a backup does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Budget, Priority
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import Denied
from mirror.bitbucket.people import without_people
from mirror.browse.documents import Change, Difference, Side, changes_of, fields_of, folder_of, side_of
from mirror.browse.overlay import Overlay
from mirror.collect import repository as collecting
from mirror.collect.catalogue import Level, Row, rows
from mirror.collect.context import CheckpointLimits, Context
from mirror.collect.marks import SETTINGS, Marks, newly_gone, without_gaps
from mirror.collect.repository import Wanted
from mirror.collect.state import State
from mirror.collect.workspace import collect_workspace
from mirror.config.settings import Config, WorkspaceConfig
from mirror.connect import ask_git, client_of
from mirror.errors import MirrorError, Result, UsageError
from mirror.extract import read_consistently
from mirror.git.mirrors.update_refs import accept
from mirror.git.wire.listing import list_refs
from mirror.model import (
    Clock,
    JsonObject,
    Part,
    PartState,
    Progress,
    Repository,
    Selector,
    Snapshot,
    time_text,
)
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, ErasureFilter, RepositoryFolder, Store

UPSTREAM = "upstream"
_NOT_ASKED = (PartState.SKIPPED, PartState.UNAVAILABLE)
# The parts of whose documents a snapshot can say that there were no more.
_WHOLE = (PartState.COMPLETE, PartState.GONE)
_PRIORITIES = (Priority.OPEN, Priority.CLOSED, Priority.OLD, Priority.IDLE)
# What is not compared, beside pipelines and commit comments, which only grow: it takes a fetch to see.
_LEFT_OUT = ("lfs", "wiki")
_LEFT_OUT_OF_WORKSPACE = ("repositories", "snippets' repositories")


@dataclass(frozen=True)
class AgainstUpstream(Result):
    """The differences of a snapshot and upstream. `unread`: what could not be read, now or by the snapshot,
    with the reason, and the exit code of each. `left_out`: what is not compared."""

    difference: Difference
    unread: Mapping[str, str] = field(default_factory=dict)
    exit_codes: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            **self.difference.to_json(), "unread": dict(self.unread), "left_out": list(self.left_out),
            **self.codes_to_json(),
        }  # fmt: skip


@dataclass(frozen=True)
class _Run:
    """What collecting shares; see WorkspaceRun."""

    client: Client
    clock: Clock
    progress: Progress
    accepted_missing: frozenset[str]
    full: bool = False
    lacking_scopes: dict[str, Denied] = field(default_factory=dict)
    checkpoint_limits: CheckpointLimits = field(default_factory=CheckpointLimits)


async def diff_upstream(
    config: Config,
    selector: Selector,
    at: str,
    *,
    store: Path,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    progress: Progress,
    is_reversed: bool = False,
) -> AgainstUpstream:
    """Compare the snapshot `at` of one repository, or of a workspace itself, with what upstream has now; with
    `is_reversed`, upstream is the older side. Requests are taken of `budget`.

    Secrets are read now. Raises UsageError where `selector` matches nothing, StoreDamaged, and what listing
    raises where nothing can be read at all.
    """
    with Store.open(store) as opened:
        folder = folder_of(opened, selector)
        when = read_consistently(folder, lambda: folder.metadata.at(at))
        slug = folder.workspace_slug if isinstance(folder, RepositoryFolder) else folder.slug
        entry = _entry_of(config, slug)
        until = clock.monotonic() + config.limits.window.total_seconds()
        async with client_of(
            config, entry, clock=clock, environment=environment, budget=budget, until=until,
            progress=progress,
        ) as client:  # fmt: skip
            run = _Run(client, clock, progress, frozenset(entry.accept_missing))
            home = [one for one in opened.workspaces() if one.slug == slug]
            people = [erasure for one in home for erasure in one.erasures() if erasure.people]
            erased = ErasureFilter([*folder.erasures(), *people], without_people)
            comparison = _Comparison(run, folder, when, erased, until)
            if isinstance(folder, RepositoryFolder):
                await comparison.compare_repository(folder, entry, config.bitbucket.git_url)
            else:
                await comparison.compare_workspace(entry)
        progress.report(folder.full_name, "done")
        return comparison.result(is_reversed=is_reversed)


def _entry_of(config: Config, slug: str) -> WorkspaceConfig:
    """The entry of the configuration for a workspace. Raises UsageError."""
    found = config.entry_of((slug,))
    if found is None:
        raise UsageError(
            f"the configuration has no workspace {slug}",
            hint="upstream is read with the credentials of its workspace: add one, or choose a file with -c",
        )
    return found


class _Comparison:
    """Collects on top of a snapshot."""

    def __init__(self, run: _Run, folder: AnyFolder, when: At, erased: ErasureFilter, until: float) -> None:
        self._run, self._folder, self._when, self._erased = run, folder, when, erased
        self._until = until
        self._draft = Overlay(folder, when.snapshot, erased)
        self._refs: tuple[Change, ...] = ()
        self._unread: dict[str, str] = {}
        self._codes: list[int] = []
        self._left_out: tuple[str, ...] = ()

    async def compare_repository(
        self, folder: RepositoryFolder, entry: WorkspaceConfig, git_url: str
    ) -> None:
        """Collect a repository's documents, and list its refs."""
        repository = await self._identified(folder)
        context = self._context(repository)
        parts = entry.parts
        wanted = Wanted(
            parts.pull_requests, parts.issues, False, False, parts.downloads, parts.settings, False
        )  # fmt: skip
        unread = await collecting.list_changes(context, wanted)
        await collecting.update_activity(context, wanted)
        for priority in _PRIORITIES:
            await collecting.fetch_children(context, wanted, priority)
        self._note(context, collecting.parts(context, wanted, unread), _LEFT_OUT)
        await self._compare_refs(repository, f"{git_url.rstrip('/')}/{repository.full_name}.git")

    async def compare_workspace(self, entry: WorkspaceConfig) -> None:
        """Collect what belongs to the workspace itself."""
        context = self._context(Repository(self._folder.uuid, self._folder.full_name, ""))
        parts = await collect_workspace(
            context, with_settings=entry.parts.settings, with_snippets=entry.parts.snippets
        )
        self._note(context, parts, _LEFT_OUT_OF_WORKSPACE)

    def result(self, *, is_reversed: bool) -> AgainstUpstream:
        """The differences from the snapshot to upstream, or the other way around."""
        several = (self._change(path) for path in sorted(self._draft.changed))
        documents = tuple(one for one in several if one is not None)
        sides = side_of(self._when), Side(UPSTREAM, self._run.clock.now())
        found = Difference(self._folder.full_name, *sides, self._refs, documents)
        return AgainstUpstream(
            found.reversed() if is_reversed else found, self._unread, tuple(self._codes), self._left_out
        )

    def _change(self, path: str) -> Change | None:
        """The change of a document; None where it differs only in what could not be read."""
        before, after = self._draft.before(path), self._draft.get(path)
        if before is None:
            return Change(path, "added") if self._was_read(path) else None
        if isinstance(before, dict) and isinstance(after, dict):
            if path == SETTINGS:
                before, after = (without_gaps(Marks(one).on({})) for one in (before, after))
            if newly_gone(before, after):
                return Change(path, "removed")
            before, after = without_gaps(before), without_gaps(after)
        return Change(path, "changed", fields=fields_of(before, after)) if before != after else None

    def _was_read(self, path: str) -> bool:
        """Whether the snapshot says that there was no document at `path`: it may not have been read."""
        level: Level = "repository" if isinstance(self._folder, RepositoryFolder) else "workspace"
        row = _row_of(path, level)
        if row is None:
            return True
        marks, part = Marks(self._draft.before(SETTINGS)), self._when.snapshot.parts.get(row.part)
        is_whole = part is not None and part.state in _WHOLE
        return is_whole and (row.name not in marks or marks.is_gone(row.name))

    async def _identified(self, folder: RepositoryFolder) -> Repository:
        """The repository as upstream has it. Raises MirrorError where the name means another one by now."""
        names = {"workspace": folder.workspace_slug, "repository": folder.slug}
        answer = await self._run.client.get(endpoints.REPOSITORY, None, **names)
        found = fields.repository(answer.data, workspace=folder.workspace_slug)
        if found.uuid != folder.uuid.lower():
            raise MirrorError(
                f"{folder.full_name}: its name means another repository upstream ({found.uuid})",
                hint="there is nothing to compare this snapshot with",
            )
        return found

    def _context(self, repository: Repository) -> Context:
        state = _state_since(self._when.snapshot, self._run.clock)
        return Context(self._run, repository, self._draft, state, lambda _: None, self._until)

    def _note(self, context: Context, parts: Mapping[str, Part], left_out: Sequence[str]) -> None:
        """Note which parts could not be read, and which were not asked for."""
        codes, accepted = context.failures.exit_codes, self._run.accepted_missing
        never: list[str] = []
        for name, part in parts.items():
            held = self._when.snapshot.parts.get(name)
            states = {part.state, PartState.SKIPPED if held is None else held.state}
            if not states.isdisjoint(_NOT_ASKED) or (name in accepted and not part.is_settled):
                never.append(name)
            elif not part.is_settled:
                self._unread[name] = f"{part.state}: {part.reason or 'no reason given'}"
                self._codes.append(codes.get(name, 3))
            elif held is not None and not held.is_settled:
                self._lacks(name, held)
        self._left_out = (*never, *left_out)

    def _lacks(self, name: str, held: Part | None) -> None:
        """Note that the snapshot does not have a part whole, so that what upstream has more may be old."""
        reason = held.summary if held is not None else None
        self._unread[name] = f"the snapshot does not have it whole ({reason or 'it was not read'})"
        self._codes.append(3)

    async def _compare_refs(self, repository: Repository, url: str) -> None:
        """List the refs of the code, and compare them with the snapshot's."""
        known = self._folder.metadata.mirrors(self._when.snapshot).get("code")
        held = self._when.snapshot.parts.get("code")
        if known is None or (held is not None and not held.is_settled):
            self._lacks("code", held)
        if known is None:
            return
        try:
            client = self._run.client
            listed = await ask_git(client, partial(list_refs, url, network=client.network))
        except MirrorError as error:
            self._unread["code"] = error.message
            self._codes.append(error.exit_code if error.exit_code == 12 else 3)
            return
        before = known.refs.refs
        found, refused = accept(listed, self._erased.refs, before)
        if refused:
            self._unread["code"] = f"{len(refused)} refs have names that no mirror can hold"
            self._codes.append(3)
        self._refs = changes_of(before, found.refs)
        self._run.progress.report(repository.full_name, f"{len(found.refs)} refs")


def _row_of(path: str, level: Level) -> Row | None:
    """The row of the catalogue that a document is read from; None for one that is written about others."""
    several, folder = rows(level=level), path.partition("/")[0]
    exact = (row for row in several if row.document == path)
    below = (row for row in several if row.document.startswith(f"{folder}/<"))
    return next(exact, None) or next(below, None)


def _state_since(snapshot: Snapshot, clock: Clock) -> State:
    """What collecting would remember if the snapshot were the last thing that it did."""
    state, since = State({}), time_text(snapshot.time)
    for name in ("pull_requests", "issues"):
        part = snapshot.parts.get(name)
        if part is not None and part.state is PartState.COMPLETE:  # else everything is asked for
            numbered = state.numbered(name)
            numbered.cursor, numbered.swept = since, time_text(clock.now())
    state.pull_requests.activity_to = state.pull_requests.cursor
    return state
