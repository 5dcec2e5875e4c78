"""One writer for each folder; the content of a lock file is only for people."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mirror.errors import Locked
from mirror.model import loads
from mirror.store.writing.locks import read_holder
from tests.store.helpers import MovedClock, adopt, open_store

HOLD = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock at `path` until its stdin ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.communicate(timeout=60)


async def test_the_lock_file_says_who_holds_it(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, MovedClock()):
            assert loads((writer.path / "lock").read_bytes()) == {
                "pid": os.getpid(),
                "command": "mirror backup",
                "since": "2026-11-23T02:00:00Z",
                "host": os.uname().nodename,
            }


async def test_a_second_writer_is_told_who_is_there(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first, second = adopt(store), adopt(store)
        async with first.lock(0, MovedClock()):
            with pytest.raises(
                Locked, match=rf"acme/website is locked by mirror backup \(process {os.getpid()} "
            ):
                async with second.lock(0, MovedClock()):
                    pytest.fail("both hold it")
        async with second.lock(0, MovedClock()):
            pass


async def test_waiting_ends_when_the_lock_is_free_and_other_work_goes_on(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first, second = adopt(store), adopt(store)
        order = []

        class Yielding(MovedClock):
            async def sleep(self, seconds: float) -> None:
                await super().sleep(seconds)
                await asyncio.sleep(0)

        async def holder() -> None:
            async with first.lock(0, Yielding()):
                for _ in range(5):
                    await asyncio.sleep(0)
                order.append("first")

        async def waiter() -> None:
            await asyncio.sleep(0)
            async with second.lock(600, Yielding()):
                order.append("second")

        await asyncio.gather(holder(), waiter())
        assert order == ["first", "second"]


async def test_waiting_is_bounded(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer, clock = adopt(store), MovedClock()
        child = hold(writer.path / "lock")
        try:
            with pytest.raises(Locked, match="another process"):
                async with writer.lock(90.5, clock):
                    pytest.fail("both hold it")
        finally:
            end(child)
        assert clock.ticks == 90.5


async def test_a_holder_that_was_killed_leaves_no_lock_behind(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        child = hold(writer.path / "lock")
        child.send_signal(signal.SIGKILL)
        end(child)
        async with writer.lock(0, MovedClock()):
            pass


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 300, b"[1]", b'{"pid": 1}', b'{"pid": "x", "command": 1}']
)
async def test_stale_or_broken_content_is_harmless(tmp_path: Path, content: bytes) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        (writer.path / "lock").write_bytes(content)
        assert read_holder(writer.path / "lock") is None
        async with writer.lock(0, MovedClock()):
            holder = read_holder(writer.path / "lock")
            assert holder is not None
            assert holder.pid == os.getpid()


async def test_a_worker_that_was_given_the_descriptor_keeps_the_lock(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first, second = adopt(store), adopt(store)
        async with first.lock(0, MovedClock()) as lock:
            assert not os.get_inheritable(lock.fileno)
            workers = os.dup(lock.fileno)
        with pytest.raises(Locked):
            async with second.lock(0, MovedClock()):
                pytest.fail("the worker still writes")
        os.close(workers)
        async with second.lock(0, MovedClock()):
            pass


async def test_writing_without_the_lock_is_our_own_mistake(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        with pytest.raises(AssertionError, match="without its lock"):
            writer.draft()
        with pytest.raises(AssertionError, match="without its lock"):
            writer.write_state({})


async def test_a_lock_file_that_was_removed_does_not_let_two_in(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first, second = adopt(store), adopt(store)
        async with first.lock(0, MovedClock()):
            pass
        (first.path / "lock").unlink()
        async with first.lock(0, MovedClock()):
            with pytest.raises(Locked):
                async with second.lock(0, MovedClock()):
                    pytest.fail("both hold it")
