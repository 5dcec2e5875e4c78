"""Measure wall time, processor time and memory."""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What something used: wall and processor seconds, and peak memory in MiB (0: not measured)."""

    wall: float
    cpu: float
    memory: float = 0.0


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure, but the maximum of memory."""
    return Cost(
        statistics.median(one.wall for one in costs),
        statistics.median(one.cpu for one in costs),
        max(one.memory for one in costs),
    )


class Memory:
    """Context manager: the peak memory in KiB of all child processes together, and of this one if `own`. It
    counts anonymous and shared memory, each page once, but no file mappings."""

    def __init__(self, *, own: bool = True) -> None:
        self._own = own
        self.most = 0

    def __enter__(self) -> Memory:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(
                self.most,
                sum(_private(one) for one in _family(os.getpid()) if self._own or one != os.getpid()),
            )


def _family(pid: int) -> list[int]:
    try:
        below = [
            int(one)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for one in (task / "children").read_text().split()
        ]
    except OSError:
        return [pid]
    return [pid, *(each for one in below for each in _family(one))]


def _private(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))


def command(words: Sequence[str], *, memory: bool = False, stdin: str = "") -> Cost:
    """Run a command. Raises if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    watch = Memory(own=False)
    if memory:
        with watch:
            done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    else:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, watch.most / 1024)


def processor_seconds(pids: Sequence[int]) -> float:
    """Processor seconds so far of these processes and of the children that they waited for."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += sum(int(one) for one in fields[11:15])
    return total / _TICKS


def most_memory(pids: Sequence[int]) -> int:
    """The most memory that one of these processes had so far, in MiB."""
    states = [Path(f"/proc/{pid}/status").read_text(encoding="ascii") for pid in pids]
    return max(int(found[1]) for one in states if (found := re.search(r"VmHWM:\s+(\d+)", one))) // 1024


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
