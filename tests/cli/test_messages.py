"""Messages for a person who does not know the commands: what is wrong, and what to do."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirror.simulator.world.sample import SCOPES
from mirror.store.writing.writer import StoreWriter
from tests.e2e.helpers import json_of, mirror
from tests.place import Place

ROOT = Path(__file__).parents[2]


def test_the_simulator_tells_at_once_how_to_use_it_where_its_output_is_a_file(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    with shown.open("wb") as file:
        running = subprocess.Popen(
            [sys.executable, "-m", "mirror", "simulator"],
            stdout=file,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        )
    try:
        until = time.monotonic() + 60
        while "credential:" not in shown.read_text() and time.monotonic() < until:
            time.sleep(0.05)
        assert "BITBUCKET_TOKEN=" in shown.read_text()
    finally:
        running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0


async def test_workers_that_cannot_be_started_are_told_in_one_line(place: Place) -> None:
    await place.run("acme/website")
    program = (
        "import sys; from mirror.cli.main import main; sys.executable = '/nonexistent/python';"
        f"sys.exit(main(['verify', '--store', {str(place.config.store)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 1
    assert "mirror: /nonexistent/python: No such file or directory" in done.stderr
    assert "Group" not in done.stderr


def test_a_problem_that_many_share_is_told_once(place: Place) -> None:
    first = mirror("backup", "-c", str(place.folder / "config.yaml"))
    assert first.returncode == 0
    assert "issues: gone: no longer there (410)" in first.stdout
    assert "(unavailable: credentials of this kind can never read it)" in first.stdout
    (place.folder / "token").write_text("ATCTTwrong-token")
    done = mirror("backup", "-c", str(place.folder / "config.yaml"), "-q")
    assert done.returncode == 12
    [line] = [line for line in done.stdout.splitlines() if "refused the credential for git" in line]
    names = line.partition(": ")[0].strip().split(", ")
    assert names == sorted(names) and {"acme/api", "acme/website"} <= set(names)


@pytest.mark.parametrize(
    ("selector", "hint"),
    [
        ("acme/webiste", "did you mean acme/website?"),
        ("acme/nothing-like-it", "holds of that workspace: acme/website"),
    ],
)
async def test_only_names_that_are_near_are_suggested(place: Place, selector: str, hint: str) -> None:
    await place.run("acme/website")
    done = mirror("status", selector, "--store", str(place.config.store))
    assert done.returncode == 2
    assert hint in done.stderr


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_git_repository_is_no_folder_to_restore_to(place: Place, bare: bool, overwrite: bool) -> None:
    await place.run("acme/website")
    target = place.folder / "target"
    subprocess.run(["git", "init", "-q", *(["--bare"] if bare else []), str(target)], check=True)
    before = sorted(target.rglob("*"))
    words = ("restore", "acme/website", "--to", str(target), "--store", str(place.config.store))
    done = mirror(*words, *(["--overwrite", "--yes"] if overwrite else []))
    assert done.returncode == 2
    assert f"--to file://{target}" in done.stderr
    assert sorted(target.rglob("*")) == before


async def test_before_the_first_snapshot_the_first_one_is_named(place: Place) -> None:
    await place.run("acme/website")
    [taken] = {tag for one in place.store().repositories() for tag in one.metadata.tags()}
    words = ("restore", "acme/website", "--to", str(place.folder / "x"), "--store", str(place.config.store))
    done = mirror(*words, "--at", "2001-01-01")
    assert done.returncode == 2
    assert f"the first snapshot is {taken}" in done.stderr


async def test_snapshots_without_a_name_say_how_many_each_has(place: Place) -> None:
    await place.run("acme/website")
    store = str(place.config.store)
    [taken] = {tag for one in place.store().repositories() for tag in one.metadata.tags()}
    done = mirror("snapshots", "--store", store)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["NAME", "SNAPSHOTS", "OLDEST", "NEWEST", "STATE"]
    assert ["acme/website", "1", taken, taken, "complete"] in rows
    found = json_of(mirror("snapshots", "acme/*", "--store", store, "--json"))
    [website] = [one for one in found["folders"] if one["name"] == "acme/website"]
    assert (website["snapshots"], website["last"], found["exit_code"]) == (1, taken, 0)
    # Of one, its own snapshots, as ever.
    assert "snapshots" in json_of(mirror("snapshots", "acme/website", "--store", store, "--json"))


async def test_snapshots_say_settings_of_settings_alone(place: Place) -> None:
    await place.run("acme/website")
    done = mirror("snapshots", "acme/website", "--store", str(place.config.store))
    assert done.stdout.count("of settings complete") == 1
    assert "downloads complete" in done.stdout


def test_the_next_step_after_init_names_the_store_that_was_made(place: Place) -> None:
    config, other = place.folder / "config.yaml", place.folder / "other"
    done = mirror("init", "-c", str(config), "--store", str(other))
    assert done.returncode == 0, done.stderr
    assert f"mirror backup -c {config} --store {other}" in done.stdout


async def test_a_run_whose_record_cannot_be_written_is_told_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(StoreWriter, "write_run", full)
    run = await place.run("acme/website")
    assert run.exit_code == 1
    assert [entry.outcome for entry in run.entries if entry.kind == "repository"] == ["saved"]
    assert "could not be written: No space left" in run.problems[-1].text


def test_names_of_parts_are_words_where_people_read_them(place: Place) -> None:
    narrow = place.world.add_workspace_access_token("acme", SCOPES - {"pullrequest"})
    (place.folder / "token").write_text(narrow)
    config = ("-c", str(place.folder / "config.yaml"))
    backed, status = mirror("backup", *config, "-q"), mirror("status", *config)
    assert backed.returncode == 3, backed.stdout + backed.stderr
    assert "pull requests denied: " in backed.stdout and "pull requests denied: " in status.stdout
    assert "pull_requests" not in backed.stdout + status.stdout
