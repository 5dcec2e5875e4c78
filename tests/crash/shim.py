"""The Python side of the shim: build it when first needed, give it an order, and read what happened.

`python -m tests.crash.shim -- backup -c config.yaml` runs one `mirror` command below it. The environment
gives the order: MIRROR_CRASH_BELOW (the folder to watch), MIRROR_CRASH_MODE (record, kill, tear, fail_once,
fail_on), MIRROR_CRASH_AT (the step), MIRROR_CRASH_WHO (self, main, all, workers), MIRROR_CRASH_ERROR (ENOSPC
and so on). At the end it prints on stderr what it did.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType

import pytest

SOURCE = Path(__file__).with_name("shim.c")
ROOT = SOURCE.parents[2]
CONTROL = "MIRROR_CRASH_CONTROL"
_PATH_MAX = 4096


class Mode(IntEnum):
    """What the shim does; the numbers are those of shim.c."""

    OFF = 0
    RECORD = 1
    KILL = 2
    TEAR = 3
    FAIL_ONCE = 4
    FAIL_ON = 5


class Who(IntEnum):
    """Which process is killed: the one that makes the step, the main one, all, or all except the main one."""

    SELF = 0
    MAIN = 1
    ALL = 2
    WORKERS = 3


# Kinds of step: C create, O open to write, W write, S fsync a file, D fsync a folder, R rename, U unlink,
# M mkdir, X rmdir, L link, T truncate, H chmod, P map to write, E start a program.
# Errors occur only where a file system can return them.
FAILING = {
    "ENOSPC": "CWSMRL",
    "EROFS": "COWTRUMXLH",
    "EACCES": "COTRUMXL",
    "EMFILE": "CO",
    "EIO": "COWSDTRUMXLH",
}


class _Layout(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_long),
        ("at", ctypes.c_long),
        ("fired", ctypes.c_long),
        ("blobs", ctypes.c_long),
        ("mode", ctypes.c_int),
        ("who", ctypes.c_int),
        ("error", ctypes.c_int),
        ("leader", ctypes.c_int),
        ("pid_count", ctypes.c_int),
        ("busy", ctypes.c_int),
        ("pids", ctypes.c_int * 256),
        ("kinds", ctypes.c_char * 64),
        ("fired_what", ctypes.c_char * 64),
        ("fired_path", ctypes.c_char * _PATH_MAX),
        ("below", ctypes.c_char * _PATH_MAX),
        ("log", ctypes.c_char * _PATH_MAX),
        ("blob_folder", ctypes.c_char * _PATH_MAX),
    ]


@dataclass(frozen=True)
class Order:
    """What happens at the step `at`. `error` is the name of an errno."""

    mode: Mode
    at: int = 0
    who: Who = Who.ALL
    error: str = ""

    def __str__(self) -> str:
        what = self.mode.name.lower()
        whom = self.error if self.error else self.who.name.lower()
        return f"{what}:{whom}:{self.at}"

    @classmethod
    def parse(cls, text: str) -> Order:
        """Parse an order from its text form."""
        mode, whom, at = text.split(":")
        if whom in FAILING:
            return cls(Mode[mode.upper()], int(at), error=whom)
        return cls(Mode[mode.upper()], int(at), Who[whom.upper()])


class Control:
    """Context manager: one watched run, with the file that all its processes share."""

    def __init__(self, folder: Path, below: Path, order: Order) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "control"
        self.log = folder / "log"
        self.blobs = folder / "blobs"
        self.blobs.mkdir(exist_ok=True)
        with self.path.open("w+b") as stream:
            stream.truncate(ctypes.sizeof(_Layout))
            self._map = mmap.mmap(stream.fileno(), ctypes.sizeof(_Layout))
        found = _Layout.from_buffer(self._map)
        found.mode, found.at, found.who = order.mode, order.at, order.who
        if order.error:
            found.error = getattr(errno, order.error)
            found.kinds = FAILING[order.error].encode()
        found.below, found.log = os.fsencode(below), os.fsencode(self.log)
        found.blob_folder = os.fsencode(self.blobs)
        del found

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()

    def _read(self) -> _Layout:
        return _Layout.from_buffer_copy(self._map)

    @property
    def steps(self) -> int:
        """The number of steps so far."""
        return int(self._read().count)

    @property
    def fired(self) -> str:
        """What the shim hit, or an empty text."""
        found = self._read()
        return f"{found.fired_what.decode()}, {os.fsdecode(found.fired_path)}" if found.fired else ""

    @property
    def pids(self) -> tuple[int, ...]:
        """Every process that made a step or was started."""
        found = self._read()
        return tuple(pid for pid in found.pids[: found.pid_count] if pid)

    def environment(self) -> dict[str, str]:
        """The environment variables that make the shim watch a program."""
        return {"LD_PRELOAD": str(library()), CONTROL: str(self.path)}


def library() -> Path:
    """The path of the shim. Builds it if this version is not built yet; skips the test without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        if os.environ.get("CI"):
            pytest.fail("CI must have Linux and a C compiler")
        pytest.skip("kills are ordered by a preloaded library: they need Linux and a C compiler")
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"mirror-crash-{os.getuid()}-{digest}.so"
    if not target.exists():
        beside = target.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [
                compiler,
                "-O1",
                "-fPIC",
                "-shared",
                "-D_LARGEFILE64_SOURCE",
                "-o",
                str(beside),
                str(SOURCE),
                "-ldl",
            ],
            check=True,
        )
        beside.rename(target)
    return target


def _order(environment: Mapping[str, str]) -> Order:
    return Order(
        Mode[environment.get("MIRROR_CRASH_MODE", "record").upper()],
        int(environment.get("MIRROR_CRASH_AT", "0")),
        Who[environment.get("MIRROR_CRASH_WHO", "all").upper()],
        environment.get("MIRROR_CRASH_ERROR", ""),
    )


def main() -> int:
    """Run one command below the shim, as the environment says."""
    words = sys.argv[sys.argv.index("--") + 1 :]
    below = Path(os.environ["MIRROR_CRASH_BELOW"]).resolve()
    folder = Path(tempfile.mkdtemp(prefix="mirror-crash-"))
    with Control(folder, below, _order(os.environ)) as control:
        done = subprocess.run(
            [sys.executable, "-m", "mirror", *words], env={**os.environ, **control.environment()}
        )
        print(f"{control.steps} steps; {control.fired or 'nothing was hit'}; {folder}", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
