"""A copy that is killed at any step leaves a valid store in the bucket, and the next one sends the rest."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.copy.bringing import UNFINISHED
from mirror.copy.coding import plain
from mirror.copy.session import UPLOADS
from mirror.errors import NoStore
from mirror.store.reading.reader import Store, StoreDamaged
from tests.bucket.servers import UPLOADER, ObjectServer
from tests.copy.conftest import Stores
from tests.copy.copies import Copies
from tests.copy.killing import bring_until, run_until
from tests.copy.remote import tree
from tests.copy.test_reading import content
from tests.crash.points import SOAK

# Forked from a process that has imported everything and has no threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.copy.killing", "mirror.connect.copies", "obstore", "pyrage"])


def run(copies: Copies, step: int, report: Path) -> int:
    """The exit code of a copy that dies at `step`."""
    writer = replace(copies, coding=plain())  # it cannot read what it sends
    process = PROCESSES.Process(target=run_until, args=(writer, step, str(report)))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_killed_at_any_step(
    stores: Stores, seaweed: ObjectServer, tmp_path: Path, is_encrypted: bool
) -> None:
    """First copies and later ones; each bucket meets several kills, one after the other."""
    report = tmp_path / "steps"
    first = Copies(tmp_path / "whole", seaweed, seaweed.make_bucket(), UPLOADER)
    if is_encrypted:
        first.encrypt(tmp_path)
    shutil.copytree(stores.now, first.store)
    assert run(first, 0, report) == 0
    steps, blobs = int(report.read_text()), len(blobs_of(first))
    apart = 1 if SOAK else max(1, steps // 3)
    for begin in range(1, min(apart, steps) + 1, 1 if SOAK else max(1, apart // 2)):
        name = tmp_path / f"killed-{begin}"
        copies = Copies(name, seaweed, seaweed.make_bucket(), UPLOADER, first.more, first.coding)
        shutil.copytree(stores.now, copies.store)
        step, kills, before = begin, 0, set[str]()
        while run(copies, step, report) == -signal.SIGKILL:
            kills += 1
            there = copies.there()
            there.check_whole()
            now = blobs_of(copies)
            assert before <= now
            before, step = now, max(2, apart // 2 + kills)
            if kills == 2:
                stores.put(stores.later, copies.store)
            target = tmp_path / f"there-{begin}-{kills}"
            if there.rebuild(target):
                shutil.rmtree(target)
            assert kills < 500
        assert kills > 0
        sent = int(report.read_text())
        assert sent < steps + 20, "what went up is not sent again"
        assert len(blobs_of(copies)) <= blobs + 2 + kills * UPLOADS
        await copies.sound(tmp_path / f"sound-{begin}")
        assert not list((copies.store / "tmp").glob("copying-*"))
        # The records of the copies go up with the next one; all else is there.
        here = {path: data for path, data in tree(copies.store).items() if not path.startswith("runs/")}
        there_now = tree(tmp_path / f"sound-{begin}")
        assert {path: data for path, data in there_now.items() if not path.startswith("runs/")} == here


async def test_a_store_that_is_made_from_a_copy_is_whole_or_none(
    stores: Stores, seaweed: ObjectServer, tmp_path: Path
) -> None:
    copies = Copies(tmp_path / "store", seaweed, seaweed.make_bucket(), UPLOADER)
    shutil.copytree(stores.now, copies.store)
    assert (await copies.make()).exit_code == 0
    target, whole = tmp_path / "back", content(copies.store)

    def bring(event: str) -> int:
        process = PROCESSES.Process(target=bring_until, args=(seaweed, copies.bucket, target, event))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    for event in (
        "lay 2",
        "publish workspaces",
        "take back runs",
        "publish store.json",
    ):
        assert bring(event) == -signal.SIGKILL, event
        with pytest.raises((NoStore, StoreDamaged)):
            Store.open(target)
    assert bring("end") == -signal.SIGKILL
    Store.open(target).close()
    lacking = {path for path in whole.keys() - content(target).keys() if not path.startswith("runs/")}
    assert {path.rpartition("/")[2] for path in lacking} <= {"unfinished", "looked"}
    # It is in use since: what came into it stays.
    new = next(target.glob("workspaces/*/repositories/*")) / "files" / "ab" / ("ab" * 32)
    new.parent.mkdir(parents=True)
    new.write_bytes(b"new")
    assert bring("") == 0
    assert new.exists() and not (target / UNFINISHED).exists()
    assert bring("") == 1, "it is a store, and no empty folder"


def blobs_of(copies: Copies) -> set[str]:
    """The keys of all blobs that stand there."""
    return {key for key in copies.there().objects if key.startswith("blobs/")}
