"""A world to back up; and, at the end of a run, a report of how much the tests tried."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mirror import logs
from mirror.config import load
from mirror.git.wire import client
from mirror.git.workers import pool
from mirror.http import network
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.bucket.servers import moto_server, seaweed  # noqa: F401 - fixtures for all
from tests.counts import COUNTS
from tests.e2e.helpers import write_config
from tests.forks import FORKS
from tests.place import Place


@pytest.fixture(autouse=True)
def _impatient_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the real waits before git tries again."""
    monkeypatch.setattr(network, "PAUSE", 0.01)


@pytest.fixture(autouse=True)
def _unknown_servers() -> None:
    """Forget how the servers of earlier tests listed refs: the system gives their ports to later ones."""
    client._DIRECT_LISTINGS.clear()


@pytest.fixture(scope="session", autouse=True)
def _secrets_of_constants() -> None:
    """Forget the secrets that modules registered when they were imported: each holds for all tests."""
    logs._secrets.clear()


@pytest.fixture(autouse=True)
def _logs_of_a_test() -> Iterator[None]:
    """Take back how a test configured the logs: with --quiet, the next would log warnings only."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module", autouse=True)
def _secrets_of_a_module(_secrets_of_constants: None) -> Iterator[None]:
    """Forget the secrets that a module registered: a password such as `secret` is redacted in every text."""
    before = set(logs._secrets)
    yield
    logs._secrets.intersection_update(before)


@pytest.fixture(autouse=True)
def _secrets_of_a_test(_secrets_of_a_module: None) -> Iterator[None]:
    """Forget the secrets that a test registered."""
    before = set(logs._secrets)
    yield
    logs._secrets.intersection_update(before)


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """Leave the machine's own certificates out: every run of every test would load them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            patch.delenv(name, raising=False)
        yield


_START_PROCESS = pool.start_process


@pytest.fixture(scope="session", autouse=True)
def _forked_workers() -> Iterator[None]:
    """Fork worker processes instead of starting an interpreter for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "start_process", FORKS.start_worker)
        yield
    FORKS.close()


@pytest.fixture
def started_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start worker processes as the program does, for tests of just that."""
    monkeypatch.setattr(pool, "start_process", _START_PROCESS)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The sample workspace with its defaults. A test module that needs another one defines a fixture of this
    name."""
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        yield Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))


MEMORY = Path("/dev/shm")
MEMORY_MIN = 4 << 30


def _has_room_in_memory() -> bool:
    """Whether a memory file system has MEMORY_MIN bytes left, and lets programs be executed."""
    if not os.access(MEMORY, os.W_OK):
        return False
    found = os.statvfs(MEMORY)
    return found.f_bavail * found.f_frsize >= MEMORY_MIN and not found.f_flag & os.ST_NOEXEC


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' folders in memory, unless TMPDIR names a place: they are fsynced all the time. Let all
    processes of a run write their counts to one file."""
    if "TMPDIR" not in os.environ and _has_room_in_memory():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None
    if not hasattr(config, "workerinput") and COUNTS not in os.environ:
        descriptor, os.environ[COUNTS] = tempfile.mkstemp(prefix="mirror-counts-")
        os.close(descriptor)
        config.add_cleanup(lambda: Path(os.environ.pop(COUNTS)).unlink(missing_ok=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts of this run."""
    path = Path(os.environ[COUNTS])
    rows = path.read_text().splitlines() if path.exists() else []
    if rows:
        terminalreporter.section("what was tried")
        for row in sorted(rows):
            terminalreporter.line(row)
