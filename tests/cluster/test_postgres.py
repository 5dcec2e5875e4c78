"""The PostgreSQL that the other tests rely on: it survives what they do to it, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.cluster.postgres import PATIENCE, Postgres, need_postgres


def test_each_test_has_a_database_and_it_outlives_a_restart_and_a_kill(postgres: Postgres) -> None:
    template = postgres.make_database()
    postgres.query("CREATE TABLE kept (number int); INSERT INTO kept VALUES (7)", template)
    one, other = postgres.make_database(template), postgres.make_database(template)
    postgres.query("INSERT INTO kept VALUES (8)", one)
    postgres.restart()
    postgres.query("CHECKPOINT")
    postgres.kill()
    postgres.start()
    assert postgres.query("SELECT number FROM kept ORDER BY 1", one) == [["7"], ["8"]]
    assert postgres.query("SELECT number FROM kept", other) == [["7"]]
    for name in (one, other, template):
        postgres.drop_database(name)


def test_over_tcp_it_asks_for_the_password(postgres: Postgres) -> None:
    address = "127.0.54.32"  # another server of this machine may have the usual one
    postgres.listen(address)
    try:
        url = postgres.url("postgres", address)
        with psycopg.connect(url, password=postgres.password) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url, password="wrong")
    finally:
        postgres.listen()


def test_a_paused_server_answers_when_it_is_continued(postgres: Postgres, database: str) -> None:
    with psycopg.connect(database) as connection:
        postgres.pause()
        try:
            asked = subprocess.Popen(
                [sys.executable, "-c", "import psycopg, sys; psycopg.connect(sys.argv[1])", database]
            )
            with pytest.raises(subprocess.TimeoutExpired):
                asked.wait(0.5)
        finally:
            postgres.proceed()
        assert asked.wait(PATIENCE) == 0
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_nothing_is_left_when_the_tests_are_killed() -> None:
    need_postgres()
    code = (
        "from tests.cluster.postgres import *\n"
        "made = Postgres(need_postgres()); print(made.folder, made.pid, flush=True); time.sleep(600)"
    )
    tests = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
    )
    assert tests.stdout is not None
    with tests.stdout:
        folder, pid = tests.stdout.readline().split()
        assert Path(folder, "data", "postmaster.pid").exists()
        tests.send_signal(signal.SIGKILL)
        tests.wait()
    deadline = time.monotonic() + PATIENCE
    while Path(folder).exists() or Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "something is left"
        time.sleep(0.05)
