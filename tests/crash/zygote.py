"""A process that has imported the program once and forks for every run, so that a start costs almost nothing.

A run is the command itself, `mirror.cli.main`, in a process of its own below the shim. It forks its
workers, too, except in a soak. Orders come as JSON lines on stdin: argv, cwd, env, watched (the shim's
variables, where it watches), settings (arguments that functions get in that process), starts_workers,
output. Answers: how the process ended.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.crash.points import SOAK
from tests.crash.shim import CONTROL, ROOT, Control, library
from tests.forks import Worker, fork_worker, import_all

TIMEOUT = 90.0
# The dotted name of a function where it was imported, and the arguments that it gets.
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (negative: the signal), and its output."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.stdout)


class Zygote:
    """Context manager: the parent's side."""

    def __enter__(self) -> Zygote:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(library())},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        control: Control | None = None,
        env: Mapping[str, str] | None = None,
        settings: Settings | None = None,
    ) -> Ended:
        """Run one command in `folder` to its end."""
        output = folder.with_suffix(".output")  # beside it, because the shim does not watch it there
        order = {
            "argv": list(argv),
            "cwd": str(folder),
            "env": {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})},
            "watched": control.environment() if control is not None else {},
            "settings": dict(settings or {}),
            "starts_workers": SOAK,
            "output": str(output),
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "timeout" not in answer, f"{argv} did not end in {TIMEOUT} s"
        return Ended(answer["code"], Path(f"{output}.out").read_text(), Path(f"{output}.err").read_text())


def _wait(child: int) -> dict[str, Any]:
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return {"code": os.waitstatus_to_exitcode(status)}
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {"timeout": True}


def _set_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Have whoever calls the function (or class) `name`, where it was imported, call it with `arguments`."""
    from mirror.git.mirrors.maintenance import MaintenanceLimits

    module, _, function = name.rpartition(".")
    where = importlib.import_module(module)
    given = {
        key: MaintenanceLimits(**one) if key == "maintenance_limits" else one
        for key, one in arguments.items()
    }
    setattr(where, function, functools.partial(getattr(where, function), **given))


async def _fork_worker(
    watched: Mapping[str, str], descriptor: int, environment: Mapping[str, str], memory: int
) -> Worker:
    """Fork a worker. The programs that it starts are watched as well."""
    return await fork_worker(descriptor, {**environment, **watched}, memory)


def _run(order: Mapping[str, Any]) -> None:
    """In the forked process: become the command."""
    from mirror.cli import main
    from mirror.git.workers import pool

    for number, suffix in ((0, ""), (1, ".out"), (2, ".err")):
        path = order["output"] + suffix if suffix else os.devnull
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    for name, arguments in order["settings"].items():
        _set_arguments(name, arguments)
    if not order["starts_workers"]:
        pool.start_process = functools.partial(_fork_worker, order["watched"])  # type: ignore[assignment]
    if order["watched"]:
        os.environ[CONTROL] = order["watched"][CONTROL]
        assert ctypes.CDLL(None).crash_arm(os.fsencode(order["watched"][CONTROL])) == 0
    code = main(order["argv"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Read and execute orders until stdin ends."""
    import_all()
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                _run(order)
            except BaseException:
                traceback.print_exc()
            os._exit(99)
        answers.write(json.dumps(_wait(child)) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
