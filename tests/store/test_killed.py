"""Killed at any moment: the next run needs no manual work, and nothing promised is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from mirror.errors import NoStore
from mirror.fs.durable import AtomicFile, sweep
from mirror.git.documents.repack import consolidate
from mirror.model import Head, Refs, Run, loads
from mirror.store.reading.reader import Store
from mirror.store.writing import draft
from mirror.store.writing.writer import StoreWriter
from tests.store.helpers import ACME, PARTS, START, A, MovedClock, open_store, website

REFS = Refs({b"refs/heads/main": A}, Head("symref", b"refs/heads/main"))
# Every change to the disk goes through one of these.
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


def a_run(path: Path, number: int) -> None:
    """A run step by step: names, documents, checkpoint, cursor, file, snapshot, record, index."""
    clock = MovedClock(START + timedelta(hours=number))

    async def work(store: StoreWriter) -> None:
        workspace = store.adopt_workspace(ACME, clock.now())
        writer = store.adopt_repository(workspace, website(f"website-{number}"), clock.now())
        async with writer.lock(0, clock):
            draft = writer.draft()
            done = writer.read_state().get("done", -1)
            assert all(draft.get(f"{one}.json") is not None for one in range(done + 1)), "a cursor runs ahead"
            for one in range(number + 1):
                draft.put(f"{one}.json", {"number": one})
            draft.checkpoint()
            writer.write_state({"done": number})
            pointer = await draft.put_file([b"log %d" % number], "log", text=True)
            draft.put("log.json", pointer)
            writer.snapshot(draft, begun=clock.now(), program="p", parts=PARTS, refs=REFS)
            writer.write_state({"done": number})
        store.write_run(Run(store.new_run_id(clock.now()), "backup", clock.now(), clock.now(), "p"))
        store.rebuild_index(clock.now())

    with open_store(path) as store:
        asyncio.run(work(store))


def killed_at(moment: int, work: Callable[[], None]) -> bool:
    """Run `work` in a child that kills itself with SIGKILL before its `moment`-th change; returns whether it
    died."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert status == 0 or os.WIFSIGNALED(status), "the child failed by itself"
        return status != 0
    left = moment

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_CREAT | os.O_RDWR)
        if event in _CHANGES or writes:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def check_readable(path: Path) -> int:
    """A reader finds only complete snapshots, at any moment; returns how many."""
    try:
        with Store.open(path) as store:
            count = 0
            for repository in store.repositories():
                for snapshot in repository.metadata.snapshots():
                    count += 1
                    pointer = repository.metadata.read(snapshot, "log.json") or {}
                    stream = repository.file(pointer["sha256"])
                    assert stream is not None
                    with stream:
                        assert stream.read().startswith(b"log ")
                    assert repository.metadata.code_refs(snapshot) == (REFS, {})
            return count
    except NoStore:
        return 0


def test_a_run_that_is_killed_before_any_of_its_changes_is_made_good_by_the_next(tmp_path: Path) -> None:
    moment = 0
    while True:
        path = tmp_path / str(moment)
        if not killed_at(moment, partial(a_run, path, 0)):
            break
        assert check_readable(path) in (0, 1)
        a_run(path, 0)
        check_whole(path, snapshots=1)
        moment += 1
    assert moment > 40


@pytest.mark.parametrize("packs", [50, 1])
def test_the_second_run_too_may_be_killed_and_takes_nothing_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packs: int
) -> None:
    # With 1, every run merges packs.
    monkeypatch.setattr(draft, "consolidate", partial(consolidate, packs_max=packs))
    moment = 0
    while True:
        path = tmp_path / str(moment)
        a_run(path, 0)
        if not killed_at(moment, partial(a_run, path, 1)):
            break
        assert check_readable(path) in (1, 2)
        a_run(path, 1)
        check_whole(path, snapshots=2)
        moment += 1
    assert moment > 30


def check_whole(path: Path, *, snapshots: int) -> None:
    """Every snapshot exists, the chain of records is intact, the index is correct, no temporary file
    remains."""
    assert check_readable(path) == snapshots
    with Store.open(path) as store:
        [repository] = store.repositories()
        assert [one.sequence for one in repository.metadata.snapshots()] == list(range(1, snapshots + 1))
        records = list(store.runs())
        assert [one.previous for one in records] == [None, *(one.sha256 for one in records[:-1])]
        index = loads((path / "index.json").read_bytes())
        assert index["names"][repository.full_name] == [repository.relative()]
    left = [one for one in path.rglob("*") if one.name.endswith((".tmp", ".new")) or "tmp_pack" in one.name]
    assert left == []


def test_a_sweep_takes_leftovers_and_spares_what_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "state.json.0123abcd.tmp").write_bytes(b"{")
    (tmp_path / "notes.tmp").write_bytes(b"a person's own")
    (tmp_path / "x.0123abcd.tmp").mkdir()
    (tmp_path / "y.0123abcd.tmp").symlink_to(tmp_path / "notes.tmp")
    with AtomicFile(tmp_path, "file") as new:
        new.stream.write(b"half")
        assert sweep(tmp_path) == 1
        new.stream.write(b" and half")
        new.publish(tmp_path / "done")
    assert (tmp_path / "done").read_bytes() == b"half and half"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "done",
        "notes.tmp",
        "x.0123abcd.tmp",
        "y.0123abcd.tmp",
    ]
    assert sweep(tmp_path / "nowhere") == 0
