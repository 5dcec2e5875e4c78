"""Hosts that share a budget never spend more of it in any hour than one may, whatever becomes of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.auth.secrets import SecretSource
from mirror.cluster.database import Database
from mirror.cluster.schema import migrate
from tests.cluster.borrower import WINDOW
from tests.cluster.hosts import wait_for
from tests.cluster.postgres import PATIENCE, Postgres
from tests.forks import FORKS, Program

LIMIT = 60
ROUNDS = 20 if os.environ.get("MIRROR_SOAK") == "1" else 1


class Borrowers:
    """Processes that spend one budget. Each notes when it sends a request."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder, self._database = folder, database
        self._programs: dict[str, Program] = {}

    def start(self, name: str) -> None:
        """Start one, for the first time or again."""
        environment = {"PATH": os.environ["PATH"], "DATABASE": self._database, "TESTS": str(os.getpid())}
        with (self._folder / f"{name}.log").open("ab") as log, Path(os.devnull).open("rb") as null:
            streams = [null.fileno(), log.fileno(), log.fileno()]
            words = [name, str(LIMIT), str(self._folder / f"{name}.sent")]
            self._programs[name] = FORKS.start(
                "tests.cluster.borrower:main", words, environment=environment, streams=streams
            )

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self._programs[name].kill()
        self._programs[name].wait(PATIENCE)

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Inside, one is stopped where it is."""
        os.kill(self._programs[name].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._programs[name].pid, signal.SIGCONT)

    def sent(self, name: str = "*") -> list[float]:
        """When requests were sent, by one or by all; sorted."""
        files = self._folder.glob(f"{name}.sent")
        return sorted(float(line) for file in files for line in file.read_text().splitlines())

    def wait(self, count: int, name: str = "*") -> None:
        """Wait until so many more requests were sent."""
        before = len(self.sent(name))
        wait_for(lambda: len(self.sent(name)) >= before + count, self.told)

    def told(self) -> str:
        """What they logged."""
        for name, program in self._programs.items():
            print(name, program.poll())
        return "".join(file.read_text()[-2000:] for file in self._folder.glob("*.log"))

    def close(self) -> None:
        for name in self._programs:
            self.kill(name)


@pytest.fixture
def borrowers(tmp_path: Path, database: str) -> Iterator[Borrowers]:
    source = SecretSource("env", "DATABASE")
    asyncio.run(migrate(Database(source, {"DATABASE": database}, label="the test")))
    made = Borrowers(tmp_path, database)
    yield made
    made.close()


def test_no_window_holds_more_requests_than_the_limit(borrowers: Borrowers, postgres: Postgres) -> None:
    for name in "abc":
        borrowers.start(name)
    for _ in range(ROUNDS):
        borrowers.wait(10)
        # It is stopped with a lease in its hand; what it may do with it is over when it is continued.
        with borrowers.paused("a"):
            borrowers.wait(LIMIT)
        borrowers.kill("b")
        borrowers.start("b")
        postgres.kill()
        postgres.start()
        borrowers.wait(LIMIT)
        borrowers.wait(1, "b")
    sent = borrowers.sent()
    spans = [late - early for early, late in zip(sent, sent[LIMIT:], strict=False)]
    assert min(spans) > WINDOW, f"{LIMIT + 1} requests within {min(spans)} s of a window of {WINDOW} s"
