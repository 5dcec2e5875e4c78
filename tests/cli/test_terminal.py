"""What a person at a terminal sees."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from mirror.model.words import counted, label
from tests.e2e.helpers import mirror
from tests.place import Place

ROOT = Path(__file__).parents[2]
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(*words: str, columns: int = 60, program: str = "") -> str:
    """What a command or a Python program writes to a terminal of `columns` columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    running = subprocess.Popen(
        [sys.executable, *(("-c", program) if program else ("-m", "mirror", *words))],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(theirs)
    data = b""
    try:
        while chunk := os.read(ours, 65536):
            data += chunk
    except OSError:  # Linux returns EIO if the other end is closed
        pass
    os.close(ours)
    running.wait(60)
    return data.decode()


PROGRESS = """
import sys, time
from mirror import logs
from mirror.cli.terminal.output import TerminalProgress
from mirror.cli.terminal import streams
streams.prepare()
logs.configure(log_format="console")
log = logs.get_logger("backup")
with TerminalProgress(show=True) as progress:
    for number in range(5):
        progress.report("acme/website", "pull_requests", number, 5)
        time.sleep(0.15)
        log.warning("backup.told", number=number)
    progress.report("acme/website", "issues", 0, 0)
    time.sleep(0.15)
"""


def test_log_lines_stand_above_the_progress_and_none_is_lost() -> None:
    text = on_terminal(columns=100, program=PROGRESS)
    lines = [CONTROLS.sub("", line).rstrip("\r").rpartition("\r")[2].strip() for line in text.split("\n")]
    told = [line for line in lines if "backup.told" in line]
    assert [f"number={number}" in line for number, line in enumerate(told)] == [True] * 5, text
    # A log line contains no part of the progress display.
    assert not [line for line in told if "acme/website" in line]
    shown = CONTROLS.sub("", text)
    assert "acme/website: pull requests 4 of 5" in shown
    assert "pull_requests" not in shown and "0/0" not in shown and "0 of 0" not in shown


@pytest.mark.parametrize(
    ("selector", "meant"),
    [("acme/webiste", "acme/website"), ("acem", "acme"), ("acem/website", "acme/website")],
)
def test_a_name_that_is_nearly_right_is_suggested(place: Place, selector: str, meant: str) -> None:
    done = mirror("backup", selector, "-c", str(place.folder / "config.yaml"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"did you mean {meant}" in done.stdout


def test_the_hint_of_a_problem_is_shown_to_people(place: Place) -> None:
    (place.folder / "token").write_text("ATCTTwrong-token")
    done = mirror("backup", "-c", str(place.folder / "config.yaml"), "-q")
    assert done.returncode == 12
    assert "  → " in done.stdout


def test_names_for_people_are_words() -> None:
    assert label("pull_requests") == "pull requests"
    assert label("lfs") == "LFS"
    assert label("refs/heads/a_b") == "refs/heads/a_b"
    assert counted(1, "kinds_complete") == "1 kind of settings complete"
    assert counted(1, "pull_requests") == "1 pull request"
    assert counted(3, "pull_requests_to_ask") == "3 pull requests still to be requested"
    assert counted(1, "repositories") == "1 repository"
