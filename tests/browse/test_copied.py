"""Status tells of each copy how old it is, what it lacks and why, and that one was never made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror import browse
from mirror.browse import Status, Urgency
from mirror.browse.copied import CopyStatus
from mirror.browse.freshness import copies_in
from mirror.browse.repository.condition import condition
from mirror.config import Config, load_text
from mirror.model import JsonObject, Outcome, Problem, Run, RunEntry
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import StoreWriter
from tests.e2e.helpers import json_of, mirror
from tests.store.helpers import ACME, MovedClock, open_store, take, website

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
ONE, TWO = "s3://one/acme", "s3://two/acme"


def config_of(schedule: str, folder: Path = Path("/nonexistent"), store: str = "s") -> Config:
    text = (
        f"store: {store}\ncredential: {{kind: workspace_access_token, token: {{env: T}}}}\n"
        f"schedule: {{{schedule}}}\ncopies: [{{to: '{ONE}'}}]\n"
    )
    return load_text(text, "config.yaml", folder=folder)


def last(code: int, *problems: str) -> JsonObject:
    when = "2026-11-29T11:00:00Z"
    return {"run": "r", "started": when, "ended": when, "exit_code": code, "problems": list(problems),
            "facts": {}}  # fmt: skip


def of(*copies: CopyStatus) -> Status:
    return Status("/store", (), None, None, None, copies=copies, folders=14)


def told(found: Status, config: Config | None, now: datetime = NOW) -> list[tuple[Urgency, str]]:
    several = browse.concerns(found, {}, copies_in(found, config, now))
    return [(one.urgency, one.reason) for one in several]


GOOD = CopyStatus(ONE, last(0), NOW - timedelta(hours=7), "r", 14, 0)


def test_one_that_is_configured_and_was_never_made_is_told() -> None:
    config = config_of("backup: every 4h, copy: after backup")
    assert told(of(), config) == [(Urgency.MISSING, f"the copy at {ONE} was never made")]
    [one] = copies_in(of(), config, NOW)
    assert (one.behind, one.folders, one.is_configured) == (14, 14, True)


@pytest.mark.parametrize(
    ("schedule", "hours", "is_late"),
    [
        ("backup: every 4h, copy: after backup", 7.9, False),
        ("backup: every 4h, copy: after backup", 8.1, True),
        ("backup: every 4h, copy: every 1h", 2.1, True),
        ("backup: every 4h, copy: '0 5 * * *'", 47.9, False),
        ("backup: every 4h, copy: '0 5 * * *'", 48.1, True),
        ("backup: every 4h", 9999, False),  # nobody said how often
    ],
)
def test_one_that_is_older_than_two_intervals_is_told(schedule: str, hours: float, is_late: bool) -> None:
    good = NOW - timedelta(hours=hours)
    found = told(of(replace(GOOD, last_good=good)), config_of(schedule))
    assert [urgency for urgency, _ in found] == [Urgency.STALE] * is_late
    assert all(f"the copy at {ONE} was last good at 2026-11-2" in text for _, text in found)


def test_why_one_failed_is_told_and_how_old_it_is() -> None:
    ill = replace(GOOD, last=last(75, "no answer"))
    [(urgency, text)] = told(of(ill), config_of("backup: every 4h, copy: after backup"))
    assert urgency is Urgency.FAILING
    assert text == (
        f"the copy at {ONE}: the last try ended with 75: no answer; it was last good at 2026-11-29T05:00:00Z"
    )
    [(urgency, text)] = told(of(replace(ill, last=last(4, "damaged"), last_good=None)), None)
    assert urgency is Urgency.DAMAGE and text.endswith("damaged; it was never good")


def test_what_a_check_found_is_told_until_another_finds_nothing() -> None:
    config = config_of("backup: every 4h, copy: after backup")
    bad = {**last(4, "blobs/a: it is missing", "blobs/b: it is missing"), "facts": {"faults": 2}}
    [(urgency, text)] = told(of(replace(GOOD, check=bad)), config)
    assert urgency is Urgency.DAMAGE
    assert text.endswith("the check of 2026-11-29T11:00:00Z found 2 faults: blobs/a: it is missing")
    assert told(of(replace(GOOD, check=last(0))), config) == []


def test_a_stopped_one_and_one_that_is_no_longer_configured_are_no_concern() -> None:
    config = config_of("backup: every 4h, copy: after backup")
    assert told(of(replace(GOOD, last=last(130, "stopped"))), config) == []
    old = replace(GOOD, to=TWO, last=last(12, "refused"))
    assert told(of(GOOD, old), config) == []
    assert [one.is_configured for one in copies_in(of(GOOD, old), config, NOW)] == [True, False]


def test_an_address_that_was_mistyped_is_forgotten_after_some_weeks() -> None:
    config = config_of("backup: every 4h, copy: after backup")
    slip = replace(GOOD, to=TWO, last=last(10, "no such bucket"), last_good=None)
    for days, is_told in ((29, True), (31, False)):
        ended = f"{datetime(2026, 11, 29, 11, tzinfo=UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
        found = replace(of(GOOD, slip), jobs={"backup": {**last(0), "ended": ended}})
        for judged in (copies_in(found, config, NOW), copies_in(found, None)):
            assert (TWO in [one.to for one in judged]) == is_told
        # One that is configured is told for ever, and so is one that was good once.
        config_of_it = replace(config, copies=(replace(config.copies[0], to=TWO),))
        assert TWO in [one.to for one in copies_in(found, config_of_it, NOW)]
        good = replace(found, copies=(replace(slip, last_good=NOW),))
        assert TWO in [one.to for one in copies_in(good, config, NOW)]


def test_a_wrong_clock_makes_none_good() -> None:
    config = config_of("backup: every 4h, copy: after backup")
    [(urgency, text)] = told(of(replace(GOOD, last_good=NOW + timedelta(days=900))), config)
    assert urgency is Urgency.STALE and text.endswith("in the future: a wrong clock")


class Life:
    """A store with two repositories, and records of backups and copies."""

    def __init__(self, store: StoreWriter) -> None:
        self.store, self.clock = store, MovedClock()

    async def fill(self) -> None:
        home = self.store.adopt_workspace(ACME, self.clock.now())
        await take(home, {"workspace.json": {}}, self.clock)
        for number, name in enumerate(("website", "shop"), 1):
            found = self.store.adopt_repository(home, website(name, number=number), self.clock.now())
            await take(found, {"repository.json": {}}, self.clock)

    def backup(self, ledgers: dict[str, str]) -> None:
        entries = [
            RunEntry(
                "repository",
                one.full_name,
                one.uuid,
                one.folder,
                Outcome.SAVED,
                ledger=ledgers[one.slug] * 64,
            )
            for one in self.store.reader.repositories()
        ]
        entries += [
            RunEntry("workspace", one.slug, one.uuid, one.place, Outcome.SAVED, ledger="c" * 64)
            for one in self.store.reader.workspaces()
        ]
        self._write("backup", tuple(entries))

    def copy(self, to: str, number: int, problem: Problem | None = None) -> None:
        counts = {"folders": {"copied": 1, "failed": 0}, "bytes": 3, "requests": 2}
        facts = {"to": to, "covers": "r", "covers_number": number, **counts}
        self._write("copy", problems=(problem,) if problem else (), facts=facts)

    def _write(self, kind: str, entries: tuple[RunEntry, ...] = (), **more: object) -> None:
        now = self.clock.now()
        run = Run(self.store.new_run_id(now), kind, now, now, "mirror", entries, **more)  # type: ignore[arg-type]
        self.store.write_run(run)


async def test_which_folders_a_copy_lacks_is_known_from_the_records(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        life = Life(store)
        await life.fill()
        life.backup({"website": "a", "shop": "a"})
        life.copy(ONE, 1)
        life.backup({"website": "a", "shop": "b"})
        life.copy(TWO, 3)
    found = browse.status(tmp_path / "s")
    assert [(one.to, one.behind, one.folders) for one in found.copies] == [(ONE, 1, 3), (TWO, 0, 3)]
    assert {one.name: one.not_copied_to for one in found.repositories} == {
        "acme/website": (), "acme/shop": (ONE,),
    }  # fmt: skip
    with Store.open(tmp_path / "s") as reader:
        [shop] = [one for one in reader.repositories() if one.slug == "shop"]
        state = {one.to: one.has_it for one in condition(reader, shop, [ONE, TWO, "s3://new/acme"]).copies}
    assert state == {ONE: False, TWO: True, "s3://new/acme": False}


async def test_the_command_tells_each_copy_in_a_line(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        life = Life(store)
        await life.fill()
        life.backup({"website": "a", "shop": "a"})
        life.copy(TWO, 1, Problem(75, "no answer"))
    config = tmp_path / "config.yaml"
    config.write_text(
        "store: s\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
        f"copies: [{{to: '{ONE}'}}]\n"
    )
    told = mirror("status", "-c", str(config)).stdout
    assert f"Copy at {ONE}: never made" in told
    assert f"the copy at {ONE} was never made" in told and "mirror copy" in told
    assert f"Copy at {TWO}: never good; the last try ended with 75: no answer; no longer configured" in told
    data = json_of(mirror("status", "-c", str(config), "--json"))
    assert [(one["to"], one["is_configured"]) for one in data["copies"]] == [(ONE, True), (TWO, False)]
    assert data["copies"][1]["last"]["facts"]["requests"] == 2
    # Another store than the configured one.
    alone = json_of(mirror("status", "-c", str(config), "--store", str(tmp_path / "s"), "--json"))
    assert len(alone["copies"]) == 2
