"""What collecting lost is found by a drill although every checksum passes, and the command records it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mirror import browse, verify
from mirror.cli.main import main
from mirror.cli.system import SystemClock
from mirror.drill.originals import choose
from mirror.model import Selector
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import open_store
from tests.drill.sample import whole_store

PULL_REQUEST = "pull-requests/0/3.json"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_store(), tmp_path / "store", symlinks=True))


async def _lose(path: Path) -> None:
    """Take a snapshot as a run does that forgets a comment and a setting."""
    clock = SystemClock()
    with open_store(path, command="test") as opened:
        folder = opened.reader.repository(Selector("acme", "website"))
        writer = opened.writer_of(folder)
        last = folder.metadata.latest()
        assert last is not None
        async with writer.lock(0, clock):
            draft = writer.draft()
            document: Any = draft.get(PULL_REQUEST)
            document["comments"] = document["comments"][1:]
            draft.put(PULL_REQUEST, document)
            draft.remove("settings/webhooks.json")
            writer.snapshot(draft, begun=clock.now(), program=last.program, parts=last.parts)


def test_what_collecting_lost_passes_verify_and_not_a_drill(store: Path) -> None:
    asyncio.run(_lose(store))
    found = asyncio.run(
        verify.run(store, [Selector("acme", "website")], level="refs", share=Fraction(1), clock=SystemClock())
    )
    assert found.exit_code == 0
    with Store.open(store) as opened:
        [chosen] = choose(opened, [Selector("acme", "website")])
        lines = [one.line for one in chosen.contradictions()]
    assert f"acme/website {PULL_REQUEST}: it has 0 comments, and Bitbucket counted 1" in lines
    assert any("settings/webhooks.json: the snapshot says that webhooks were read" in line for line in lines)
    assert any("the activity names the comment 5, which is missing" in line for line in lines)
    assert len(lines) == 3


def test_stores_of_earlier_versions_agree_with_themselves(tmp_path: Path) -> None:
    kept = sorted((Path(__file__).parents[1] / "stores").glob("*.tar.gz"))
    assert len(kept) > 4
    for archive in kept:
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path / archive.name, filter="data")
        [found] = (tmp_path / archive.name).rglob("store.json")
        with Store.open(found.parent) as store:
            for chosen in choose(store, []):
                assert [one.line for one in chosen.contradictions()] == [], archive.name


def test_a_repository_that_was_never_backed_up_is_told(store: Path) -> None:
    with Store.open(store) as opened:
        shutil.rmtree(store / opened.repository(Selector("acme", "api")).place)
    with Store.open(store) as opened:
        [chosen] = choose(opened, [Selector("acme")])
    assert [(one.code, one.text) for one in chosen.problems] == [
        (3, "acme/api: the workspace has it, and the store does not")
    ]


def test_the_command_records_and_status_shows(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["status", "--store", str(store), "-q"]) == 0
    assert "Last drill: never" in capsys.readouterr().out
    assert main(["drill", "acme/handbook", "--store", str(store), "-q"]) == 0
    out = capsys.readouterr().out
    assert "everything that can come back came back" in out
    assert "into Bitbucket, within its limits, it would take less than a minute with" in out
    last = browse.status(store).last_drill
    assert last is not None and last["exit_code"] == 0
    assert main(["status", "--store", str(store), "-q"]) == 0
    out = capsys.readouterr().out
    assert "today, of acme/handbook only (exit code 0): everything that can come back came back" in out
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_read_only_copy_is_rehearsed_and_not_recorded(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("mirror.cli.commands.drill.open_store", refuse)
    before = sorted(one.name for one in (store / "runs").iterdir())
    assert main(["drill", "acme/handbook", "--store", str(store), "-q"]) == 0
    assert "This drill was not recorded: [Errno 30] Read-only file system" in capsys.readouterr().out
    assert sorted(one.name for one in (store / "runs").iterdir()) == before
