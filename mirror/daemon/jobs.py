"""The kinds of jobs: what each does when it is due."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mirror import backup, prune, verify
from mirror.backup.announcements import Announcements
from mirror.backup.listing import Listing
from mirror.bitbucket.client.budget import Budget
from mirror.config import Config
from mirror.daemon import copies
from mirror.model import Clock, Progress, Run, Scope, Selector
from mirror.model.elsewhere import Elsewhere
from mirror.store.writing.verify_journal import VerifyJournal
from mirror.store.writing.writer import open_store

# How long, in seconds, prune waits for a visit that a hook caused, and prune and backup for a copy, which
# holds the lock of a folder for moments.
VISIT_SECONDS = 600.0
COPY_SECONDS = 60.0

Kind = Literal["backup", "verify", "prune", "drill", "copy"]


@dataclass
class Means:
    """What jobs work with. `config` is the configuration in force; a reload replaces it. `announcements` are
    those of hooks, where the configuration has any; `elsewhere` are the other hosts of a cluster."""

    config: Config
    clock: Clock
    environment: Mapping[str, str]
    budget: Budget
    announcements: Announcements | None = None
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True)
class KindOfJob:
    """What a kind of job does in a scope while it tells its progress. Jobs of one `lane` run one after the
    other, those of different lanes side by side."""

    work: Callable[[Means, Config, Scope, Progress], Coroutine[Any, Any, Run]]
    lane: str


async def _backup(means: Means, config: Config, scope: Scope, progress: Progress) -> Run:
    return await backup.run(
        config, scope=scope, clock=means.clock, environment=means.environment, budget=means.budget,
        progress=progress, announcements=means.announcements, lock_wait=_copy_wait(config),
    )  # fmt: skip


async def backup_part(listed: Listing, means: Means, config: Config, scope: Scope, progress: Progress) -> Run:
    """Back up what another host listed for this one."""
    return await backup.run(
        config, scope=scope, clock=means.clock, environment=means.environment, budget=means.budget,
        progress=progress, announcements=means.announcements, listed=listed, elsewhere=means.elsewhere,
    )  # fmt: skip


async def _verify(means: Means, config: Config, scope: Scope, progress: Progress) -> Run:
    # Resumes a verification that a restart interrupted.
    key = " ".join(("objects 1", scope.job("")))
    journal = VerifyJournal(config.store, key, resume=True, now=means.clock.now())
    run = await verify.run(
        config.store,
        _selectors(scope),
        leave_out=scope.but,
        journal=journal,
        clock=means.clock,
        environment=means.environment,
        progress=progress,
    )
    run = _record(config, scope, run)
    journal.finish()
    return run


async def _prune(means: Means, config: Config, scope: Scope, progress: Progress) -> Run:
    # A visit that a hook caused holds the lock of its folder for moments.
    wait = _copy_wait(config) if means.announcements is None else VISIT_SECONDS
    return await prune.prune(
        config,
        scope=scope,
        clock=means.clock,
        environment=means.environment,
        lock_wait=wait,
        progress=progress,
        elsewhere=means.elsewhere,
    )


async def _drill(means: Means, config: Config, scope: Scope, progress: Progress) -> Run:
    from mirror import drill  # with the simulated Bitbucket, which nothing else here needs

    done = await drill.run(
        config.store,
        _selectors(scope),
        leave_out=scope.but,
        clock=means.clock,
        environment=means.environment,
        limits=config.limits,
        progress=progress,
    )
    return _record(config, scope, done.run)


async def _copy(means: Means, config: Config, scope: Scope, progress: Progress) -> Run:
    assert scope.is_everything  # the schedule has it at the top only
    return await copies.run(config, clock=means.clock, environment=means.environment, progress=progress)


def _copy_wait(config: Config) -> float:
    return COPY_SECONDS if config.copies else 0.0


def _selectors(scope: Scope) -> list[Selector]:
    return [] if scope.only is None else [Selector(scope.only)]


def _record(config: Config, scope: Scope, run: Run) -> Run:
    """Write the record of a run, with its scope."""
    run = replace(run, facts={**run.facts, **scope.facts()})
    with open_store(config.store, command="mirror daemon") as store:
        store.write_run(run)
    return run


# Jobs that write share a lane: they would only wait for each other's locks. Verification and drills take no
# lock, a copy only for moments.
KINDS: dict[Kind, KindOfJob] = {
    "backup": KindOfJob(_backup, "writing"),
    "verify": KindOfJob(_verify, "verify"),
    "prune": KindOfJob(_prune, "writing"),
    "drill": KindOfJob(_drill, "drill"),
    "copy": KindOfJob(_copy, "copy"),
}
