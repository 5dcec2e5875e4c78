"""One verification run. See `run`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

from mirror import __version__
from mirror.errors import DamageFound, MirrorError, UsageError
from mirror.extract import version_of
from mirror.git.mirrors.fsck import CheckJob
from mirror.git.workers.pool import WorkerPool
from mirror.logs import get_logger
from mirror.model import (
    DONE,
    Clock,
    Finding,
    NoProgress,
    Problem,
    Progress,
    Run,
    Selector,
    Verified,
    snapshot_id,
)
from mirror.store.format.layout import may_belong_to
from mirror.store.reading.apart import apart
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder, Store, StoreDamaged, TwoFolders, WorkspaceFolder
from mirror.verify.files import check_files
from mirror.verify.records import Expected, check_runs
from mirror.verify.snapshots import check_snapshots

Level = Literal["refs", "objects"]
FINDINGS_MAX = 10_000
_TRIES = 5
# So many bytes of packs take as long to verify as all else of a small repository.
_COST_BYTES = 4 << 20
_log = get_logger("verify")


class Journal(Protocol):
    """Stores the progress for the caller; optional."""

    def begun(self) -> datetime | None:
        """When the resumed run began; None for a new one."""
        ...

    def done(self) -> Mapping[str, Verified]:
        """The folders that were verified already, by place."""
        ...

    def last(self) -> Mapping[str, datetime]:
        """When each folder was last verified, by place."""
        ...

    def note(self, done: Verified) -> None:
        """Store the result for a folder."""
        ...


class Source(Protocol):
    """Where a store comes from that is not whole on the disk; its small files are."""

    def whole(self, place: str) -> AbstractAsyncContextManager[None]:
        """The folder at `place` is whole in this block. Raises DamageFound where it cannot be had."""
        ...

    def findings(self) -> Sequence[Finding]:
        """What was found where the store comes from, at the end."""
        ...


@dataclass
class _Tally:
    """Findings and counts. With `quiet` nothing is logged, because the findings may be discarded."""

    quiet: bool = False
    _findings: dict[Finding, None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    dropped: int = 0

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings, without duplicates."""
        return tuple(self._findings)

    def add(self, findings: Sequence[Finding]) -> None:
        """Note findings."""
        for finding in findings:
            if finding in self._findings:
                continue
            if len(self._findings) >= FINDINGS_MAX:
                self.dropped += 1
                continue
            self._findings[finding] = None
            if not self.quiet:
                _log_finding(finding)

    def count(self, name: str, number: int) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number

    def add_result(self, done: Verified) -> None:
        """Add the result for a folder."""
        self.add(done.findings)
        for name, number in done.counts.items():
            self.count(name, number)


def _log_finding(finding: Finding) -> None:
    log = _log.warning if finding.severity == "warning" else _log.error
    log(
        "verify.finding",
        file=finding.file,
        problem=finding.problem,
        object=finding.object,
        repository=finding.repository,
        snapshots=list(finding.snapshots),
    )


@dataclass(frozen=True)
class _VerifyContext:
    level: Level
    clock: Clock
    progress: Progress
    pool: WorkerPool
    expected: Mapping[str, Expected]
    journal: Journal | None
    source: Source | None


