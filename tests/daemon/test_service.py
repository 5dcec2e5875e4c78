"""The service as systemd sees it: started, told, reloaded, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.simulator import Fault, Simulator, World
from mirror.simulator.sample import SCOPES, populate
from mirror.store.reader import Store
from tests.e2e.helpers import write_config


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)
        self.path = path
        self.said: list[str] = []
        self._lines: list[str] = []

    def wait(self, prefix: str) -> str:
        """The next line that begins so."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            while self._lines:
                line = self._lines.pop(0)
                self.said.append(line)
                if line.startswith(prefix):
                    return line
            self._lines += self._socket.recv(4096).decode().splitlines()
        raise AssertionError(f"systemd was not told {prefix}")

    def close(self) -> None:
        self._socket.close()


class Service:
    """A daemon in a process of its own, and everything around it."""

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
        return self.process.wait(20)

    def logged(self, event: str, seconds: float = 15) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if f'"event": "{event}"' in self.log.read_text():
                return True
            time.sleep(0.05)
        return False


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
    assert any(line.startswith("STATUS=backup running") for line in service.systemd.said)
    with Store.open(service.folder / "store") as store:
        assert [run.data["exit_code"] for run in store.runs("backup")] == [0]


def test_a_run_is_stopped_in_order_and_recorded(service: Service) -> None:
    service.simulator.order(Fault("GET /acme/*", "slow", seconds=60, times=50))
    service.systemd.wait("READY=1")
    assert service.logged("backup.started")
    time.sleep(1)
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 15
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
    service.simulator.order(Fault("GET /2.0/*", status=401, times=100))
    service.systemd.wait("READY=1")
    assert service.logged("daemon.backup_ended")
    assert service.process.poll() is None
    assert service.stop() == 0


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
    done = subprocess.run(
        [sys.executable, "-m", "mirror", "daemon", "-c", str(tmp_path / "config.yaml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 2
    assert words in done.stderr
