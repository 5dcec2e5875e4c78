"""The bytes of a folder, and when they were written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

# A day in seconds.
_DAY = 86_400


@dataclass(frozen=True)
class Usage:
    """The `bytes` of all files below a folder, how many of them were written on which day (days since 1970),
    and when the newest was `written`."""

    bytes: int = 0
    by_day: Mapping[int, int] = field(default_factory=dict)
    written: datetime | None = None


def usage_of(folder: Path) -> Usage:
    """The usage of a folder now. What a writer removes meanwhile does not count."""
    total, newest = 0, 0.0
    by_day: dict[int, int] = {}
    waiting = [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as found:
            for one in found:
                if one.is_dir(follow_symlinks=False):
                    waiting.append(one.path)
                    continue
                with contextlib.suppress(OSError):
                    state = one.stat(follow_symlinks=False)
                    total, newest = total + state.st_size, max(newest, state.st_mtime)
                    day = int(state.st_mtime) // _DAY
                    by_day[day] = by_day.get(day, 0) + state.st_size
    return Usage(total, by_day, datetime.fromtimestamp(newest, UTC) if newest else None)


def day_of(when: datetime) -> int:
    """The day of a time, counted from 1970."""
    return int(when.timestamp()) // _DAY
