"""A run record costs what changed. Checkpoints close the records, and prune removes them without losing what
they say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mirror.model import Outcome, Problem, RefChange, Run, RunEntry
from mirror.store.reading import run_records
from mirror.store.reading.reader import RunHistory, Store, StoreDamaged
from mirror.store.writing import run_record_writer
from mirror.store.writing.run_record_writer import CHECKPOINT_RECORDS
from mirror.store.writing.writer import StoreWriter
from tests.store.helpers import START, open_store, uuid

COUNT = 40


def entry(number: int, outcome: Outcome = Outcome.CONFIRMED, **more: object) -> RunEntry:
    plain = RunEntry(
        "repository", f"acme/r{number}", uuid(number), f"workspaces/acme~1/repositories/r{number}~1",
        outcome, snapshot="20261123T020000Z", ledger="a" * 64,
    )  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


def write(
    store: StoreWriter,
    at: int | datetime,
    different: Mapping[int, RunEntry] | None = None,
    kind: str = "backup",
    every: int = CHECKPOINT_RECORDS,
) -> Path:
    when = START + timedelta(hours=at) if isinstance(at, int) else at
    entries = [(different or {}).get(number) or entry(number) for number in range(COUNT)]
    ended = when + timedelta(minutes=5)
    run = Run(store.new_run_id(when), kind, when, ended, "mirror", tuple(entries))  # type: ignore[arg-type]
    return store.write_run(run, checkpoint_every=every)


def past(root: Path) -> RunHistory:
    with Store.open(root) as store:
        return store.history(_raise)


def _raise(damage: StoreDamaged) -> None:
    raise damage


def plain(found: RunHistory) -> object:
    return {key: value for key, value in found.to_json().items() if key != "lists"}


def test_what_is_as_before_costs_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first = write(store, 0, {n: entry(n, Outcome.SAVED) for n in range(COUNT)})
        sizes = [write(store, hours).stat().st_size for hours in range(1, 5)]
        assert max(sizes) < 700
        changed = entry(3, Outcome.SAVED, snapshot="20261123T090000Z", ledger="b" * 64)
        assert write(store, 9, {3: changed}).stat().st_size < max(sizes) + 400
        # All runs looked at the same things: one list for them, and the checkpoint of the first.
        assert len(list((tmp_path / "runs" / "lists").iterdir())) == 2
        assert first.stat().st_size < COUNT * 300
        told = store.reader.run(store.reader.run_ids()[-1]).entries()
        assert {one["full_name"]: one["outcome"] for one in told} == {
            f"acme/r{n}": "saved" if n == 3 else "confirmed" for n in range(COUNT)
        }


def test_what_stays_unwell_is_told_once(tmp_path: Path) -> None:
    ill = {
        n: entry(n, Outcome.PARTIAL, problems=(Problem(3, "issues denied", "issues"),)) for n in range(COUNT)
    }
    with open_store(tmp_path) as store:
        write(store, 0, {n: replace(one, outcome=Outcome.SAVED, problems=()) for n, one in ill.items()})
        recording_max, run_record_writer.DIFFERING_MAX = run_record_writer.DIFFERING_MAX, 5
        try:
            sizes = [write(store, hours, ill).stat().st_size for hours in range(1, 4)]
            write(store, 5)
            again = write(store, 6, ill).stat().st_size
        finally:
            run_record_writer.DIFFERING_MAX = recording_max
    assert max(*sizes, again) < 900
    assert len(list((tmp_path / "runs" / "lists").iterdir())) == 3
    told = past(tmp_path).find("repository", uuid(7))
    assert told is not None and told.outcome == "partial"
    assert told.confirmed == START + timedelta(hours=5, minutes=5)


@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
def test_a_checkpoint_tells_what_the_records_before_it_do(tmp_path: Path, every: int) -> None:
    """The result is the same for any distance of checkpoints."""
    failing = {"problems": (Problem(75, "code partial: no answer", "code"),)}
    lost = (RefChange(b"refs/heads/old", "a" * 40, None, "removed"),)
    now = entry(3, snapshot="20261123T040000Z", ledger="b" * 64)
    script: list[dict[int, RunEntry]] = [
        {n: entry(n, Outcome.SAVED) for n in range(COUNT)},
        {3: entry(3)},
        {3: replace(now, outcome=Outcome.SAVED, ref_changes=lost)},
        {4: entry(4, Outcome.PARTIAL, **failing)},
        {4: entry(4, Outcome.PARTIAL, **failing), 5: entry(5, Outcome.LOCKED)},
        {4: entry(4, Outcome.PARTIAL, **failing), 5: entry(5, Outcome.FAILED, **failing)},
        {4: entry(4, Outcome.PENDING, snapshot=None, ledger=None), 6: entry(6, Outcome.FAILED, **failing)},
        {4: entry(4, Outcome.PARTIAL, **failing), 3: replace(now, facts={"files": ["brake.json"]})},
    ]
    with open_store(tmp_path) as store:
        for hours, different in enumerate(script):
            write(store, hours, {3: now, **different}, every=every)
        write(store, 20, {3: now}, kind="prune", every=every)
    found = past(tmp_path)
    four, three = found.find("repository", uuid(4)), found.find("repository", uuid(3))
    five, six = found.find("repository", uuid(5)), found.find("repository", uuid(6))
    assert four is not None and three is not None and five is not None and six is not None
    assert (four.failures, four.failing_since) == (4, "2026-11-23T05:00:00Z")
    assert four.confirmed == START + timedelta(hours=2, minutes=5)
    assert (three.removed, three.snapshot, three.ledger) == (1, "20261123T040000Z", "b" * 64)
    assert three.confirmed_as == "20261123T040000Z" and three.files == {"brake.json"}
    assert five.failures == 0 and six.failures == 0
    assert found.last["backup"]["started"] == "2026-11-23T09:00:00Z"
    assert set(found.last) == {"backup", "prune"}


def test_a_record_of_a_wrong_clock_is_no_later_than_it_was_written(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        write(store, 0, {n: entry(n, Outcome.SAVED) for n in range(COUNT)})
        write(store, START + timedelta(days=3000), {3: entry(3, Outcome.FAILED)})
        write(store, 8)
        last = store.reader.last_run("backup")
        assert last is not None and last.started == "2026-11-23T10:00:00Z"
    found = past(tmp_path)
    assert found.began["backup"] == found.last["backup"]["started"] == "2026-11-23T10:00:00Z"
    told = found.find("repository", uuid(3))
    assert told is not None and told.outcome == "confirmed"
    assert told.confirmed == START + timedelta(hours=8, minutes=5)


def test_readers_read_no_further_back_than_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path) as store:
        for hours in range(45):
            write(store, hours, every=10)
    read: list[str] = []
    real = run_records.read_run

    def counted(root: Path, identifier: str) -> run_records.RunRecord:
        read.append(identifier)
        return real(root, identifier)

    monkeypatch.setattr(run_records, "read_run", counted)
    whole = past(tmp_path)
    assert len(set(read)) <= 11
    # The cache is lost, or older than the last record: the reader finds the record all the same.
    (tmp_path / "cache" / "last-run.json").unlink()
    assert plain(past(tmp_path)) == plain(whole)


def test_a_month_without_many_runs_has_a_checkpoint_too(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for days in (0, 10, 20, 31, 40):
            write(store, START + timedelta(days=days))
        found = [record.checkpoint is not None for record in store.reader.runs()]
    assert found == [True, False, False, True, False]


async def let_go(store: StoreWriter, now: datetime) -> tuple[int, int]:
    before, count = store.removable_records(timedelta(days=10), now)
    if count:
        run = Run(store.new_run_id(now), "prune", now, now, "mirror", facts={"records_from": before})
        store.write_run(run)
    store.remove_records(before)
    return before, count


async def test_old_records_go_and_nothing_they_tell_is_lost(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for days in range(33):
            different = {days: entry(days, Outcome.SAVED, ledger=hashlib.sha256(b"%d" % days).hexdigest())}
            write(store, START + timedelta(days=days), different, every=5)
        before = past(tmp_path)
        number, count = await let_go(store, START + timedelta(days=33))
        assert (number, count) == (21, 20)  # records 1 to 20: the 21st is a checkpoint, and so is the 26th
        assert len(store.reader.run_ids()) == 33 - 20 + 1
        assert [one.number for one in store.reader.runs()] == list(range(21, 35))
        after = past(tmp_path)
        assert {key: one.to_json() for key, one in after.folders.items()} == {
            key: one.to_json() for key, one in before.folders.items()
        }
        assert await let_go(store, START + timedelta(days=33)) == (21, 0)
        named = {one for run in store.reader.runs() for one in (run.list_sha256, run.checkpoint) if one}
        assert {path.stem for path in (tmp_path / "runs" / "lists").iterdir()} == named
        write(store, START + timedelta(days=34), every=5)
        assert past(tmp_path).records_from == 21


async def test_records_since_the_last_checkpoint_but_one_stay(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for hours in range(12):
            write(store, hours, every=5)
        assert await let_go(store, START + timedelta(days=4000)) == (6, 5)
        assert min(one.number for one in store.reader.runs()) == 6


@pytest.mark.parametrize("how", ["removed", "changed", "list"])
def test_what_is_broken_is_told_and_the_rest_is_read(tmp_path: Path, how: str) -> None:
    with open_store(tmp_path) as store:
        paths = [write(store, hours, every=5) for hours in range(14)]
    victim = paths[12]
    if how == "removed":
        victim.unlink()
    elif how == "changed":
        victim.write_bytes(victim.read_bytes().replace(b'"mirror"', b'"mirrow"'))
    else:
        for path in (tmp_path / "runs" / "lists").iterdir():
            path.unlink()
    damaged: list[StoreDamaged] = []
    with Store.open(tmp_path) as reader:
        told = reader.history(damaged.append).find("repository", uuid(1))
    assert damaged
    if how == "list":
        assert all(one.file.startswith("runs/lists/") for one in damaged)
    else:
        assert {one.file for one in damaged} == {f"runs/{victim.name}"}
        assert told is not None and told.confirmed == START + timedelta(hours=13, minutes=5)


def test_a_record_written_and_not_yet_cached_is_the_last(tmp_path: Path) -> None:
    """A run was killed after it wrote its record and before it wrote the cache."""
    with open_store(tmp_path) as store:
        write(store, 0)
        cache = (tmp_path / "cache" / "last-run.json").read_bytes()
        write(store, -48)  # under a clock that was behind
        (tmp_path / "cache" / "last-run.json").write_bytes(cache)
        last = store.reader.last_run()
        assert last is not None and last.number == 2
        write(store, 1)
        assert [one.number for one in store.reader.runs()] == [1, 2, 3]
