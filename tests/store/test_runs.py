"""The store writes run records once, chains them, and reads them in the order of writing."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mirror.model import Run, RunKind, dumps, loads
from mirror.store.reading.reader import StoreDamaged
from mirror.store.writing.writer import StoreWriter
from tests.store.helpers import START, open_store


def run(identifier: str, kind: RunKind = "backup", when: datetime = START) -> Run:
    return Run(identifier, kind, when, when + timedelta(seconds=5), "mirror 0.1.0")


def write(store: StoreWriter, *numbers: int, kind: RunKind = "backup") -> None:
    for number in numbers:
        store.write_run(run(f"20261123t02{number:02d}00z-aaaaaa", kind))


def test_a_run_id_is_the_time_and_a_random_part(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        one, two = store.new_run_id(START), store.new_run_id(START)
        assert one.startswith("20261123t020000z-")
        assert one != two


def test_each_record_names_the_hash_of_the_one_before(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        write(store, 1, 2, 3)
        records = list(store.reader.runs())
        assert [record.previous for record in records] == [None, records[0].sha256, records[1].sha256]
        for record in records:
            assert record.sha256 == hashlib.sha256(record.path.read_bytes()).hexdigest()
            assert record.path.read_bytes() == dumps(loads(record.path.read_bytes()))


def test_a_record_is_written_once(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        write(store, 1)
        before = next(store.reader.runs()).path.read_bytes()
        with pytest.raises(FileExistsError):
            write(store, 1, kind="verify")
        assert next(store.reader.runs()).path.read_bytes() == before
        assert len(list((tmp_path / "runs").glob("*.json"))) == 1


@pytest.mark.parametrize("cache", ["kept", "lost", "broken", "older"])
def test_the_chain_follows_the_order_of_writing_not_of_ids(tmp_path: Path, cache: str) -> None:
    with open_store(tmp_path) as store:
        for number in (5, 9, 2, 7):  # runs overlap, clocks go back
            write(store, number)
            file = tmp_path / "cache" / "last-run.json"
            if cache == "lost":
                file.unlink()
            elif cache == "broken":
                file.write_bytes(b"{")
            elif cache == "older":
                older = tmp_path / "older"
                data = file.read_bytes()
                if older.exists():
                    file.write_bytes(older.read_bytes())
                older.write_bytes(data)
        assert [record.id[11:13] for record in store.reader.runs()] == ["05", "09", "02", "07"]
        assert [record.id[11:13] for record in store.reader.runs("verify")] == []


def test_the_last_run_of_a_kind_is_found_past_damaged_records(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.reader.last_run() is None
        write(store, 1, 2)
        write(store, 3, kind="verify")
        write(store, 4)
        (tmp_path / "runs" / "20261123t020400z-aaaaaa.json").write_bytes(b"{}")
        last, backup = store.reader.last_run(), store.reader.last_run("backup")
        assert last is not None
        assert backup is not None
        assert (last.id[11:13], backup.id[11:13]) == ("03", "02")
        assert last.ended == START + timedelta(seconds=5)


@pytest.mark.parametrize(
    "change",
    [{"id": "x"}, {"previous": "x"}, {"entries": {}}, {"kind": 1}, {"ended": "never"}, {"entries": [1]}],
)
def test_a_damaged_record_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    with open_store(tmp_path) as store:
        write(store, 1, 2)
        identifier = store.reader.run_ids()[0]
        path = tmp_path / "runs" / f"{identifier}.json"
        path.write_bytes(dumps(loads(path.read_bytes()) | change))
        with pytest.raises(StoreDamaged, match=rf"runs/{identifier}\.json is damaged"):
            list(store.reader.runs())
        with pytest.raises(StoreDamaged):
            store.reader.run(identifier)
        damaged: list[StoreDamaged] = []
        assert [record.id[11:13] for record in store.reader.runs(on_damage=damaged.append)] == ["02"]
        assert [one.file for one in damaged] == [f"runs/{identifier}.json"]
        # The next record continues from the last readable one.
        write(store, 3)
        assert (
            store.reader.run("20261123t020300z-aaaaaa").previous
            == store.reader.run("20261123t020200z-aaaaaa").sha256
        )


def test_other_files_beside_the_records_are_passed_over(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        write(store, 1)
        (tmp_path / "runs" / "notes.txt").write_text("mine")
        (tmp_path / "runs" / "20261123t020000z-zzzzzz.json").write_text("{}")
        assert len(store.reader.run_ids()) == 1
