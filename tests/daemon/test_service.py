"""The service as systemd sees it: start, notifications, reload, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mirror.config import load_text
from mirror.daemon.jobs import KINDS
from mirror.daemon.service import _Service
from mirror.model import Run
from mirror.simulator import Fault, Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock
from tests.e2e.helpers import MADE, mirror, write_config


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(60)
        self.path = path
        self.said: list[str] = []
        self._lines: list[str] = []

    def wait(self, prefix: str) -> str:
        """Wait for the next line that begins with this text."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            while self._lines:
                line = self._lines.pop(0)
                self.said.append(line)
                if line.startswith(prefix):
                    return line
            self._lines += self._socket.recv(4096).decode().splitlines()
        raise AssertionError(f"systemd was not told {prefix}")

    def heard_nothing_of(self, prefix: str) -> bool:
        """Whether no line so far begins with this text."""
        self._socket.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            while True:
                self._lines += self._socket.recv(4096).decode().splitlines()
        return not any(line.startswith(prefix) for line in self._lines)

    def close(self) -> None:
        self._socket.close()


class Service:
    """A daemon in a process of its own, and its surroundings."""

    def __init__(self, folder: Path, simulator: Simulator, config: Path, systemd: Systemd) -> None:
        self.folder, self.simulator, self.config, self.systemd = folder, simulator, config, systemd
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mirror", "daemon", "-c", str(config), "--log-format", "json"],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                    "NOTIFY_SOCKET": str(systemd.path),
                    "WATCHDOG_USEC": "400000",
                },
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def logged(self, event: str) -> bool:
        """Wait for a line of the log."""
        self.wait_for(lambda: f'"event": "{event}"' in self.log.read_text())
        return True

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def service(tmp_path: Path, systemd: Systemd) -> Iterator[Service]:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = write_config(tmp_path, simulator, token, more="schedule: {backup: every 4h}\n")
        running = Service(tmp_path, simulator, config, systemd)
        yield running
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def test_it_is_ready_catches_up_feeds_the_watchdog_and_stops_cleanly(service: Service) -> None:
    service.systemd.wait("READY=1")
    assert service.logged("daemon.backup_ended")
    service.systemd.wait("WATCHDOG=1")
    service.systemd.wait("WATCHDOG=1")
    assert service.stop() == 0
    assert any(line.startswith("STATUS=backup: ") for line in service.systemd.said)
    with Store.open(service.folder / "store") as store:
        assert [run.data["exit_code"] for run in store.runs("backup")] == [0]


@pytest.mark.parametrize("path", ["GET /acme/*", "GET /2.0/repositories/*"])
def test_a_run_is_stopped_in_order_and_recorded(service: Service, path: str) -> None:
    service.systemd.wait("READY=1")
    service.simulator.order(Fault(path, "slow", seconds=600, times=50))
    assert service.logged("backup.started")
    service.wait_for(lambda: service.simulator.faults._standing[0].met > 0)
    assert service.stop() == 0
    log = service.log.read_text()
    assert "Traceback" not in log and '"level": "error"' not in log
    assert '"event": "daemon.backup_stopped"' in log
    with Store.open(service.folder / "store") as store:
        last = store.last_run("backup")
        assert last is not None
        assert last.data["exit_code"] == 130


def test_a_faulty_configuration_is_refused_and_the_old_one_kept(service: Service) -> None:
    service.systemd.wait("READY=1")
    assert service.logged("daemon.backup_ended")
    good = service.config.read_text()
    service.config.write_text(good + "nonsense: 1\n")
    service.process.send_signal(signal.SIGHUP)
    assert service.systemd.wait("RELOADING=1")
    assert service.systemd.wait("MONOTONIC_USEC=")
    service.systemd.wait("READY=1")
    assert service.logged("daemon.reload_refused")
    service.config.write_text(good.replace("every 4h", "every 8h"))
    service.process.send_signal(signal.SIGHUP)
    assert service.logged("daemon.reloaded")
    assert service.stop() == 0


def test_a_failed_run_does_not_end_the_service(service: Service) -> None:
    service.systemd.wait("READY=1")
    assert service.logged("daemon.backup_ended")
    service.simulator.order(Fault("GET /2.0/*", status=401, times=1000))
    service.config.write_text(service.config.read_text().replace("every 4h", "every 8h"))
    service.process.send_signal(signal.SIGHUP)
    assert service.logged("daemon.reload_refused")
    assert service.process.poll() is None
    assert service.stop() == 0


