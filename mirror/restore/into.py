"""Restoring into Bitbucket: from a selector to a plan, and from the plan to a report. See `run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mirror import extract
from mirror.auth.secrets import Secret
from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import NotFound
from mirror.errors import UsageError
from mirror.git.workers.pool import WorkerPool
from mirror.http.network import Network
from mirror.model import Clock, NoProgress, Progress, Selector, Workspace
from mirror.restore import people
from mirror.restore.carry.api import BitbucketApi
from mirror.restore.carry.executor import Executor
from mirror.restore.carry.git import Git
from mirror.restore.carry.journal import Journal, alone
from mirror.restore.carry.pages import MakePages, Pages
from mirror.restore.carry.report import Report
from mirror.restore.plan.estimate import estimate
from mirror.restore.plan.order import make_plan
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Options, Source, Target
from mirror.restore.plan.steps import Plan
from mirror.restore.restore import BITBUCKET
from mirror.restore.secrets import SecretsFile, secret_keys
from mirror.store.reading.reader import At, RepositoryFolder, Store, WorkspaceFolder

# How many git operations run at a time.
WORKERS = 2
_JOURNAL = ".jsonl"


@dataclass(frozen=True)
class Place:
    """A workspace to restore into, and the new name of the one repository, where that is given."""

    workspace: str
    repository: str | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read `bitbucket:WORKSPACE[/REPOSITORY]`. Raises UsageError."""
        workspace, slash, repository = text.removeprefix(BITBUCKET).partition("/")
        names = [workspace, repository] if slash else [workspace]
        if not text.startswith(BITBUCKET) or not all(fields.is_slug(name) for name in names):
            raise UsageError(
                f"--to {text}: a workspace, or workspace/repository, is named after {BITBUCKET}",
                hint="as in --to bitbucket:acme, or --to bitbucket:acme/website; names as URLs have them",
            )
        if slash and repository != repository.lower():
            raise UsageError(f"--to {text}: the name of a repository in a URL has no capitals")
        return cls(workspace, repository if slash else None)

    def __str__(self) -> str:
        return f"{BITBUCKET}{self.workspace}" + (f"/{self.repository}" if self.repository else "")


@dataclass(frozen=True)
class Settings:
    """How to restore. `git_url` is the root of git URLs, `state` the folder of journals. `secrets` is the
    secrets file; `options` have its keys. `pages` makes what `options.archive` is for."""

    git_url: str
    state: Path
    at: str = "latest"
    options: Options = field(default_factory=Options)
    secrets: SecretsFile | None = None
    dry_run: bool = False
    pages: MakePages | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    network: Network | None = None


@dataclass(frozen=True)
class _Chosen:
    """The snapshots to restore: the workspace's own, and each repository with its place there."""

    workspace: Source | None
    repositories: tuple[tuple[Source, Target], ...]
    problems: tuple[tuple[int, str], ...]


async def run(
    path: Path,
    selector: Selector,
    place: Place,
    settings: Settings,
    *,
    client: Client,
    clock: Clock,
    progress: Progress | None = None,
) -> Report | Planned:
    """Restore what `selector` selects of the store at `path` into Bitbucket; in a dry run, plan it.

    Raises UsageError, NoStore and StoreDamaged before anything is sent; Locked where another restore into
    the same workspace is running; CredentialRefused and TryLater where the workspace cannot be asked for.
    What is refused later is in the report.
    """
    progress = progress or NoProgress()
    began = clock.monotonic()
    with Store.open(path) as store:
        target = await _target(client, place)
        members = await people.members(client, place.workspace)
        chosen = _choose(store, selector, place, settings.at, members)
        everywhere = Target(place.workspace, members=members)
        plan = make_plan(chosen.workspace, chosen.repositories, everywhere, settings.options)
        if settings.secrets is not None and not settings.options.only:  # else it may have more
            settings.secrets.check(secret_keys(plan))
        problems = (*chosen.problems, *plan.problems)
        if settings.dry_run:
            plan = Plan(plan.steps, plan.losses, problems)
            return Planned(str(place), plan, estimate(plan))
        known = settings.secrets
        values = {} if known is None else await known.read(settings.environment)
        async with AsyncExitStack() as held:
            folder = _state_of(settings.state, target)
            held.enter_context(alone(folder, f"a restore into {place.workspace}"))
            pool = await held.enter_async_context(
                WorkerPool(WORKERS, environment=settings.environment, network=settings.network)
            )
            journals = _journals(folder, target, chosen)
            executor = _executor(plan, chosen, settings, values, journals, client, pool, clock, progress)
            await executor.run()
            losses = (*plan.losses, *executor.losses)
            seconds = clock.monotonic() - began
            report = Report(
                str(place), tuple(executor.entries.values()), losses, problems, client.requests, seconds,
                executor.stopped,
            )  # fmt: skip
            if report.exit_code == 0:
                for journal in journals.values():
                    journal.remove()
            return report


