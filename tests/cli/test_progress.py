"""What a person at a terminal, and a log elsewhere, sees of a long command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from rich.cells import cell_len

from mirror.cli.terminal.progress import Work, lines_of
from mirror.model.live import Activity, Picture
from mirror.model.words import duration
from tests.cli.screen import ROOT, Screen, watched

WORK = Work("backup", "Backing up")
# A command with hundreds of repositories, eight of them at once, that logs between two pictures.
PROGRAM = """
import os
from mirror import logs
from mirror.cli.terminal import streams
from mirror.cli.terminal.progress import TerminalProgress, Work

streams.prepare()
logs.configure(log_format="console")
log, now = logs.get_logger("backup"), [0.0]
progress = TerminalProgress(Work("backup", "Backing up"), clock=lambda: now[0], no_colour=True)
with progress:
    draw = progress._display._live.refresh
    draw()
    progress.expect({f"acme/{number}": 1 for number in range(500)})
    for number in range(312):
        now[0] += 1
        progress.report(f"acme/{number}", "git")
        progress.report(f"acme/{number}", "done")
    progress.received(1204, 36_000_000)
    progress.requested(812, 188, 1000)
    for number in range(312, 320):
        progress.report(f"acme/{number}-a-rather-long-name", "git: receiving objects", number, 40_000)
    for number in range(5):
        draw()
        log.warning("backup.told", number=number, text="word " * 30)
    progress.wait("rate limit", 720)
    draw()
    if os.environ.get("STOP") == "now":
        os._exit(0)
print("the result")
"""


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_log_lines_stand_above_the_progress_and_none_is_torn(columns: int) -> None:
    screen = Screen(columns)
    screen.feed(watched(columns=columns, program=PROGRAM, environment={"STOP": "now"}))
    lines = screen.text()
    bar = next(number for number, line in enumerate(lines) if line.startswith("━"))
    above, shown = "".join(line.ljust(columns) for line in lines[:bar]), lines[bar:]
    told = re.findall(r"[\d:]{8} \[warning\] backup\.told number=(\d) text='(?:word ){30}'", above)
    assert told == ["0", "1", "2", "3", "4"], "\n".join(lines)
    assert "acme/" not in above and "━" not in above
    text = " ".join(line.strip() for line in shown)
    assert "Backing up: 312 of 500 repositories, waiting 12 min for the rate limit, about" in text
    assert "1,204 objects, 34.3 MiB received, 812 requests (188 left this hour)" in text
    assert sum(line.startswith("  acme") for line in shown) == 5 and shown[-1] == "  … and 3 more"
    assert len(shown) <= 12


@pytest.mark.parametrize("columns", [60, 200])
def test_nothing_of_it_is_left_at_the_end(columns: int) -> None:
    screen = Screen(columns)
    screen.feed(watched(columns=columns, program=PROGRAM))
    lines = screen.text()
    assert screen.has_cursor
    assert lines[-1] == "the result"
    assert not [line for line in lines if "━" in line or "acme/" in line or "Backing up" in line]


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(kind: str) -> None:
    program = PROGRAM.replace("progress._display._live.refresh", "lambda: None")
    text = watched(columns=60, program=program, environment={"TERM": kind})
    assert "\x1b[?25" not in text and "━" not in text
    assert text.endswith("the result\r\n")


def test_a_charset_without_lines_and_dots_gets_others() -> None:
    environment = {"STOP": "now", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    text = watched(columns=60, program=PROGRAM, environment=environment)
    assert "-----" in text and "~ and 3 more" in text
    assert "\\u2501" not in text and "\\u2026" not in text


TOLD = """
import os, threading
from mirror import logs
from mirror.cli.terminal import streams
from mirror.cli.terminal.progress import TerminalProgress, Work

streams.prepare()
logs.configure(verbosity=int(os.environ["VERBOSITY"]))
now, rounds = [0.0], threading.Semaphore(0)

class Counted(TerminalProgress):
    def picture(self):
        rounds.release()
        return super().picture()

progress = Counted(Work("backup", "Backing up"), clock=lambda: now[0], told_every=0.01)
progress.expect({f"acme/{number}": 1 for number in range(4)})
for number in range(2):
    progress.report(f"acme/{number}", "git")
    progress.report(f"acme/{number}", "done")
now[0] = 60.0
with progress:
    for _ in range(2):
        rounds.acquire()
"""


@pytest.mark.parametrize(("verbosity", "is_told"), [(0, True), (-1, False)])
def test_a_log_says_how_far_it_is_unless_it_is_quiet(verbosity: int, is_told: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOLD],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VERBOSITY": str(verbosity)},
    )
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert bool(lines) == is_told
    for line in lines:
        assert (line["event"], line["level"], line["done"], line["total"]) == (
            "backup.progress",
            "info",
            2,
            4,
        )
        assert line["text"] == "2 of 4 repositories, about 1 min left"


FAILING = """
import os, sys
from mirror.cli.terminal import streams
from mirror.cli.terminal.progress import TerminalProgress, Work

if sys.argv[1] == "closed":
    os.close(2)
streams.prepare()
with TerminalProgress(Work("backup", "Backing up"), clock=lambda: 0.0, told_every=0.01) as progress:
    progress.expect({"acme/a": 1})
    progress.report("acme/a", "done")
    sys.stderr.write("a line\\n" * 10)
print("the result")
"""


@pytest.mark.parametrize("how", ["closed", "broken"])
def test_an_end_of_stderr_does_not_end_the_work(how: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", FAILING, how],
        stdout=subprocess.PIPE,
        stderr=writing,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, "the result\n")


STOPPED = """
import asyncio, os, signal
from mirror.cli import main
from mirror.cli.commands import verify
from mirror.cli.terminal.progress import Work

async def run_for_ever(context):
    with context.progress(Work("verify", "Verifying")) as progress:
        progress.expect({"acme/a": 1})
        progress.report("acme/a", "git")
        progress._display._live.refresh()
        os.kill(os.getpid(), signal.SIGNAL)
        await asyncio.sleep(600)

verify.run_verify = run_for_ever
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
raise SystemExit(main(["verify", "--store", "/nonexistent"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_clean_terminal(number: signal.Signals) -> None:
    screen = Screen(60)
    screen.feed(watched(columns=60, program=STOPPED.replace("SIGNAL", number.name)))
    assert screen.has_cursor
    assert screen.text() == ["mirror: stopped"]


def test_no_line_is_wider_than_the_terminal() -> None:
    names = ("acme/a", "acme/" + "long" * 40, "acme/名前" * 9, "acme/\x1b[31mred")
    stages = ("pull_requests", "git: remote: Compressing objects:  45% (123/456)", "lfs: sending\nmore", "")
    activities = tuple(Activity(name, stage, 3, 1200) for name in names for stage in stages)
    seen = Picture(activities, 3, None, 10**9, 10**13, 10**7, 5, 86_400, 0.0, 3_000.0)
    for start in range(len(activities)):
        seen = Picture(activities[start:], 3, 9, 10**9, 10**13, 10**7, 5, 86_400, 0.0, 3_000.0)
        for width in range(20, 120, 9):
            for line in lines_of(seen, WORK, width):
                assert cell_len(line) <= width and "\x1b" not in line, (width, line)


def test_a_time_is_no_finer_than_anybody_can_use() -> None:
    assert [duration(one) for one in (0, 4, 26, 60, 61, 119 * 60, 7_500, 90_000)] == [
        "5 s", "5 s", "30 s", "1 min", "2 min", "119 min", "2 h", "25 h",
    ]  # fmt: skip