def test_a_second_signal_ends_it_at_once(service: Service) -> None:
    service.systemd.wait("READY=1")
    service.simulator.order(Fault("GET /2.0/repositories/*", "slow", seconds=600, times=50))
    service.process.send_signal(signal.SIGHUP)  # a reload that goes on is no obstacle
    assert service.logged("backup.started")
    service.process.send_signal(signal.SIGSTOP)  # so that both wait when it checks
    service.process.send_signal(signal.SIGTERM)
    service.process.send_signal(signal.SIGINT)
    service.process.send_signal(signal.SIGCONT)
    assert service.process.wait(60) in (0, 130)  # 130 where the backup had not ended before
    log = service.log.read_text()
    assert "Traceback" not in log and '"level": "error"' not in log


def test_a_backup_by_hand_beside_the_daemon_is_safe(service: Service) -> None:
    service.systemd.wait("READY=1")
    service.simulator.order(Fault("GET /acme/*", "slow", seconds=1, times=2))
    assert service.logged("backup.started")
    by_hand = mirror("backup", "-c", str(service.config), "--lock-wait", "2m")
    assert by_hand.returncode == 0
    assert service.logged("daemon.backup_ended")
    assert service.stop() == 0
    assert '"exit_code": 130' not in service.log.read_text()
    checked = mirror("verify", "--store", str(service.folder / "store"))
    assert checked.returncode == 0, checked.stdout
    with Store.open(service.folder / "store") as store:
        assert len(list(store.runs("backup"))) == 2
        assert all(one.metadata.snapshots() for one in store.repositories())


def a_daemon(config: Path) -> subprocess.CompletedProcess[str]:
    """A daemon that the test expects to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "mirror", "daemon", "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "NOTIFY_SOCKET": str(config.parent / "notify"),
        },
    )


def test_it_is_not_ready_with_a_refused_credential(tmp_path: Path, systemd: Systemd) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    with Simulator(world) as simulator:
        config = write_config(tmp_path, simulator, "no-such-token", more="schedule: {backup: every 4h}\n")
        done = a_daemon(config)
    assert done.returncode == 12
    assert "workspace_access_token from file" in done.stderr
    assert "no-such-token" not in done.stderr
    assert systemd.heard_nothing_of("READY=1")


def test_one_endpoint_that_answers_401_is_no_refused_credential(service: Service) -> None:
    service.simulator.order(Fault("GET /2.0/workspaces/acme", status=401, times=1000))
    service.systemd.wait("READY=1")
    assert service.stop() == 0


def test_where_bitbucket_cannot_be_reached_it_is_ready_and_says_so(tmp_path: Path, systemd: Systemd) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = write_config(tmp_path, simulator, token, more="schedule: {backup: every 4h}\n")
    service = Service(tmp_path, simulator, config, systemd)
    try:
        systemd.wait("READY=1")
        assert service.logged("daemon.bitbucket_unreachable")
        assert service.stop() == 0
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def test_all_but_prune_run_beside_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[str] = []

    async def work(kind: str, *_: object) -> Run:
        began.append(kind)
        if len(began) == 4:
            all_began.set()
        await asyncio.sleep(600)
        raise AssertionError

    async def story() -> None:
        service = _Service(config, lambda: config, FakeClock(), {})
        for kind, made in list(KINDS.items()):
            monkeypatch.setitem(KINDS, kind, replace(made, work=partial(work, kind)))
            service.runner.due(kind)
        await asyncio.wait_for(all_began.wait(), 60)
        await service.end()
        assert sorted(began) == ["backup", "copy", "drill", "verify"]

    all_began = asyncio.Event()
    config = load_text(BASE + "schedule: {backup: every 4h}\n", "config.yaml", folder=tmp_path)
    asyncio.run(story())


BASE = "store: s\ncredential: {kind: workspace_access_token, token: {env: UNSET_VARIABLE}}\n"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BASE, "no schedule"),
        (BASE + "schedule: {backup: every 4h}\n", "UNSET_VARIABLE"),
        ("store: s\nnonsense: 1\n", "nonsense"),
    ],
)
def test_what_cannot_work_is_said_at_start(tmp_path: Path, config: str, words: str) -> None:
    (tmp_path / "config.yaml").write_text(config)
    create_or_open(tmp_path / "s", now=MADE).close()
    done = a_daemon(tmp_path / "config.yaml")
    assert done.returncode == 2
    assert words in done.stderr