async def run(
    path: Path,
    selectors: Sequence[Selector] = (),
    *,
    leave_out: Collection[str] = (),
    level: Level = "objects",
    share: Fraction = Fraction(1),
    journal: Journal | None = None,
    source: Source | None = None,
    clock: Clock,
    progress: Progress | None = None,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Verify the store at `path`, or the folders that `selectors` match; without those of the
    workspaces in `leave_out`, which are named as in a selector.

    Level `refs` compares snapshots with run records and refs; `objects` also reads and hashes every object
    and file, and follows every link. `share` limits the folders to those that were verified the longest ago
    by `journal`; folders that an interrupted run verified are not verified again. `source` brings each folder
    for as long as it is verified. Writes nothing: the caller stores record and journal. Raises NoStore and
    UsageError; damage is in the findings of the run's facts.
    """
    started = (journal.begun() if journal is not None else None) or clock.now()
    tally = _Tally()
    facts: dict[str, Any] = {"level": level, "selectors": [str(one) for one in selectors]}

    def note(damage: StoreDamaged) -> None:
        tally.add([Finding(damage.file, damage.problem)])

    try:
        with Store.open(path) as store:
            expected, count = check_runs(store, note, everything=level == "objects")
            tally.count("small_files", count)
            folders = _check_folders(store, selectors, leave_out, expected, tally, note)
            chosen = _share_of(folders, share, journal, clock.now())
            if share != 1:
                facts["share"] = f"{len(chosen)} of {len(folders)} folders"
            progress = progress or NoProgress()
            async with WorkerPool(workers, environment=environment, received=progress.received) as pool:
                context = _VerifyContext(level, clock, progress, pool, expected, journal, source)
                await _folders(context, chosen, max(1, workers), tally)
    except UsageError:
        raise
    except StoreDamaged as damage:
        note(damage)
    tally.add(source.findings() if source is not None else ())
    return _result(started, clock.now(), facts, tally)


def _check_folders(
    store: Store,
    selectors: Sequence[Selector],
    leave_out: Collection[str],
    expected: Mapping[str, Expected],
    tally: _Tally,
    note: Callable[[StoreDamaged], None],
) -> list[AnyFolder]:
    """The selected folders; what is wrong with the set of folders goes to `tally`, damage to `note`."""
    workspaces = [] if _only_repositories(selectors) else store.workspaces(selectors, note)
    repositories = store.repositories(selectors, note)
    if not selectors:
        tally.add(_lost_folders(expected, workspaces, repositories))
    with contextlib.suppress(StoreDamaged):  # check_runs has reported it
        tally.count("run_records", len(store.run_ids()))
    folders: list[AnyFolder] = [*workspaces, *repositories]
    tally.add(_of_folders(folders, [] if selectors else store.foreign_entries()))
    return [*apart(store, workspaces, leave_out), *apart(store, repositories, leave_out)]


def _result(started: datetime, ended: datetime, facts: dict[str, Any], tally: _Tally) -> Run:
    """The run with its findings."""
    damage_found = sum(1 for finding in tally.findings if finding.severity == "damage")
    problems = (Problem(4, f"{damage_found} finding(s) of damage"),) if damage_found else ()
    facts["checked"] = dict(sorted(tally.counts.items()))
    facts["findings"] = [finding.to_json() for finding in tally.findings]
    if tally.dropped:
        facts["findings_not_listed"] = tally.dropped
    return Run(
        id=f"{snapshot_id(started).lower()}-{secrets.token_hex(3)}",
        kind="verify",
        started=started,
        ended=ended,
        program=__version__,
        problems=problems,
        facts=facts,
    )


def _share_of(
    folders: Sequence[AnyFolder], share: Fraction, journal: Journal | None, now: datetime
) -> list[AnyFolder]:
    """`share` of the folders: those never verified, or the longest ago.

    A time after `now` is from a wrong clock, and counts as never.
    """
    last = journal.last() if journal is not None else {}
    number = math.ceil(len(folders) * share)
    never = datetime.min.replace(tzinfo=UTC)

    def verified(folder: AnyFolder) -> datetime:
        when = last.get(folder.place, never)
        return when if when <= now else never

    return sorted(folders, key=lambda one: (verified(one), one.place))[:number]


async def _folders(context: _VerifyContext, folders: Sequence[AnyFolder], width: int, tally: _Tally) -> None:
    """Verify folders, `width` at a time; the results of an interrupted run are reused."""
    done = context.journal.done() if context.journal is not None else {}
    slots = asyncio.Semaphore(width)

    async def one(folder: AnyFolder) -> None:
        async with slots:
            mine = await _whole(context, folder)
            found = Verified(folder.place, context.clock.now(), mine.findings, mine.counts)
            for name, number in mine.counts.items():
                tally.count(name, number)
            tally.add(found.findings)
            if context.journal is not None:
                context.journal.note(found)

    waiting = [folder for folder in folders if folder.place not in done]
    context.progress.expect({one.full_name: await asyncio.to_thread(_cost, one) for one in waiting})
    async with asyncio.TaskGroup() as group:
        for folder in folders:
            if folder.place in done:
                tally.add_result(done[folder.place])
            else:
                group.create_task(one(folder))


def _cost(folder: AnyFolder) -> float:
    """What it is likely to cost to verify a folder: by the bytes of its packs, from the smallest one on."""
    size = 0
    for path in (folder.metadata.path, *folder.mirrors().values()):
        with contextlib.suppress(OSError):
            size += sum(one.stat().st_size for one in os.scandir(path / "objects" / "pack"))
    return 1.0 + size / _COST_BYTES


def _only_repositories(selectors: Sequence[Selector]) -> bool:
    return bool(selectors) and all(one.repository is not None for one in selectors)


def _lost_folders(
    expected: Mapping[str, Expected],
    workspaces: Sequence[WorkspaceFolder],
    repositories: Sequence[RepositoryFolder],
) -> list[Finding]:
    """Findings for folders that run records name, and that are missing or unreadable."""
    there = {one.place for one in [*workspaces, *repositories]}
    return [
        Finding(
            place,
            "the folder that run records name is missing or cannot be read",
            repository=known.full_name,
            snapshots=tuple(sorted(known.snapshots)),
        )
        for place, known in sorted(expected.items())
        if place not in there and known.has_content
    ]


async def _whole(context: _VerifyContext, folder: AnyFolder) -> _Tally:
    """The result for a folder, which the source brings first where there is one."""
    if context.source is None:
        return await _steadily(context, folder)
    try:
        async with context.source.whole(folder.place):
            return await _steadily(context, folder)
    except DamageFound as damage:
        tally = _Tally(quiet=True)
        tally.add([Finding(folder.place, damage.message, folder.full_name)])
        return tally


async def _steadily(context: _VerifyContext, folder: AnyFolder) -> _Tally:
    """The result for a folder. If that has damage, and prune, erase or backup changed the folder meanwhile,
    it is verified again: they remove what no tag reaches any more."""
    for _ in range(_TRIES):
        before, tally = version_of(folder), _Tally(quiet=True)
        await _folder(context, folder, tally)
        if not any(one.severity == "damage" for one in tally.findings) or version_of(folder) == before:
            break
    return tally


def _of_folders(folders: Sequence[AnyFolder], foreign_entries: Sequence[str]) -> list[Finding]:
    """Findings for damaged identity files, folders with the same uuid, and foreign entries."""
    found = []
    by_uuid: dict[str, AnyFolder] = {}
    for one in folders:
        if one.identity_damage is not None:
            text = one.identity_damage.problem
            text += "; its snapshots tell whose it is, and the next backup writes it"
            found.append(Finding(one.identity_damage.file, text, one.full_name))
        if not may_belong_to(one.folder, one.uuid):
            text = f"its name does not belong to the uuid {one.uuid} inside: it is a copy of another folder"
            found.append(Finding(one.place, text, one.full_name))
        other = by_uuid.setdefault(one.uuid.lower(), one)
        if other is not one:
            twice = TwoFolders(other.place, one.place)
            found.append(Finding(twice.file, twice.problem, one.full_name))
    text = "is not the program's, and is passed over; remove it if you know what it is"
    return [*found, *(Finding(one, text, severity="warning") for one in foreign_entries)]


async def _folder(context: _VerifyContext, folder: AnyFolder, tally: _Tally) -> None:
    name = folder.full_name
    context.progress.report(name, "snapshots")
    known = context.expected.get(folder.place)
    # A run killed after a rename has no record of it.
    names = {folder.full_name, *(former.name for former in folder.former_names)}
    if known is not None and known.full_name not in names:
        text = f"its name is not {known.full_name}, as the last run record says"
        tally.add([Finding(folder.place, text, name)])
    checked = check_snapshots(folder, known, context.level)
    tally.add(checked.findings)
    tally.count("snapshots", len(checked.snapshots))
    if context.level == "objects":
        if checked.snapshots or folder.metadata.path.exists():
            finished = bool(checked.snapshots or (known is not None and (known.snapshots or known.ledger)))
            job = CheckJob(str(folder.metadata.path), tuple(_tags(folder).values()), finished=finished)
            await _objects(context, folder, job, {}, tally)
        for mirror in sorted(checked.named.keys() | folder.mirrors().keys()):
            named = checked.named.get(mirror, {})
            path = folder.mirror(mirror)
            if named or path.exists():
                job = CheckJob(str(path), tuple(sorted(named)), finished=mirror in checked.named)
                await _objects(context, folder, job, named, tally)
        context.progress.report(name, "files")
        files = await asyncio.to_thread(check_files, folder, checked)
        tally.add(files.findings)
        tally.count("files", files.count)
    context.progress.report(name, DONE)


async def _objects(
    context: _VerifyContext,
    folder: AnyFolder,
    job: CheckJob,
    snapshots_of: Mapping[str, tuple[str, ...]],
    tally: _Tally,
) -> None:
    """Verify every object of one git repository in a worker."""
    path = Path(job.path)
    place = folder.relative(path)
    try:
        result = await context.pool.run(
            job,
            progress=lambda text, *counts: context.progress.report(
                folder.full_name, f"{path.name}: {text}", *counts
            ),
        )
    except MirrorError as error:
        tally.add([Finding(place, f"could not be checked: {error.message}", folder.full_name)])
        return
    tally.count("objects", result.objects)
    tags = snapshots_of or {commit: (name,) for name, commit in _tags(folder).items()}
    tally.add(
        [
            Finding(
                file=f"{place}/{problem.file}" if problem.file else place,
                problem=problem.problem,
                repository=folder.full_name,
                object=problem.object,
                snapshots=tuple(sorted({one for hash_ in problem.named for one in tags.get(hash_, ())})),
                severity=problem.severity,
            )
            for problem in result.problems
        ]
    )


def _tags(folder: AnyFolder) -> dict[str, str]:
    """The tags of the folder's snapshots; none where they cannot be read."""
    try:
        return folder.metadata.tags()
    except (StoreDamaged, OSError):
        return {}
