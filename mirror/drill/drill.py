"""A rehearsed restore. See `run`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror import backup
from mirror.config.settings import Limits
from mirror.connect import budget_of
from mirror.drill.comparing import compare_with_backup
from mirror.drill.originals import Chosen, choose
from mirror.drill.restoring import Restored, restore_into
from mirror.drill.results import DrillResult, Seconds
from mirror.drill.temporary import size_of, temporary_folder
from mirror.drill.upstream import Upstream, simulated
from mirror.errors import Cancelled, MirrorError
from mirror.extract import problem_of
from mirror.logs import get_logger
from mirror.model import DONE, Clock, NoProgress, Problem, Progress, Run, Selector, snapshot_id
from mirror.restore.comparison.matching import Rules
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open

# So many findings are logged; the record has as many, and the result has all.
LOGGED_MAX = 50
# What is to be done for each repository once it is restored, and what it costs, in steps of a restore.
_COSTS = {"backup": 10.0, "comparison": 3.0}
_log = get_logger("drill")


@dataclass(frozen=True)
class Drilled:
    """A finished drill: its record, which the caller stores, and everything that was found."""

    run: Run
    result: DrillResult


@dataclass(frozen=True)
class _Drill:
    store: Store
    clock: Clock
    environment: Mapping[str, str]
    limits: Limits
    progress: Progress


async def run(
    path: Path,
    selectors: Sequence[Selector] = (),
    *,
    leave_out: Collection[str] = (),
    clock: Clock,
    environment: Mapping[str, str],
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Drilled:
    """Restore the latest snapshots of the store at `path`, or those that `selectors` mean, into an empty
    Bitbucket that is simulated on this machine; back that up, and compare the two. The workspaces in
    `leave_out`, which are named as in a selector, are left out.

    One workspace after the other, below `$TMPDIR`. The snapshots are also compared with themselves, which
    finds what collecting lost. Writes nothing to the store: the caller stores the record. Raises NoStore,
    UsageError and StoreDamaged; NoRoom where the temporary folder is too small; Cancelled where it is
    stopped. All else is in the result.
    """
    started = clock.now()
    result = DrillResult()
    with Store.open(path) as store:
        drill = _Drill(store, clock, environment, limits or Limits(), progress or NoProgress())
        chosen = choose(store, selectors, leave_out=leave_out)
        if not any(one.originals for one in chosen):
            result.problems.append(Problem(3, "there is nothing to rehearse yet: no snapshot was taken"))
        drill.progress.expect(
            {_phase(one, name): cost * len(one.folders) for one in chosen for name, cost in _COSTS.items()},
            more=True,
        )
        for one in chosen:
            result.contradictions += await asyncio.to_thread(one.contradictions)
            result.problems += one.problems
            if one.originals:
                await _workspace(drill, one, result)
    identifier = f"{snapshot_id(started).lower()}-{secrets.token_hex(3)}"
    done = result.run(identifier, [str(one) for one in selectors], started, clock.now())
    for line in result.lines()[:LOGGED_MAX]:
        _log.error("drill.finding", finding=line)
    _log.info("drill.finished", run=done.id, exit_code=done.exit_code, **result.seconds.to_json())
    return Drilled(done, result)


def _phase(chosen: Chosen, name: str) -> str:
    return f"{chosen.slug} ({name})"


async def _workspace(drill: _Drill, chosen: Chosen, result: DrillResult) -> None:
    """Rehearse one workspace. What goes wrong in it is in the result."""
    size = await asyncio.to_thread(size_of, [one.root / one.place for one in _outermost(chosen)])
    with temporary_folder(drill.environment, size) as folder:
        members = await asyncio.to_thread(chosen.members)
        with simulated(folder, chosen.slug, members, drill.environment, drill.limits) as upstream:
            try:
                restored = await _restore(drill, chosen, upstream, folder)
                result.seconds.add(restored.seconds)
                result.losses.update((str(one.why), one.kind) for one in restored.losses)
                result.problems += restored.problems
                await _compare(drill, chosen, upstream, restored, result)
            except Cancelled:  # the backup of the copy turns a cancellation into this
                raise Cancelled("the drill was stopped; nothing of it is kept") from None
            except MirrorError as error:
                code, text = problem_of(error)
                result.problems.append(Problem(code, f"{chosen.slug}: {text}", hint=error.hint))
            finally:
                for subject in (chosen.slug, *(_phase(chosen, name) for name in _COSTS)):
                    drill.progress.report(subject, DONE)


def _outermost(chosen: Chosen) -> Sequence[AnyFolder]:
    """The folders whose sizes add up: that of a workspace has its repositories inside."""
    return [chosen.home] if chosen.home is not None else chosen.folders


async def _restore(drill: _Drill, chosen: Chosen, upstream: Upstream, folder: Path) -> Restored:
    drill.progress.report(chosen.slug, "restoring into a simulated Bitbucket")
    begun = drill.clock.monotonic()
    restored = await restore_into(
        drill.store.path, chosen, upstream, folder, clock=drill.clock, progress=drill.progress
    )
    restored.seconds.restore = drill.clock.monotonic() - begun
    return restored


async def _compare(
    drill: _Drill, chosen: Chosen, upstream: Upstream, restored: Restored, result: DrillResult
) -> None:
    drill.progress.report(chosen.slug, "backing up the copy")
    seconds, begun = Seconds(), drill.clock.monotonic()
    create_or_open(upstream.config.store, now=drill.clock.now()).close()
    done = await backup.run(upstream.config, clock=drill.clock, environment=upstream.environment)
    seconds.backup = drill.clock.monotonic() - begun
    result.problems += [
        Problem(one.code, f"the backup of the copy: {one.text}", one.part) for one in done.all_problems
    ]
    drill.progress.report(_phase(chosen, "backup"), DONE)
    drill.progress.report(chosen.slug, "comparing")
    begun = drill.clock.monotonic()
    rules = Rules(explain=restored.explain)
    result.comparison.include(
        await compare_with_backup(
            upstream.config,
            upstream.environment,
            drill.clock,
            budget_of(upstream.config, drill.clock),
            chosen.originals,
            rules,
        )
    )
    seconds.compare = drill.clock.monotonic() - begun
    result.seconds.add(seconds)
