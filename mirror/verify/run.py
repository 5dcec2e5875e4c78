"""One verification run. See `run`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mirror import __version__
from mirror.errors import MirrorError, UsageError
from mirror.git.check import CheckJob
from mirror.git.workers import WorkerPool
from mirror.logs import get_logger
from mirror.model import (
    Clock,
    Finding,
    NoProgress,
    Problem,
    Progress,
    Run,
    Selector,
    snapshot_id,
)
from mirror.store.reader import RepositoryFolder, Store, StoreDamaged, WorkspaceFolder
from mirror.verify.files import check_files
from mirror.verify.records import Expected, check_runs
from mirror.verify.snapshots import check_snapshots

Level = Literal["refs", "objects"]
FINDINGS_MAX = 10_000
_log = get_logger("verify")


@dataclass
class _Ledger:
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, findings: Sequence[Finding]) -> None:
        """Note findings, each told once."""
        for finding in findings:
            if len(self.findings) < FINDINGS_MAX and finding not in self.findings[-50:]:
                self.findings.append(finding)
                _log.error(
                    "verify.finding",
                    file=finding.file,
                    problem=finding.problem,
                    object=finding.object,
                    repository=finding.repository,
                    snapshots=list(finding.snapshots),
                )

    def count(self, name: str, number: int) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number


async def run(
    path: Path,
    selectors: Sequence[Selector] = (),
    *,
    level: Level = "objects",
    clock: Clock,
    progress: Progress | None = None,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Verify the store at `path`, or of it what `selectors` mean.

    `refs` compares snapshots with run records and refs; `objects` also re-reads and re-hashes every
    object and file, and follows every link. Nothing is written: the caller keeps the record. Raises
    NoStore and UsageError; damage is in the Run's facts, as findings.
    """
    started = clock.now()
    tell = progress or NoProgress()
    ledger = _Ledger()

    def note(damage: StoreDamaged) -> None:
        ledger.add([Finding(damage.file, damage.problem)])

    try:
        with Store.open(path) as store:
            expected = check_runs(store, note)
            workspaces = [] if _only_repositories(selectors) else store.workspaces(selectors, note)
            repositories = store.repositories(selectors, note)
            if not selectors:
                ledger.add(_lost_folders(expected, workspaces, repositories))
            ledger.count("run_records", len(store.run_ids()))
            async with WorkerPool(workers, environment=environment) as pool:
                slots = asyncio.Semaphore(max(1, workers))

                async def one(folder: RepositoryFolder | WorkspaceFolder) -> None:
                    async with slots:
                        await _folder(folder, expected, level, pool, tell, ledger)

                folders: list[RepositoryFolder | WorkspaceFolder] = [*workspaces, *repositories]
                async with asyncio.TaskGroup() as group:
                    for folder in folders:
                        group.create_task(one(folder))
    except UsageError:
        raise
    except StoreDamaged as damage:
        note(damage)
    damage_found = sum(1 for finding in ledger.findings if finding.severity == "damage")
    problems = (Problem(4, f"{damage_found} finding(s) of damage"),) if damage_found else ()
    return Run(
        id=f"{snapshot_id(started).lower()}-{secrets.token_hex(3)}",
        kind="verify",
        started=started,
        ended=clock.now(),
        program=__version__,
        problems=problems,
        facts={
            "level": level,
            "selectors": [str(one) for one in selectors],
            "checked": dict(sorted(ledger.counts.items())),
            "findings": [finding.to_json() for finding in ledger.findings],
        },
    )


def _only_repositories(selectors: Sequence[Selector]) -> bool:
    return bool(selectors) and all(one.repository is not None for one in selectors)


def _lost_folders(
    expected: Mapping[str, Expected],
    workspaces: Sequence[WorkspaceFolder],
    repositories: Sequence[RepositoryFolder],
) -> list[Finding]:
    """Folders that run records tell of and that are not there (or cannot be read)."""
    there = {one.place for one in [*workspaces, *repositories]}
    return [
        Finding(
            place,
            "the folder that run records tell of is missing or cannot be read",
            repository=known.full_name,
            snapshots=tuple(sorted(known.snapshots)),
        )
        for place, known in sorted(expected.items())
        if place not in there
    ]


async def _folder(
    folder: RepositoryFolder | WorkspaceFolder,
    expected: Mapping[str, Expected],
    level: Level,
    pool: WorkerPool,
    progress: Progress,
    ledger: _Ledger,
) -> None:
    name = folder.full_name
    progress.report(name, "snapshots")
    known = expected.get(folder.place)
    if known is not None and known.full_name != folder.full_name:
        text = f"its name is not {known.full_name}, as the last run record says"
        ledger.add([Finding(folder.place, text, name)])
    checked = check_snapshots(folder, known, level)
    ledger.add(checked.findings)
    ledger.count("snapshots", len(checked.snapshots))
    if level == "objects":
        if checked.snapshots or folder.metadata.path.exists():
            commits = tuple(folder_commits(folder))
            await _objects(folder, folder.metadata.path, commits, {}, pool, progress, ledger)
        if isinstance(folder, RepositoryFolder):
            if checked.named:
                named = tuple(sorted(checked.named))
                await _objects(folder, folder.code, named, checked.named, pool, progress, ledger)
            progress.report(name, "files")
            files = await asyncio.to_thread(check_files, folder, checked)
            ledger.add(files.findings)
            ledger.count("files", files.count)
    progress.report(name, "done")


def folder_commits(folder: RepositoryFolder | WorkspaceFolder) -> list[str]:
    """The commits of a folder's snapshots; none where the tags cannot be read."""
    try:
        return list(folder.metadata.tags().values())
    except (StoreDamaged, OSError):
        return []


async def _objects(
    folder: RepositoryFolder | WorkspaceFolder,
    path: Path,
    named: tuple[str, ...],
    snapshots_of: Mapping[str, tuple[str, ...]],
    pool: WorkerPool,
    progress: Progress,
    ledger: _Ledger,
) -> None:
    """Every object of one git repository, in a worker."""
    place = folder.relative(path)
    try:
        result = await pool.run(
            CheckJob(str(path), named),
            progress=lambda text: progress.report(folder.full_name, f"{path.name}: {text}"),
        )
    except MirrorError as error:
        ledger.add([Finding(place, f"could not be checked: {error.message}", folder.full_name)])
        return
    ledger.count("objects", result.objects)
    tags = snapshots_of or {commit: (name,) for name, commit in _tags(folder).items()}
    ledger.add(
        [
            Finding(
                file=f"{place}/{problem.file}" if problem.file else place,
                problem=problem.problem,
                repository=folder.full_name,
                object=problem.object,
                snapshots=tuple(sorted({one for hash_ in problem.named for one in tags.get(hash_, ())})),
            )
            for problem in result.problems
        ]
    )


def _tags(folder: RepositoryFolder | WorkspaceFolder) -> dict[str, str]:
    try:
        return folder.metadata.tags()
    except (StoreDamaged, OSError):
        return {}
