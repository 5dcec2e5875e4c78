"""The harness itself: hosts, networks and clocks behave as the trials of the cluster rely on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.cluster.harness import Trial
from tests.cluster.hosts import Host, wait_for
from tests.cluster.network import why_no_namespaces
from tests.cluster.postgres import Postgres


@pytest.fixture
def trial(tmp_path: Path, postgres: Postgres) -> Iterator[Trial]:
    """Two hosts without a cluster: each backs up everything."""
    name = postgres.make_database()
    with Trial(tmp_path, postgres, name, hosts=2, repositories=2, ahead=[0, -86400]) as made:
        yield made
    postgres.drop_database(name)


def has_run(host: Host) -> bool:
    return bool(host.store().run_ids())


def can_connect(trial: Trial, host: Host) -> bool:
    """Whether PostgreSQL answers a connection from this host."""
    url = f"postgresql://postgres@{host.database_address}/{trial.database}"

    def connect() -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2).close()
            return True
        return False

    return host.in_network(connect)


def test_hosts_live_are_stopped_killed_and_started_again(trial: Trial) -> None:
    for host in trial.hosts:
        host.start()
    for host in trial.hosts:
        host.wait_until_ready()
    wait_for(lambda: not trial.missing())
    # The observers see that these hosts know nothing of each other.
    with pytest.raises(AssertionError, match="in several stores"):
        trial.check_no_repository_has_two_homes()
    assert {name for name, _ in trial.asked()["repository-0"]} == {"a", "b"}
    one, other = trial.hosts
    for host in trial.hosts:
        wait_for(partial(has_run, host), host.told)
    ids = [host.store().run_ids()[0] for host in trial.hosts]
    assert ids[1][:8] < ids[0][:8]  # a run is named by the clock of its host, a day apart
    trial.send_hooks_to(other)
    trial.push("repository-1", "Announced")
    wait_for(lambda: any(204 in one.statuses for one in trial.simulator.deliveries), other.told)
    wait_for(lambda: not trial.missing())
    other.pause()
    seen = len(other.log.read_text())
    one.kill()
    assert not one.is_running
    one.start()
    one.wait_until_ready(2)
    assert len(other.log.read_text()) == seen
    other.proceed()
    assert [host.stop() for host in trial.hosts] == [0, 0]
    trial.check_budget()
    trial.check_nothing_is_lost()


def test_a_host_is_cut_off_from_the_database_and_joined_again(trial: Trial) -> None:
    host, other = trial.hosts
    for one in trial.hosts:
        wait_for(partial(can_connect, trial, one))
    host.cut_off()
    assert not can_connect(trial, host)
    wait_for(partial(can_connect, trial, other))
    host.join()
    wait_for(partial(can_connect, trial, host))


def test_hosts_have_networks_of_their_own(trial: Trial) -> None:
    if (why := why_no_namespaces()) is not None:
        pytest.skip(why)
    names = {host.in_network(lambda: Path("/proc/thread-self/ns/net").readlink()) for host in trial.hosts}
    assert len({*names, Path("/proc/self/ns/net").readlink()}) == 3
