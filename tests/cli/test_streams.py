"""Whatever happens to stdin, stdout and stderr: Mirror does the work, saves it and records it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from mirror.model import JsonObject
from mirror.store.reading.reader import Store
from tests.place import Place

FULL = Path("/dev/full")
need_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def start(
    *words: str,
    stdout: int | IO[Any] = subprocess.PIPE,
    stderr: int | IO[Any] = subprocess.PIPE,
    closed: Iterable[int] = (),
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `mirror` in a process of its own, with some standard descriptors closed."""
    closing = " ".join(f"{number}<&-" if number == 0 else f"{number}>&-" for number in closed)
    return subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-m", "mirror", *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), **(env or {})},
    )


def nobody_reads() -> int:
    """The write end of a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def records(place: Place) -> list[JsonObject]:
    with Store.open(place.config.store) as store:
        return [run.data for run in store.runs("backup")]


def is_saved(place: Place) -> bool:
    with Store.open(place.config.store) as store:
        return all(one.metadata.latest() is not None for one in store.repositories())


def the_store(place: Place) -> tuple[str, str]:
    return "-c", str(place.folder / "config.yaml")


@pytest.mark.parametrize("stderr", ["nobody reads", pytest.param("disk full", marks=need_full), "closed"])
def test_a_log_that_cannot_be_written_stops_nothing(place: Place, stderr: str) -> None:
    if stderr == "closed":
        running = start("backup", *the_store(place), closed=[2])
    else:
        with os.fdopen(nobody_reads(), "wb") if stderr == "nobody reads" else FULL.open("wb") as target:
            running = start("backup", *the_store(place), stderr=target)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0, out
    [record] = records(place)
    assert record["exit_code"] == 0 and is_saved(place)
    assert record["facts"]["log_lines_lost"] > 3


def test_a_log_that_is_written_is_not_said_to_be_lost(place: Place) -> None:
    running = start("backup", *the_store(place))
    running.communicate(timeout=60)
    [record] = records(place)
    assert "log_lines_lost" not in record["facts"]


@pytest.mark.parametrize("stdout", ["nobody reads", pytest.param("disk full", marks=need_full), "closed"])
def test_a_result_that_cannot_be_written_ends_with_1_after_everything_is_saved(
    place: Place, stdout: str
) -> None:
    if stdout == "closed":
        running = start("backup", *the_store(place), closed=[0, 1])
    else:
        with os.fdopen(nobody_reads(), "wb") if stdout == "nobody reads" else FULL.open("wb") as target:
            running = start("backup", *the_store(place), stdout=target)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 1, told
    [record] = records(place)
    assert record["exit_code"] == 0 and is_saved(place)
    # A reader that went away has seen enough; Mirror reports every other failure.
    assert (b"the result could not be written" in told) == (stdout != "nobody reads")
    assert b"Traceback" not in told and b"Exception ignored" not in told


def test_no_file_of_the_store_gets_a_standard_descriptor(place: Place) -> None:
    """Output for stdout must never go to a file that got its descriptor number."""
    running = start("backup", "--json", *the_store(place), closed=[0, 1, 2])
    running.communicate(timeout=60)
    assert running.returncode == 1
    [record] = records(place)
    assert record["exit_code"] == 0
    checked = start("verify", *the_store(place))
    out, _ = checked.communicate(timeout=60)
    assert checked.returncode == 0, out


@pytest.mark.parametrize("charset", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
async def test_a_charset_that_lacks_a_sign_is_no_error(place: Place, charset: dict[str, str]) -> None:
    website = place.acme.repositories["website"]
    website.description = "Zażółć 🦔"
    await place.run("acme/website")
    where = ("--store", str(place.config.store))
    shown = start("show", "acme/website", "repository.json", *where, env=charset)
    out, told = shown.communicate(timeout=60)
    assert shown.returncode == 0, told
    assert json.loads(out)["description"] == "Zażółć 🦔"
    refused = start("status", "--store", str(place.folder / "żółw"), env=charset)
    _, told = refused.communicate(timeout=60)
    assert refused.returncode == 10 and b"there is no store" in told


def test_a_daemon_outlives_whoever_reads_its_log(place: Place) -> None:
    config = place.folder / "config.yaml"
    config.write_text(config.read_text() + "schedule: {backup: every 4h}\n")
    running = start("daemon", "-c", str(config), stdout=subprocess.DEVNULL)
    try:
        assert running.stderr is not None
        running.stderr.readline()
        running.stderr.close()
        deadline = time.monotonic() + 60
        while not records(place) and time.monotonic() < deadline:
            time.sleep(0.1)
        [record] = records(place)
        assert record["exit_code"] == 0 and is_saved(place)
        assert record["facts"]["log_lines_lost"] > 0
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
