"""C git, where it is installed: for garbage collection and commit-graphs, never for cloning and fetching."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from mirror.git.failures import GitFailed
from mirror.git.processes.parent_death import die_with_parent


def find(path: str | None = None) -> str | None:
    """The path of C git, searched in `path` (a PATH; None: this process's own); None where it is not
    installed."""
    return shutil.which("git", path=path)


def version(git: str) -> str | None:
    """The version as `git` prints it ("git version 2.39.5"); None where it does not run."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run([git, "version"], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    return None


def run(git: str, repository: Path, *words: str, stdin: bytes = b"") -> bytes:
    """Run `git` in a repository of the store; returns its output.

    A worker's environment keeps it from reading any config but the repository's own. It dies with this
    process. Raises GitFailed where it fails.
    """
    parent = os.getpid()
    # With close_fds=False the child inherits the folder's lock, the only inheritable descriptor.
    process = subprocess.Popen(
        [git, f"--git-dir={repository}", "-c", "core.fsync=all", "-c", "core.hooksPath=/dev/null", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        close_fds=False,
        preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - a worker has one thread
    )
    try:
        answer, errors = process.communicate(stdin)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        first = errors.decode("utf-8", "replace").strip().splitlines()
        text = first[0] if first else process.returncode
        raise GitFailed(f"git {words[0]} failed in {repository.name}: {text}")
    return answer
