"""A host of a cluster: a daemon in a process of its own, with its store, its clock and its network."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.cluster.clocked import TRIAL
from tests.cluster.network import Namespace, Relay, enter, listening, tcp
from tests.cluster.postgres import PATIENCE
from tests.e2e.helpers import MADE
from tests.forks import FORKS, Program

T = TypeVar("T")
_DOOR = 9322


def wait_for(condition: Callable[[], bool], why: Callable[[], str] = str) -> None:
    """Wait for a condition; fails with what `why` tells."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


class Host:
    """A machine with a store. Its daemon is started, killed, stopped and continued by the test.

    `ports` are those of loopback that it must find as they are here: the simulator's. Where `namespace` is
    given it has a network of its own; either way `cut_off` parts it from the database, and from nothing else.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        ports: list[int],
        database: Path,
        namespace: Namespace | None = None,
        ahead: float = 0.0,
    ) -> None:
        self.folder, self.name, self._namespace = folder, name, namespace
        folder.mkdir()
        self.config, self.store_folder, self.log = folder / "config.yaml", folder / "store", folder / "log"
        self.log.touch()
        self.clock = {"ahead": ahead, "speed": 1.0, "began": time.monotonic()}
        # Constants of the program, by module and name, that its processes have otherwise.
        self.replaced: dict[str, Any] = {}
        # What its processes have in their environment beside the usual.
        self.environment: dict[str, str] = {}
        self._program: Program | None = None
        self._relays: list[Relay] = []
        create_or_open(self.store_folder, now=MADE).close()
        address = "127.0.0.1" if namespace is None else namespace.address
        self._database = Relay(listening(tcp(), address), lambda: _to_socket(database))
        self.database_address = f"{address}:{self._database.port}"
        # Where its hooks' door listens, and where that is for the simulator.
        self.door_inside, self.door = _DOOR, 0
        if namespace is not None:
            for port in ports:
                self._relays.append(Relay(listening(namespace.socket(), port=port), partial(_to_port, port)))
            self._relays.append(Relay(listening(tcp()), partial(_to_port_of, namespace, _DOOR)))
            self.door = self._relays[-1].port
        else:
            with listening(tcp()) as free:
                self.door = self.door_inside = free.getsockname()[1]

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for relay in (self._database, *self._relays):
            relay.close()
        if self._namespace is not None:
            self._namespace.close()

    def write(self, name: str, text: str) -> Path:
        """Write a file of the host; only its owner can read it."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    # -- its daemon

    def _start(self, words: list[str], out: int, errors: int) -> Program:
        namespace = None if self._namespace is None else str(self._namespace.path)
        told = {
            "namespace": namespace,
            "clock": self.clock,
            "replaced": self.replaced,
            "tests": os.getpid(),
        }
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", TRIAL: json.dumps(told)}
        environment |= self.environment
        null = os.open(os.devnull, os.O_RDWR)
        try:
            streams = [null, out, errors]
            words = [*words, "-c", str(self.config)]
            return FORKS.start(
                "tests.cluster.clocked:main",
                words,
                environment=environment,
                folder=self.folder,
                streams=streams,
            )
        finally:
            os.close(null)

    def start(self) -> None:
        """Start the daemon; see `wait_until_ready`."""
        assert not self.is_running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            words = ["daemon", "--log-format", "json"]
            self._program = self._start(words, log.fileno(), log.fileno())

    @property
    def is_running(self) -> bool:
        """Whether the daemon's process is there, stopped or not."""
        return self._program is not None and self._program.poll() is None

    def wait_until_ready(self, times: int = 1) -> None:
        """Wait until the daemon has said so often that it is ready."""
        self.wait_for_event("daemon.ready", times=times)

    def processes(self) -> list[int]:
        """The daemon, first, and its workers."""
        if not self.is_running:
            return []
        assert self._program is not None
        return [self._program.pid, *_children(self._program.pid)]

    def kill(self) -> None:
        """SIGKILL for the daemon and its workers, as when the machine loses its power."""
        for one in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        if self._program is not None:
            self._program.wait(PATIENCE)
            self._program = None

    def pause(self) -> None:
        """Stop its processes where they are."""
        for one in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)

    def proceed(self) -> None:
        """Continue what `pause` stopped."""
        for one in reversed(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)

    def stop(self) -> int:
        """Stop the daemon as systemd does; returns its exit code."""
        assert self._program is not None
        os.kill(self._program.pid, signal.SIGTERM)
        code, self._program = self._program.wait(PATIENCE), None
        return code

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command by hand on this host."""
        out, errors = (self.folder / f"command.{one}" for one in ("out", "err"))
        with out.open("wb") as one, errors.open("wb") as other:
            program = self._start(list(words), one.fileno(), other.fileno())
            try:
                code = program.wait(PATIENCE)
            finally:
                program.kill()
        return subprocess.CompletedProcess(words, code, out.read_text(), errors.read_text())

    # -- its network

    def cut_off(self) -> None:
        """Part it from the database: nothing arrives any more, no connection is closed."""
        (self._namespace or self._database).cut()

    def join(self) -> None:
        """Let it reach the database again."""
        (self._namespace or self._database).heal()

    def in_network(self, work: Callable[[], T]) -> T:
        """What `work` returns in a thread whose sockets belong to the host's network."""

        def inside() -> T:
            if self._namespace is not None:
                enter(self._namespace.path)
            return work()

        with ThreadPoolExecutor(1) as other:
            return other.submit(inside).result()

    # -- what it has done

    def events(self, name: str = "") -> Iterator[dict[str, Any]]:
        """What the daemon logged, or all of one event."""
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if not name or event["event"] == name:
                    yield event

    def wait_for_event(self, name: str, *, times: int = 1) -> dict[str, Any]:
        """Wait until the daemon has logged an event so often; returns the last."""

        def has_come() -> bool:
            if len(list(self.events(name))) >= times:
                return True
            assert self.is_running, f"{self.name} ended: {self.told()}"
            return False

        wait_for(has_come, lambda: f"{self.name} never told {name}: {self.told()}")
        return list(self.events(name))[-1]

    def told(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-6000:]

    def store(self) -> Store:
        """Its store."""
        return Store.open(self.store_folder)


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        below = [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [*below, *(each for one in below for each in _children(one))]


def _to_socket(path: Path) -> socket.socket:
    return _connected(socket.socket(socket.AF_UNIX), str(path))


def _to_port(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def _to_port_of(namespace: Namespace, port: int) -> socket.socket:
    return _connected(namespace.socket(), ("127.0.0.1", port))


def _connected(made: socket.socket, address: str | tuple[str, int]) -> socket.socket:
    """The socket, connected; closed where that fails, as it does while the database is down."""
    try:
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made
