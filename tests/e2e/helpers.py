"""Run the installed command as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from mirror.simulator import Simulator
from mirror.store.writing.writer import create_or_open
from tests.forks import FORKS

# Before every clock of the tests.
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def mirror(
    *words: str, env: dict[str, str] | None = None, cwd: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `mirror` in a process of its own, with a clean environment. The process is forked."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})}
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as errors:
        given.write(stdin.encode())
        given.seek(0)
        streams = [one.fileno() for one in (given, out, errors)]
        running = FORKS.start("mirror.cli:main", words, environment=environment, folder=cwd, streams=streams)
        try:
            code = running.wait(100)
        finally:
            running.kill()
        out.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, code, out.read().decode(), errors.read().decode())


def start_mirror(
    *words: str, env: dict[str, str] | None = None, cwd: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `mirror` as `mirror` does, but start the installed command for it."""
    return subprocess.run(
        [sys.executable, "-m", "mirror", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        input=stdin,
        timeout=100,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **(env or {}),
        },
    )


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    """The one JSON document on stdout."""
    return json.loads(done.stdout)


def write_config(
    folder: Path, simulator: Simulator, token: str, *, more: str = "", workspace: str = "acme"
) -> Path:
    """Write a configuration for the simulator, with its token in a file; returns its path."""
    secret = folder / "token"
    secret.touch(mode=0o600)
    secret.write_text(token)
    path = folder / "config.yaml"
    path.write_text(
        f"store: store\n"
        f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}',"
        f" oauth_url: '{simulator.oauth_url}'}}\n"
        f"workspaces:\n"
        f"  - workspace: {workspace}\n"
        f"    credential: {{kind: workspace_access_token, token: {{file: token}}}}\n{more}"
    )
    create_or_open(folder / "store", now=MADE).close()
    return path
