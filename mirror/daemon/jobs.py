"""The kinds of jobs: what each does when it is due."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mirror import backup, prune, verify
from mirror.bitbucket.client.budget import Budget
from mirror.config import Config
from mirror.model import Clock, Run
from mirror.store.writing.verify_journal import VerifyJournal
from mirror.store.writing.writer import open_store

Kind = Literal["backup", "verify", "prune", "drill"]


@dataclass
class Means:
    """What jobs work with. `config` is the configuration in force; a reload replaces it."""

    config: Config
    clock: Clock
    environment: Mapping[str, str]
    budget: Budget


@dataclass(frozen=True)
class KindOfJob:
    """What a kind of job does. Jobs of one `lane` run one after the other, those of different lanes side by
    side."""

    work: Callable[[Means, Config], Coroutine[Any, Any, Run]]
    lane: str


async def _backup(means: Means, config: Config) -> Run:
    return await backup.run(config, clock=means.clock, environment=means.environment, budget=means.budget)


async def _verify(means: Means, config: Config) -> Run:
    # Resumes a verification that a restart interrupted.
    journal = VerifyJournal(config.store, "objects 1 ", resume=True, now=means.clock.now())
    run = await verify.run(config.store, journal=journal, clock=means.clock, environment=means.environment)
    with open_store(config.store, command="mirror daemon") as store:
        store.write_run(run)
    journal.finish()
    return run


async def _prune(means: Means, config: Config) -> Run:
    return await prune.prune(config, clock=means.clock, environment=means.environment)


async def _drill(means: Means, config: Config) -> Run:
    from mirror import drill  # with the simulated Bitbucket, which nothing else here needs

    done = await drill.run(
        config.store, clock=means.clock, environment=means.environment, limits=config.limits
    )
    with open_store(config.store, command="mirror daemon") as store:
        store.write_run(done.run)
    return done.run


# Jobs that write share a lane: they would only wait for each other's locks. Verification and drills take no
# lock.
KINDS: dict[Kind, KindOfJob] = {
    "backup": KindOfJob(_backup, "writing"),
    "verify": KindOfJob(_verify, "verify"),
    "prune": KindOfJob(_prune, "writing"),
    "drill": KindOfJob(_drill, "drill"),
}
