"""`mirror` with another clock and in another network, as `Host` starts it: what a machine of its own has."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import select
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import apscheduler.schedulers.base

import mirror.cli
from tests.cluster.network import enter

TRIAL = "MIRROR_TRIAL"


class OwnClock:
    """The machine's clock, `ahead` of the others' by so many seconds, whose time goes `speed` times as fast
    since `began` (of CLOCK_MONOTONIC, which all processes share)."""

    def __init__(self, *, ahead: float = 0.0, speed: float = 1.0, began: float = 0.0) -> None:
        self.ahead, self.speed, self.began = ahead, speed, began
        self._start = datetime.now(UTC) - timedelta(seconds=time.monotonic() - began)

    def now(self) -> datetime:
        passed = (time.monotonic() - self.began) * self.speed
        return self._start + timedelta(seconds=passed + self.ahead)

    def monotonic(self) -> float:
        return time.monotonic() * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


def main() -> int:
    """Run the command that the arguments name, as the variable MIRROR_TRIAL says."""
    told = json.loads(os.environ.pop(TRIAL))
    end_with(told["tests"])
    if told["namespace"] is not None:
        enter(Path(told["namespace"]))
    for name, value in told["replaced"].items():
        module, _, constant = name.rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, constant), name
        setattr(found, constant, value)
    _tell_time(OwnClock(**told["clock"]))
    return mirror.cli.main()


def _tell_time(clock: OwnClock) -> None:
    """Let the program read this clock, and APScheduler too."""

    class Told(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return clock.now().astimezone(tz or UTC)

    apscheduler.schedulers.base.datetime = Told
    sys.modules["mirror.cli.main"].SystemClock = lambda: clock  # type: ignore[attr-defined]


def end_with(tests: int) -> None:
    """End this process when the one that runs the tests has ended, however it did."""
    handle = os.pidfd_open(tests)

    def wait() -> None:
        select.select([handle], [], [])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
