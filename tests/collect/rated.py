"""A backup in a process of its own, with a clock that several processes share and that only waiting moves. An
hour of the rate limit takes no real time, and a test can kill the process."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirror import backup
from mirror.collect.context import CheckpointLimits
from mirror.config import load

START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


class SharedClock:
    """A clock whose time is in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_text("0.0")

    def monotonic(self) -> float:
        while not (text := self.path.read_text()):
            pass  # another process is writing it
        return float(text)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def pass_by(self, seconds: float) -> None:
        beside = self.path.with_suffix(f".{os.getpid()}")
        beside.write_text(repr(self.monotonic() + seconds))
        beside.replace(self.path)

    async def sleep(self, seconds: float) -> None:
        self.pass_by(seconds)
        await asyncio.sleep(0)


def main() -> int:
    """Back up, with the arguments CONFIG, CLOCK and DOCUMENTS; returns the exit code."""
    config, clock = load(Path(sys.argv[1])), SharedClock(Path(sys.argv[2]))
    limits = CheckpointLimits(documents=int(sys.argv[3]))
    run = backup.run(config, clock=clock, environment=os.environ, checkpoint_limits=limits)
    return asyncio.run(run).exit_code
