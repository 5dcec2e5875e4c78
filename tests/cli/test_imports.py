"""A command imports only what it uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mirror.cli.main import COMMANDS, command_of

NEVER = {"uvicorn", "starlette", "apscheduler", "httpx", "pydantic", "yaml", "hypothesis", "pytest"}
NEVER |= {"jinja2", "markupsafe", "markdown_it"}


def imported(program: str) -> set[str]:
    """Every module that a program has imported when it ends."""
    tail = "\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program + tail], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def command(*words: str) -> str:
    return f"from mirror.cli import main\nmain({list(words)!r})"


@pytest.mark.parametrize(
    ("program", "more"),
    [
        (command("version"), {"dulwich", "urllib3", "isal", "mirror.store", "mirror.git", "mirror.config"}),
        (command("status", "--help"), {"dulwich", "urllib3", "isal", "mirror.store", "mirror.git"}),
        (command("status", "--store", "/nonexistent"), {"mirror.backup", "mirror.restore", "mirror.daemon"}),
        (
            command("restore", "a/b", "--to", "/nonexistent/to", "--store", "/nonexistent"),
            {"mirror.backup", "mirror.verify", "mirror.daemon"},
        ),
        ("import mirror.git.workers.main", {"mirror.cli", "mirror.store", "mirror.config", "mirror.backup"}),
    ],
    ids=["version", "status --help", "status", "restore", "a git worker"],
)
def test_nothing_is_imported_that_is_not_used(program: str, more: set[str]) -> None:
    found = imported(program)
    assert not found & (NEVER | more)
    assert not {name for name in found if name.startswith("mirror.simulator")}


def test_every_command_is_there() -> None:
    for name in COMMANDS:
        assert callable(command_of(name)), name
