"""A cluster of three hosts whose clocks differ, and what happens to hosts, network and database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from mirror.simulator import Fault
from tests.bucket.servers import ObjectServer
from tests.cluster.harness import Trial
from tests.cluster.hosts import Host, wait_for
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


MOVES = (
    CLUSTER
    + "brake: {{share: 30%, at_least: 3}}\ncopies: [{{to: '{bucket}/{shard}', endpoint: '{endpoint}'}}]\n"
)


def test_small_losses_add_up_and_repositories_move_though_hosts_are_killed(
    clusters: Clusters, seaweed: ObjectServer
) -> None:
    more = MOVES.replace("{bucket}", f"s3://{seaweed.make_bucket()}").replace("{endpoint}", seaweed.endpoint)
    ports = [int(seaweed.endpoint.rpartition(":")[2])]
    with clusters(repositories=9, more=more, ports=ports, environment=seaweed.environment()) as trial:
        wait_until_whole(trial)
        vanish_and_accept(trial)
        moved = dict.fromkeys(move_and_kill(trial), "ab")
        moved |= {slug: "c" + name for slug, name in die_and_come_back(trial).items()}
        for host in trial.hosts[:2]:
            assert host.stop() == 0
        trial.check_no_repository_has_two_homes(moved)
        trial.check_budget()
        trial.check_nothing_is_lost()


def there(trial: Trial, host: Host) -> list[str]:
    """The slugs of what a host holds and upstream has."""
    return [one.slug for one in host.store().repositories() if one.slug in trial.acme.repositories]


def vanish_and_accept(trial: Trial) -> None:
    """Each shard loses less than the limit. The sum is more, and is accepted on one of them."""

    def losses() -> list[list[str]]:
        return [
            [one.what for home in host.store().workspaces() for one in home.brake().losses]
            for host in trial.hosts
        ]

    for host in trial.hosts:
        del trial.acme.repositories[there(trial, host)[0]]
    trial.discover_now()
    wait_for(lambda: losses() == [["repositories"]] * 3, lambda: f"{losses()}; {told(trial)}")
    for host in trial.hosts:
        done = host.run("prune")
        assert done.returncode == 5 and "repositories fell from" in done.stdout, done.stdout + done.stderr
    done = trial.hosts[1].run("accept-loss", "acme")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for(lambda: losses() == [[], [], []], lambda: f"{losses()}; {told(trial)}")
    for host in trial.hosts:
        done = host.run("prune")
        assert done.returncode == 0, done.stdout + done.stderr


def move_and_kill(trial: Trial) -> list[str]:
    """What a run has on its list moves meanwhile, and both sides are killed, in the midst and later."""
    source, target, _ = trial.hosts
    slugs = there(trial, source)
    assert len(slugs) == 2

    def moves() -> dict[str, str]:
        query = "SELECT full_name, coalesce(shard, ''), state FROM mirror.moves JOIN mirror.repositories"
        rows = trial.postgres.query(query + " USING (uuid, full_name)", trial.database)
        return {name: f"{shard} {state}" for name, shard, state in rows}

    def is_beyond(before: str) -> bool:
        return any(one != before for one in moves().values())

    for slug in slugs:
        slow(trial, slug, 2.0)
        trial.push(slug, "Before it moves")
    trial.discover_now()
    wait_for(lambda: is_busy(trial, "a"), lambda: told(trial))
    for slug in slugs:
        done = source.run("cluster", "move", f"acme/{slug}", "--to", "b", "--no-wait")
        assert done.returncode == 0, done.stdout + done.stderr
    for host, state in ((source, "a wanted"), (target, " wanted"), (target, " sent")):
        # It is killed once the first of them has got further than that.
        wait_for(partial(is_beyond, state), lambda: told(trial))
        joined = len(list(host.events("cluster.joined")))
        host.kill()
        host.start()
        host.wait_for_event("cluster.joined", times=joined + 1)
    wait_for(
        lambda: set(moves().values()) == {"b arrived"} and not trial.missing(),
        lambda: f"{moves()}; {trial.missing()}; {told(trial)}",
    )
    return slugs


def die_and_come_back(trial: Trial) -> dict[str, str]:
    """A host dies, others go on from its copy, and it comes back: its folders are put aside."""
    *_, dead = trial.hosts
    slugs = there(trial, dead)
    vanished = len(dead.store().repositories()) - len(slugs)
    done = dead.run("copy")
    assert done.returncode == 0, done.stdout + done.stderr
    dead.kill()
    trial.postgres.query(
        "UPDATE mirror.shards SET seen = seen - interval '1 hour' WHERE name = 'c'", trial.database
    )
    done = trial.hosts[0].run("cluster", "move", "--from", "c", "-y")
    assert done.returncode == 0, done.stdout + done.stderr
    homes = {one.slug: host.name for host in trial.hosts[:2] for one in host.store().repositories()}
    dead.start()
    wait_for(lambda: not dead.is_running, dead.told)
    assert (
        dead.store().repositories() == []
        and len(list(dead.events("cluster.put_aside"))) == len(slugs) + vanished
    )
    done = trial.hosts[0].run("cluster", "status")
    assert f"{len(slugs) + vanished} folders that others have now lie in quarantine/" in done.stdout, (
        done.stdout
    )
    return {slug: homes[slug] for slug in slugs}
