"""What every restore to a forge does around its plan: choose snapshots, hold the target, carry it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror import extract
from mirror.errors import UsageError
from mirror.git.workers.pool import WorkerPool
from mirror.http.network import Network
from mirror.model import Clock, Progress, Selector
from mirror.restore.carry.api import Api
from mirror.restore.carry.executor import Executor
from mirror.restore.carry.git import Git
from mirror.restore.carry.journal import Is, Journal, alone
from mirror.restore.carry.pages import MakePages, Pages
from mirror.restore.carry.report import Report
from mirror.restore.plan.estimate import LIMIT, estimate
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Options, Source, Target
from mirror.restore.plan.steps import Loss, Plan, Why
from mirror.restore.secrets import SecretsFile, secret_keys
from mirror.store.reading.reader import At, RepositoryFolder, Store, WorkspaceFolder

# How many git operations run at a time.
WORKERS = 2
_JOURNAL = ".jsonl"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to restore. `state` is the folder of journals. `secrets` is the secrets file; `options` have its
    keys. `pages` makes what `options.archive` is for."""

    state: Path
    at: str = "latest"
    options: Options = field(default_factory=Options)
    secrets: SecretsFile | None = None
    dry_run: bool = False
    pages: MakePages | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    network: Network | None = None


@dataclass(frozen=True)
class Chosen:
    """The snapshots to restore: the workspace's own, where a whole workspace is restored, and each repository
    with its name there. `problems` are those of what cannot be read, each with an exit code."""

    workspace: Source | None
    repositories: tuple[tuple[Source, str], ...]
    problems: tuple[tuple[int, str], ...]

    @property
    def sources(self) -> dict[str, Source]:
        """All of them, by the first part of the keys of their steps."""
        every = [source for source, _ in self.repositories]
        every += [self.workspace] if self.workspace is not None else []
        return {source.name: source for source in every}


@dataclass(frozen=True)
class Goal:
    """A target: what it is called in messages (`text`), what its journals belong to (`identity`), the folder
    of these (`folder`), the workspace or owner of its repositories, and its usual limit of requests an hour,
    where one is known."""

    text: str
    identity: str
    folder: str
    owner: str
    limit: int | None = LIMIT


def choose(
    store: Store, selector: Selector, at: str, *, place: str, new_name: str | None = None, homes: bool = True
) -> Chosen:
    """The snapshots that `selector` and `at` select, for the target `place`, where the one repository gets
    `new_name`. `homes`: with a whole workspace comes what belongs to itself. Raises UsageError and
    StoreDamaged."""
    whole = homes and selector.repository is None and new_name is None
    folders, own, damages = extract.readable(store, selector, homes=whole)
    if new_name is not None and len(folders) != 1:
        raise UsageError(
            f"{selector} matches {len(folders)} repositories, and {place} can take one",
            hint=f"name one repository, or restore to {place.removesuffix(f'/{new_name}')}",
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
    pairs = tuple((source, new_name or slug) for slug, source in sorted(sources.items()))
    return Chosen(_home(own, at, problems), pairs, tuple(problems))


def _same_name(folder: RepositoryFolder, slug: str) -> str:
    where = f"{folder.workspace_folder}/{folder.folder}"
    return f"{where}: another repository has the name {slug}, too; restore it by this name of its folder"


def _home(homes: Sequence[WorkspaceFolder], at: str, problems: list[tuple[int, str]]) -> Source | None:
    """The workspace's own snapshot, where it has one."""
    for folder, found in zip(homes, extract.choose(homes, at) if homes else [], strict=True):
        if isinstance(found, At):
            return Source(folder, found.snapshot)
        problems.append(extract.problem_of(found))
    return None


async def plan_or_carry_out(
    plan: Plan, chosen: Chosen, goal: Goal, settings: Settings, api: Api, clock: Clock, progress: Progress
) -> Report | Planned:
    """Carry a plan out by `api`; in a dry run, say what it costs.

    Raises ConfigError for a faulty secrets file, UsageError where journals cannot be kept, and Locked where
    another restore to the same target is running. What is refused later is in the report.
    """
    began = clock.monotonic()
    plan = replace(plan, problems=(*chosen.problems, *plan.problems))
    if settings.secrets is not None and not settings.options.only:  # else it may have more
        settings.secrets.check(secret_keys(plan))
    if settings.dry_run:
        return Planned(goal.text, plan, estimate(plan, goal.limit))
    values = {} if settings.secrets is None else await settings.secrets.read(settings.environment)
    overwrite = settings.options.overwrite
    async with AsyncExitStack() as held:
        folder = _made_folder(settings.state / goal.folder)
        held.enter_context(alone(folder, f"a restore to {goal.text}"))
        pool = await held.enter_async_context(
            WorkerPool(
                WORKERS,
                environment=settings.environment,
                network=settings.network,
                received=progress.received,
            )
        )
        journals = _journals(folder, goal, chosen)
        targets = {source.name: Target(goal.owner, name) for source, name in chosen.repositories}
        pages = None if settings.pages is None else Pages(settings.pages, api, pool)
        executor = Executor(
            plan, api=api, git=Git(chosen.sources, targets, api, pool, progress, overwrite, pages),
            journals=journals, sources=chosen.sources, secrets=values, overwrite=overwrite, clock=clock,
            progress=progress,
        )  # fmt: skip
        losses = _still_lost(plan, journals)
        await executor.run()
        report = Report(
            goal.text, tuple(executor.entries.values()), (*losses, *executor.losses), plan.problems,
            api.requests, clock.monotonic() - began, executor.stopped,
        )  # fmt: skip
        if report.exit_code == 0:
            for journal in journals.values():
                journal.remove()
        return report


def _still_lost(plan: Plan, journals: Mapping[str, Journal]) -> list[Loss]:
    """The losses of a plan, without the secrets that an earlier run of the restore was given and has set.

    What is made without its secret, as a webhook is, has a step in the plan as well: its secret stays owed.
    """
    steps = {step.key for step in plan.steps}

    def is_set(loss: Loss) -> bool:
        journal = journals.get(loss.key.partition("/")[0])
        noted = journal.noted(loss.key) if journal is not None else None
        return noted is not None and noted.state in (Is.MADE, Is.CHANGED) and loss.key not in steps

    return [loss for loss in plan.losses if loss.why is not Why.SECRET or not is_set(loss)]


def _made_folder(folder: Path) -> Path:
    """The folder of the target's journals. Raises UsageError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(
            f"{folder}, for the journal of this restore, cannot be made: {error.strerror}",
            hint="set XDG_STATE_HOME to a folder that you can write to",
        ) from error
    return folder


def _journals(folder: Path, goal: Goal, chosen: Chosen) -> dict[str, Journal]:
    """The journals by the first part of the keys of steps. Raises JournalDamaged."""
    journals: dict[str, Journal] = {}
    parts: dict[str, tuple[Source | None, str]] = {extract.WORKSPACE: (chosen.workspace, "")}
    parts |= {source.name: (source, name) for source, name in chosen.repositories}
    for name, (source, its_name) in parts.items():
        uuid, snapshot = (source.snapshot.uuid, source.snapshot.id) if source is not None else ("", "")
        identity = {"target": goal.identity, "repository": its_name, "source": uuid, "snapshot": snapshot}
        file = "~".join(part for part in (name.strip("~"), its_name, uuid.strip("{}")[:8], snapshot) if part)
        journals[name] = Journal(folder / f"{file}{_JOURNAL}", identity)
    return journals
