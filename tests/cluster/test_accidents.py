"""A cluster of three hosts whose clocks differ, and what happens to hosts, network and database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mirror.simulator import Fault
from tests.cluster.harness import Trial
from tests.cluster.hosts import wait_for
from tests.cluster.postgres import Postgres

# By how many seconds each host's clock is ahead.
AHEAD = (0.0, 900.0, -900.0)
CLUSTER = "cluster: {{database: {{file: database}}, shard: {shard}}}\n"
# A host that is silent for so many seconds counts as dead; each reports every second.
SILENCE, BEAT = 8.0, 1.0
TIMES = {
    "mirror.cluster.shards.SILENCE_SECONDS": SILENCE,
    "mirror.cluster.shards.LOCK_SECONDS": SILENCE + 2,
    "mirror.cluster.reaper.SILENCE_SECONDS": SILENCE,
    "mirror.cluster.host.BEAT_SECONDS": BEAT,
    "mirror.cluster.host.RETRY_LAST": 2.0,
}

Clusters = Callable[..., AbstractContextManager[Trial]]


@pytest.fixture
def clusters(tmp_path: Path, postgres: Postgres, schema: str) -> Iterator[Clusters]:
    """Makes a cluster of three hosts, which run."""
    made: list[str] = []

    @contextmanager
    def make(repositories: int, **options: object) -> Iterator[Trial]:
        made.append(postgres.make_database(schema))
        given = {"ahead": AHEAD, "more": CLUSTER, "repositories": 0, **options}
        with Trial(tmp_path, postgres, made[-1], **given) as trial:  # type: ignore[arg-type]
            for host in trial.hosts:
                host.replaced = TIMES
                host.start()
            # What is there before all have joined would go to those that have.
            for host in trial.hosts:
                host.wait_for_event("cluster.joined")
            for number in range(repositories):
                trial.add_repository(f"repository-{number}")
            trial.discover_now()
            yield trial

    yield make
    for name in made:
        postgres.drop_database(name)


def wait_until_whole(trial: Trial) -> None:
    """Wait until the stores have what upstream has."""
    wait_for(lambda: not trial.missing(), lambda: f"{trial.missing()}; {told(trial)}")


def told(trial: Trial) -> str:
    return "\n".join(f"--- {host.name}\n{host.told()}" for host in trial.hosts)


def of_host(trial: Trial, name: str) -> str:
    """The slug of a repository that a host holds."""
    host = next(one for one in trial.hosts if one.name == name)
    return host.store().repositories()[0].slug


def slow(trial: Trial, slug: str, seconds: float) -> None:
    """The next answer of git about a repository takes so long."""
    trial.simulator.order(Fault(f"*/acme/{slug}.git/*", "slow", seconds=seconds))


def is_busy(trial: Trial, shard: str) -> bool:
    """Whether a host does a job of its queue, as the database knows."""
    query = (
        f"SELECT 1 FROM procrastinate.procrastinate_jobs WHERE queue_name = '{shard}' AND status = 'doing'"
    )
    return bool(trial.postgres.query(query, trial.database))


def test_hosts_share_the_work_though_one_is_killed_and_the_database_dies(clusters: Clusters) -> None:
    with clusters(repositories=9) as trial:
        first, second, _ = trial.hosts
        wait_for(lambda: bool(second.store().repositories()), lambda: told(trial))
        second.kill()
        trial.postgres.kill()
        trial.postgres.start()
        second.start()
        wait_until_whole(trial)
        assert sorted(len(host.store().repositories()) for host in trial.hosts) == [3, 3, 3]
        # What is new is placed, whoever is told of it.
        trial.send_hooks_to(first)
        trial.add_repository("newcomer")
        trial.push(of_host(trial, "c"), "Told to a")
        wait_until_whole(trial)
        for host in trial.hosts:
            assert host.stop() == 0
        trial.check_no_repository_has_two_homes()
        trial.check_budget()
        trial.check_nothing_is_lost()


def test_a_host_is_stopped_for_long_and_another_cut_off(clusters: Clusters) -> None:
    with clusters(repositories=6) as trial:
        first, second, third = trial.hosts
        wait_until_whole(trial)
        trial.send_hooks_to(first)
        # It is stopped in the midst of a job.
        mine, theirs, others = (of_host(trial, name) for name in "abc")
        slow(trial, theirs, 5.0)
        trial.push(theirs, "Slow")
        wait_for(lambda: is_busy(trial, "b"), lambda: told(trial))
        second.pause()
        wait_for(
            lambda: any(first.events("cluster.job_put_back")) or any(third.events("cluster.job_put_back"))
        )
        # Meanwhile the link of another goes down.
        third.cut_off()
        third.wait_for_event("cluster.cut_off")
        for slug in (mine, theirs, others):
            trial.push(slug, "Meanwhile")
        wait_for(lambda: not any(one.startswith(f"{mine}:") for one in trial.missing()), lambda: told(trial))
        status = third.run("status")
        assert "acme" in status.stdout
        second.proceed()
        third.join()
        third.wait_for_event("cluster.joined", times=2)
        wait_until_whole(trial)
        for host in trial.hosts:
            assert host.stop() == 0
        trial.check_no_repository_has_two_homes()
        trial.check_budget()
        trial.check_nothing_is_lost()


def test_all_hosts_together_stay_within_the_limit(clusters: Clusters) -> None:
    # The first backup of nine repositories takes more than two hours of this limit.
    with clusters(repositories=9, limit=120, reserve=10) as trial:
        wait_for(lambda: all(any(host.events("budget.waiting")) for host in trial.hosts), lambda: told(trial))
        first = trial.hosts[0]
        first.kill()  # with what it was lent
        first.start()
        first.wait_for_event("cluster.joined", times=2)
        wait_for(lambda: len(list(first.events("budget.waiting"))) > 1, lambda: told(trial))
        trial.check_budget()
        assert max(trial.most_in_an_hour().values()) > 60
        for host in trial.hosts:
            assert host.stop() == 0
        trial.check_no_repository_has_two_homes()
