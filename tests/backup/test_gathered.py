"""The record of what visits did: what is added while one is written comes into the next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.backup import gathered
from mirror.backup.gathered import APART_SECONDS, GATHER_SECONDS, Gathered
from mirror.model import Outcome, Run, RunEntry
from tests.clock import HeldClock


def entry(uuid: str) -> RunEntry:
    return RunEntry("repository", "acme/website", uuid, "folder", Outcome.SAVED)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_is_added_while_a_record_is_written_is_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[str]] = []
    may_end = threading.Event()

    def write(_: Path, run: Run, _after: object) -> Run:
        written.append([one.uuid for one in run.entries])
        assert may_end.wait(120)
        return replace(run, id="r")

    monkeypatch.setattr(gathered, "_write", write)
    clock = HeldClock()
    made = Gathered(lambda: tmp_path, clock)
    made.add(entry("{a}"), after=None, requests=1)
    await clock.pass_time(GATHER_SECONDS)
    await until(lambda: len(written) == 1)
    made.add(entry("{b}"), after=None, requests=1)
    may_end.set()
    await until(lambda: not made._writing.locked())
    await clock.pass_time(APART_SECONDS)
    await until(lambda: len(written) == 2)
    assert written == [["{a}"], ["{b}"]]
    await made.stop()
    assert len(written) == 2