def _executor(
    plan: Plan,
    chosen: _Chosen,
    settings: Settings,
    secrets: Mapping[str, Secret],
    journals: Mapping[str, Journal],
    client: Client,
    pool: WorkerPool,
    clock: Clock,
    progress: Progress,
) -> Executor:
    sources = {source.name: source for source, _ in chosen.repositories}
    targets = {source.name: target for source, target in chosen.repositories}
    api = BitbucketApi(client, settings.git_url)
    overwrite = settings.options.overwrite
    pages = None if settings.pages is None else Pages(settings.pages, api, pool)
    git = Git(sources, targets, api, pool, progress, overwrite, pages)
    if chosen.workspace is not None:
        sources[chosen.workspace.name] = chosen.workspace
    return Executor(
        plan, api=api, git=git, journals=journals, sources=sources, secrets=secrets,
        overwrite=overwrite, clock=clock, progress=progress,
    )  # fmt: skip


async def _target(client: Client, place: Place) -> Workspace:
    """The workspace to restore into. Raises UsageError where there is none."""
    try:
        answer = await client.get(endpoints.WORKSPACE, None, workspace=place.workspace)
    except NotFound as error:
        raise UsageError(
            f"there is no workspace {place.workspace}, or the credential does not see it",
            hint="a workspace is made on the website by whoever pays for it; then restore into it",
        ) from error
    return fields.workspace(answer.object("workspace"))


def _choose(
    store: Store, selector: Selector, place: Place, at: str, members: frozenset[str] | None
) -> _Chosen:
    """The snapshots that `selector` and `at` select. Raises UsageError and StoreDamaged."""
    whole = selector.repository is None and place.repository is None
    folders, homes, damages = extract.readable(store, selector, homes=whole)
    if place.repository is not None and len(folders) != 1:
        raise UsageError(
            f"{selector} matches {len(folders)} repositories, and {place} can take one",
            hint=f"name one repository, or restore to {BITBUCKET}{place.workspace}",
        )
    problems = [problem for damage in damages for problem in extract.unreadable(damage)[1]]
    sources: dict[str, Source] = {}
    # Of two with one name, the one that is still there upstream has it.
    for folder, found in sorted(
        zip(folders, extract.choose(folders, at), strict=True),
        key=lambda pair: pair[0].gone_since is not None,
    ):
        if not isinstance(found, At):
            problems.append(extract.problem_of(found))
            continue
        slug = found.snapshot.full_name.partition("/")[2]
        if slug in sources:
            problems.append((3, _same_name(folder, slug)))
        else:
            sources[slug] = Source(folder, found.snapshot, slug)
    pairs = tuple(
        (source, Target(place.workspace, place.repository or slug, members, is_only=len(sources) == 1))
        for slug, source in sorted(sources.items())
    )
    return _Chosen(_home(homes, at, problems), pairs, tuple(problems))


def _same_name(folder: RepositoryFolder, slug: str) -> str:
    where = f"{folder.workspace_folder}/{folder.folder}"
    return f"{where}: another repository has the name {slug}, too; restore it by this name of its folder"


def _home(homes: Sequence[WorkspaceFolder], at: str, problems: list[tuple[int, str]]) -> Source | None:
    """The workspace's own snapshot, where the whole workspace is restored and has one."""
    for folder, found in zip(homes, extract.choose(homes, at) if homes else [], strict=True):
        if isinstance(found, At):
            return Source(folder, found.snapshot)
        problems.append(extract.problem_of(found))
    return None


def _state_of(state: Path, target: Workspace) -> Path:
    """The folder of the target's journals. Raises UsageError where it cannot be made."""
    folder = state / target.uuid.strip("{}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(
            f"{folder}, for the journal of this restore, cannot be made: {error.strerror}",
            hint="set XDG_STATE_HOME to a folder that you can write to",
        ) from error
    return folder


def _journals(folder: Path, target: Workspace, chosen: _Chosen) -> dict[str, Journal]:
    """The journals by the first part of the keys of steps. Raises JournalDamaged."""
    journals: dict[str, Journal] = {}
    home = chosen.workspace
    parts: dict[str, tuple[Source | None, str]] = {extract.WORKSPACE: (home, "")}
    parts |= {source.name: (source, str(one.repository)) for source, one in chosen.repositories}
    for name, (source, slug) in parts.items():
        uuid, snapshot = (source.snapshot.uuid, source.snapshot.id) if source is not None else ("", "")
        identity = {"target": target.uuid, "repository": slug, "source": uuid, "snapshot": snapshot}
        file = "~".join(part for part in (name.strip("~"), slug, uuid.strip("{}")[:8], snapshot) if part)
        journals[name] = Journal(folder / f"{file}{_JOURNAL}", identity)
    return journals
