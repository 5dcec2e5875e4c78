"""What records say of copies stays known past checkpoints and removed records, at a bounded cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.model import Outcome, Problem, Run, RunEntry
from mirror.store.reading.copy_history import COPIES_MAX, CopyHistory
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import StoreWriter
from tests.store.helpers import START, open_store, uuid

OFF_SITE = "s3://offsite/acme"


def entry(number: int, ledger: str = "a", outcome: Outcome = Outcome.CONFIRMED, **more: object) -> RunEntry:
    folder = f"workspaces/acme~1/repositories/r{number}~1"
    plain = RunEntry("repository", f"acme/r{number}", uuid(number), folder, outcome, ledger=ledger * 64)
    return replace(plain, **more)  # type: ignore[arg-type]


class Life:
    """Writes one record after the other."""

    def __init__(self, store: StoreWriter) -> None:
        self.store, self.hours = store, 0

    def backup(self, *entries: RunEntry, every: int = 100) -> int:
        self.hours += 1
        when = START + timedelta(hours=self.hours)
        run = Run(self.store.new_run_id(when), "backup", when, when, "mirror", entries)
        self.store.write_run(run, checkpoint_every=every)
        return self.hours

    def copy(
        self, *failed: RunEntry, to: str = OFF_SITE, problem: Problem | None = None, **facts: Any
    ) -> Run:
        self.hours += 1
        when = START + timedelta(hours=self.hours)
        several = {"to": to, "folders": {"copied": 1, "failed": len(failed)}, "bytes": 5, **facts}
        problems = (problem,) if problem is not None else ()
        run = Run(self.store.new_run_id(when), "copy", when, when + timedelta(minutes=5), "mirror", failed,
                  problems, several)  # fmt: skip
        self.store.write_run(run)
        return run

    def known(self, to: str = OFF_SITE) -> CopyHistory:
        with Store.open(self.store.reader.path) as store:
            return store.history().copies[to]

    def lacking(self, to: str = OFF_SITE) -> set[str]:
        with Store.open(self.store.reader.path) as store:
            history = store.history()
            copy = history.copies[to]
            return {
                one.full_name for one in history.folders.values() if copy.lacks(one.key, one.changed)
            }  # fmt: skip


def tell_the_story(life: Life, every: int) -> None:
    life.backup(entry(1, outcome=Outcome.SAVED), entry(2, outcome=Outcome.SAVED), every=every)
    life.copy(covers="one", covers_number=1)
    life.backup(entry(1), entry(2, "b", Outcome.SAVED), every=every)


def test_what_changed_since_is_lacking(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        life = Life(store)
        tell_the_story(life, every=100)
        assert life.lacking() == {"acme/r2"}
        life.copy(covers="three", covers_number=3)
        assert life.lacking() == set()
        assert life.known().covers == "three"
        # A repository that never had any success is no part of it; one that is new is.
        life.backup(entry(1), entry(2, "b"), entry(3, outcome=Outcome.SAVED))
        assert life.lacking() == {"acme/r3"}


def test_a_checkpoint_in_between_changes_nothing(tmp_path: Path) -> None:
    answers = []
    for every in (100, 1):
        with open_store(tmp_path / str(every)) as store:
            life = Life(store)
            tell_the_story(life, every)
            answers.append((life.lacking(), replace(life.known(), last=None)))
            life.backup(entry(1), entry(2, "b"), every=every)
            assert life.lacking() == {"acme/r2"}
    assert answers[0] == answers[1]


def test_what_failed_is_lacking_and_the_rest_is_not(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        life = Life(store)
        tell_the_story(life, every=100)
        first = life.known().good
        life.copy(entry(1, outcome=Outcome.FAILED, problems=(Problem(1, "unreadable"),)), covers_number=3)
        known = life.known()
        assert life.lacking() == {"acme/r1"}
        assert (known.good, known.covers) == (first, "one")
        assert known.last is not None and known.last["exit_code"] == 1
        assert known.last["facts"] == {"folders": {"copied": 1, "failed": 1}, "bytes": 5}


def test_a_try_that_reached_nothing_keeps_what_was_known(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        life = Life(store)
        tell_the_story(life, every=100)
        before = life.known()
        life.copy(problem=Problem(75, "no answer"))
        known = life.known()
        assert known.last is not None and known.last["problems"] == ["no answer"]
        assert replace(known, last=None) == replace(before, last=None)


def test_a_try_that_did_not_come_to_every_folder_says_nothing_of_what_is_lacking(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        life = Life(store)
        tell_the_story(life, every=100)
        life.copy(covers_number=3, folders={"copied": 1, "untried": 3})
        assert life.lacking() == {"acme/r2"}
        life.copy(covers_number=3, problem=Problem(130, "stopped"))
        assert life.lacking() == {"acme/r2"}


def test_checks_and_dry_runs_are_no_copies(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        life = Life(store)
        life.copy(covers="one", covers_number=1)
        life.copy(action="check")
        life.copy(dry_run=True)
        assert life.known().last is not None and life.known().last["started"].endswith("T03:00:00Z")  # type: ignore[index]


@pytest.mark.parametrize("every", [100, 1])
def test_the_last_check_is_known_and_is_no_run_of_the_copy(tmp_path: Path, every: int) -> None:
    with open_store(tmp_path) as store:
        life = Life(store)
        life.copy(covers="one", covers_number=1)
        assert life.known().check is None and "check" not in life.known().to_json()
        first = life.copy(action="check", faults=2, read=True, problem=Problem(4, "blobs/a: it is missing"))
        life.backup(entry(1), every=every)
        life.copy(to="s3://never/sent", action="check", faults=0)
        life.backup(entry(1), every=every)
        known = life.known()
        assert known.check is not None and known.last is not None
        assert (known.check["run"], known.check["exit_code"]) == (first.id, 4)
        assert known.check["facts"] == {"read": True, "faults": 2}
        assert known.last["exit_code"] == 0 and life.known("s3://never/sent").last is None
        with Store.open(store.reader.path) as reader:
            assert reader.history().last["copy"]["exit_code"] == 0
            assert reader.history().scoped["copy"]["exit_code"] == 0
        life.copy(action="check", faults=0)
        assert life.known().check["exit_code"] == 0  # type: ignore[index]


def test_few_addresses_are_remembered(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        life = Life(store)
        for number in range(COPIES_MAX + 3):
            life.copy(to=f"s3://offsite/{number}")
        with Store.open(store.reader.path) as reader:
            found = reader.history().copies
        assert len(found) == COPIES_MAX
        assert f"s3://offsite/{COPIES_MAX + 2}" in found and "s3://offsite/0" not in found


def test_a_folder_that_came_from_another_store_is_lacking_until_it_is_copied(tmp_path: Path) -> None:
    """The numbers of the other store's records mean nothing here."""
    with open_store(tmp_path) as store:
        life = Life(store)
        tell_the_story(life, every=100)
        life.copy(covers_number=3)
        known = {
            "kind": "repository", "uuid": uuid(9), "full_name": "acme/r9", "folder": "", "entry": None,
            "whole": None, "snapshot": None, "ledger": "d" * 64, "changed": 1,
        }  # fmt: skip
        arrived = entry(9, "d", Outcome.ARRIVED, facts={"history": known})
        when = START + timedelta(hours=30)
        store.write_run(Run(store.new_run_id(when), "move", when, when, "mirror", (arrived,)))
        assert life.lacking() == {"acme/r9"}
        life.copy(covers_number=5)
        assert life.lacking() == set()
