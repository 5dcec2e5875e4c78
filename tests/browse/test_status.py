"""What status shows: what upstream rewrote and removed, what keeps failing, and the state of pull
request heads."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror import browse
from mirror.browse import RepositoryStatus
from mirror.model import Outcome, Problem, RefChange, Run, RunEntry, Selector, time_text
from mirror.simulator import Fault
from mirror.simulator.world.sample import accident
from mirror.store.reading import run_records
from mirror.store.reading.troubles import FAILURES_REPORTED
from mirror.store.writing.writer import open_store
from tests.e2e.helpers import mirror
from tests.place import Place


def status(place: Place, name: str = "acme/website") -> RepositoryStatus:
    [found] = browse.status(place.config.store, [Selector.parse(name)]).repositories
    return found


def text(place: Place) -> str:
    done = mirror("status", "--store", str(place.config.store))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_what_upstream_rewrote_and_removed_stays_told(place: Place) -> None:
    await place.run()
    assert status(place).lost_refs.last is None
    old = place.acme.repositories["website"].refs()[b"refs/heads/main"]
    accident(place.world)
    when = (await place.run()).started
    assert [(c.kind, c.old) for c in _changes(place)] == [("rewritten", old)]
    # Later runs see nothing new, and status still shows it.
    place.acme.repositories["website"].commit("main", {"more": b"more\n"}, "More\n")
    await place.run()
    await place.run()
    website, api = status(place).lost_refs, status(place, "acme/api").lost_refs
    assert (website.rewritten, website.removed, website.last) == (1, 0, time_text(when))
    assert (api.rewritten, api.removed, api.last) == (0, 1, time_text(when))
    [told] = website.latest
    assert (told["name"], told["kind"], told["old"]) == ("refs/heads/main", "rewritten", old)
    printed = text(place)
    assert f"acme/website: refs upstream: 1 rewritten, the last at {time_text(when)}" in printed
    assert f"acme/api: refs upstream: 1 removed, the last at {time_text(when)}" in printed


def _changes(place: Place) -> list[RefChange]:
    """The ref changes of the website in the last run record."""
    with place.store() as store:
        last = store.last_run("backup")
        assert last is not None
        [entry] = [one for one in last.entries() if one["full_name"] == "acme/website"]
    return [
        RefChange(one["name"].encode(), one["old"], one["new"], one["kind"]) for one in entry["ref_changes"]
    ]


async def test_what_fails_again_and_again_is_told_plainly(place: Place) -> None:
    await place.run()
    assert status(place).failing is None
    place.simulator.order(Fault("*/acme/website.git/*", status=503, times=10_000))
    first = None
    for number in range(1, 6):
        run = await place.run()
        assert run.exit_code == 75
        first = first or time_text(run.started)
        failing = status(place).failing
        assert failing is not None and (failing.runs, failing.since) == (number, first)
        printed = f"failed {number} runs in a row since {first}: code partial"
        assert (printed in text(place)) is (number >= FAILURES_REPORTED)
    assert status(place, "acme/api").failing is None
    # A run that did not reach it, and one that was locked out, do not count.
    await place.run("acme/api")
    with place.store() as store:
        folder = store.repository(Selector.parse("acme/website"))
    with open_store(place.config.store, command="another") as other:
        async with other.writer_of(folder).lock(0, place.clock):
            await place.run()
    failing = status(place).failing
    assert failing is not None and failing.runs == 5 and "503" in failing.reason
    place.simulator.faults.clear()
    await place.run()
    assert status(place).failing is None
    assert "in a row" not in text(place)


async def test_heads_that_are_lost_are_told(place: Place) -> None:
    website, ann = place.acme.repositories["website"], place.world.users["ann@acme.example"]
    fork = place.acme.add_repository("fork", parent=website)
    fork.commit("idea", {"idea": b"idea\n"}, "Idea\n")
    website.open_pull_request(source="idea", title="Idea", author=ann, fork=fork)
    place.acme.delete_repository("fork")
    await place.run()
    assert status(place).heads == {"pinned": 3, "patched": 0, "lost": 1, "unknown": 0}
    assert status(place, "acme/billing").heads == {"pinned": 1, "patched": 1, "lost": 0, "unknown": 0}
    printed = text(place)
    assert "acme/website: heads of pull requests: 3 pinned, 1 lost" in printed
    assert "acme/billing: heads of pull requests: 1 pinned, 1 patched" in printed


async def test_no_record_before_the_last_checkpoint_is_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    accident(place.world)
    run = await place.run()
    _write_runs(place, run, 44, checkpoint_every=10)
    read: list[str] = []
    real = run_records.read_run

    def counted(root: Path, identifier: str) -> run_records.RunRecord:
        read.append(identifier)
        return real(root, identifier)

    monkeypatch.setattr(run_records, "read_run", counted)
    found = status(place)
    # Status still shows everything from the records before.
    assert found.failing is not None and found.failing.runs == 44
    assert found.last_confirmed is not None
    assert time_text(found.last_confirmed) == time_text(run.ended)
    assert len(set(read)) <= 11


def _write_runs(place: Place, like: Run, count: int, *, checkpoint_every: int = 100) -> None:
    """Write records of runs in which everything failed."""
    with open_store(place.config.store, command="test") as store:
        for number in range(count):
            at = like.started + timedelta(hours=number + 1)
            entries = tuple(
                RunEntry(
                    one.kind, one.full_name, one.uuid, one.folder, Outcome.FAILED,
                    problems=(Problem(1, "the disk is full"),),
                )
                for one in like.entries
            )  # fmt: skip
            run = replace(like, id=store.new_run_id(at), started=at, ended=at, entries=entries, problems=())
            store.write_run(run, checkpoint_every=checkpoint_every)
