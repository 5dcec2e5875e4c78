"""The ledger lists every snapshot, kept or removed, whatever interrupts the writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.git.documents.repository import Documents
from mirror.model import loads
from mirror.store.format.seal import seal_fault
from mirror.store.reading.reader import Ledger
from mirror.store.writing import ledger_writer
from mirror.store.writing.writer import RepositoryWriter
from tests.store.helpers import MovedClock, adopt, open_store, take


async def several(writer: RepositoryWriter, clock: MovedClock, count: int, begin: int = 0) -> None:
    for number in range(begin, begin + count):
        await take(writer, {"repository.json": {"n": number}}, clock)
        clock.move(hours=4)


def ledger_of(writer: RepositoryWriter) -> Ledger:
    ledger = writer.folder.ledger()
    assert ledger is not None
    return ledger


async def test_it_lists_what_was_taken(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        assert writer.folder.ledger() is None
        await several(writer, clock, 3)
        ledger = ledger_of(writer)
        taken = writer.folder.metadata.snapshots()
        assert [(one.id, one.sequence, one.tree) for one in ledger.snapshots] == [
            (one.id, one.sequence, one.tree) for one in taken
        ]
        assert ledger.latest == taken[-1] and ledger.listed_from == 1 and not ledger.gaps
        assert len(ledger.previous) == 2
        file = writer.path / "snapshots.json"
        assert seal_fault(file.read_bytes()) is None
        again = await take(writer, {"repository.json": {"n": 2}}, clock)
        assert not again.changed and again.ledger == ledger.sha256


async def test_when_a_snapshot_was_last_confirmed_is_told_with_the_next(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await several(writer, clock, 1)
        [first] = writer.folder.metadata.tags()
        confirmed = clock.now()
        clock.move(hours=4)
        async with writer.lock(0, clock):
            draft = writer.draft()
            draft.put("repository.json", {"n": 7})
            writer.snapshot(
                draft, begun=clock.now(), program="mirror", parts={}, last_confirmed=(first, confirmed)
            )
        assert [one.confirmed for one in ledger_of(writer).snapshots] == [confirmed, None]


async def test_what_a_killed_run_took_is_listed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await several(writer, clock, 1)
        with monkeypatch.context() as patch:
            patch.setattr(ledger_writer.LedgerWriter, "update", _killed)
            with pytest.raises(KeyboardInterrupt):
                await several(writer, clock, 1, begin=1)
        assert len(ledger_of(writer).snapshots) == 1 and len(writer.folder.metadata.tags()) == 2
        await take(writer, {"repository.json": {"n": 1}}, clock)  # nothing new
        assert [one.sequence for one in ledger_of(writer).snapshots] == [1, 2]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


async def test_what_goes_is_told_before_it_goes_and_stays_listed(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await several(writer, clock, 3)
        first, second, _ = writer.folder.metadata.tags()
        async with writer.lock(0, clock):
            writer.mark_removed([first, second], "20261123t020000z-aaaaaa", "retention")
            # Killed here, with the first tag removed and the second still present: that snapshot is kept.
            writer.documents.set_refs({f"refs/tags/{first}": None})
        await several(writer, clock, 1, begin=3)
        ledger = ledger_of(writer)
        assert [one.sequence for one in ledger.snapshots] == [1, 2, 3, 4]
        assert list(ledger.kept) == list(writer.folder.metadata.tags())
        gone = ledger.snapshots[0].removal
        assert gone is not None and (gone.run, gone.why) == ("20261123t020000z-aaaaaa", "retention")


async def test_a_lost_snapshot_stays_listed_as_kept(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await several(writer, clock, 2)
        first = next(iter(writer.folder.metadata.tags()))
        with Documents(writer.folder.metadata.path) as documents:
            documents.set_refs({f"refs/tags/{first}": None})
        await several(writer, clock, 1, begin=2)
        assert first in ledger_of(writer).kept


@pytest.mark.parametrize("how", ["lost", "damaged"])
async def test_a_ledger_that_is_lost_or_damaged_is_made_anew_and_told(tmp_path: Path, how: str) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        for number in range(2):
            async with writer.lock(0, clock):
                draft = writer.draft()
                draft.put("repository.json", {"n": number})
                writer.snapshot(draft, begun=clock.now(), program="mirror", parts={}, refs=None)
                writer.write_state({})
            clock.move(hours=1)
        file = writer.path / "snapshots.json"
        old = file.read_bytes()
        if how == "lost":
            file.unlink()
        else:
            file.write_bytes(old[:100])
        async with writer.lock(0, clock):
            writer.read_state()
            draft = writer.draft()
            if how == "damaged":  # a run without changes does not read it
                draft.put("repository.json", {"n": 9})
            writer.snapshot(draft, begun=clock.now(), program="mirror", parts={})
            assert writer.ledger_fault is not None and "snapshots.json" in writer.ledger_fault
        assert list(ledger_of(writer).kept) == list(writer.folder.metadata.tags())
        kept = [path.read_bytes() for path in (tmp_path / "quarantine").iterdir()]
        assert kept == ([old[:100]] if how == "damaged" else [])


async def test_very_many_that_were_let_go_are_not_listed_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "REMOVED_MAX", 3)
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await several(writer, clock, 10)
        ids = list(writer.folder.metadata.tags())
        gone = [one for one in ids if one not in (ids[1], ids[-1])]
        async with writer.lock(0, clock):
            writer.mark_removed(gone, "20261123t020000z-aaaaaa", "retention")
            writer.documents.set_refs({f"refs/tags/{one}": None for one in gone})
        ledger = ledger_of(writer)
        assert [one.sequence for one in ledger.snapshots] == [2, 7, 8, 9, 10]
        assert ledger.listed_from == 7 and not ledger.gaps
        await several(writer, clock, 1, begin=10)
        assert not ledger_of(writer).gaps


async def test_a_folder_of_an_older_version_gets_one(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await several(writer, clock, 5)
        (writer.path / "snapshots.json").unlink()
        first, second, *_ = writer.folder.metadata.tags()
        with Documents(writer.folder.metadata.path) as documents:  # prune removed one, long ago
            documents.set_refs({f"refs/tags/{second}": None})
        await take(writer, {"repository.json": {"n": 4}}, clock)
        ledger = ledger_of(writer)
        assert [one.sequence for one in ledger.snapshots] == [1, 3, 4, 5]
        assert ledger.listed_from == 3 and not ledger.gaps and first in ledger.kept
        assert loads((writer.path / "snapshots.json").read_bytes())["schema"] == 1
