"""Freshness: when each repository and workspace was last complete, whatever the clocks said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from mirror import backup, browse
from mirror.model import Selector
from mirror.prune import ErasureTarget, erase
from mirror.simulator import Fault
from tests.clock import FakeClock
from tests.e2e.helpers import MADE, json_of, mirror
from tests.place import Place

DAY = timedelta(days=1)


def late(place: Place, *selectors: str, most: timedelta = DAY) -> list[str]:
    chosen = [Selector.parse(one) for one in selectors]
    found = browse.stale(browse.status(place.config.store, chosen), most=most, now=place.clock.now())
    return sorted(one.partition(" ")[0] for one in found)


async def test_one_repository_does_not_make_the_others_fresh(place: Place) -> None:
    await place.run()
    assert late(place) == []
    place.clock.elapsed += 2 * 86400
    await place.run("acme/website")
    names = sorted(f"acme/{one}" for one in place.acme.repositories)
    assert late(place) == ["acme", *(one for one in names if one != "acme/website")]
    # Only selected things count: a repository can be fresh although its workspace is not.
    assert late(place, "acme/website") == []
    assert late(place, "acme/api") == ["acme/api"]
    assert late(place, "acme/website", "acme/api") == ["acme/api"]


async def test_what_fails_becomes_stale_though_other_things_do_not(place: Place) -> None:
    await place.run()
    place.simulator.order(Fault("*/repositories/acme/website/pullrequests*", status=403, times=10_000))
    for _ in range(3):
        place.clock.elapsed += 10 * 3600
        run = await place.run()
    assert run.exit_code == 3
    assert late(place) == ["acme/website"]


async def test_a_command_line_tells_which(place: Place) -> None:
    await place.run()
    store = str(place.config.store)
    # The command uses the machine's clock; the backup is at most weeks before or after it.
    done = mirror("status", "--store", store, "--max-age", "1s", "--json")
    assert done.returncode == 3
    assert any(one.startswith("acme/website was last complete at 2026-") for one in json_of(done)["stale"])
    assert mirror("status", "--store", store).returncode == 0


async def test_what_is_gone_erased_or_excluded_is_settled(place: Place) -> None:
    await place.run()
    place.acme.delete_repository("api")
    for _ in range(4):
        place.clock.elapsed += 86400
        await place.run()
    place.clock.elapsed += 60
    await erase(
        place.config.store, Selector.parse("acme/billing"), ErasureTarget(), reason="asked for", by="ann",
        clock=place.clock, environment=os.environ,
    )  # fmt: skip
    [entry] = place.config.workspaces
    config = replace(place.config, workspaces=(replace(entry, exclude=("handbook",)),))
    for _ in range(3):
        place.clock.elapsed += 86400
        run = await backup.run(config, clock=place.clock, environment=os.environ)
        assert run.exit_code == 0, run.problems
    assert late(place) == []
    states = {one.name: one.state for one in browse.status(place.config.store).repositories}
    assert states["acme/handbook"] == "excluded" and states["acme/billing"] == "erased"
    assert states["acme/api"].startswith("gone since")


async def test_nothing_was_backed_up_yet(place: Place) -> None:
    assert late(place) == ["nothing"]
    age = place.clock.now() - MADE
    assert late(place, most=age) == [], "the first backup may still come"
    place.clock.elapsed += 1
    assert late(place, most=age) == ["nothing"]


@pytest.fixture
def years_ahead(place: Place) -> Iterator[FakeClock]:
    clock = place.clock
    yield FakeClock(clock.start.replace(year=clock.start.year + 9))


async def test_a_run_years_ahead_rules_nothing(place: Place, years_ahead: FakeClock) -> None:
    await place.run()
    place.simulator.order(Fault("*/repositories/acme/api/pullrequests*", status=403, times=10_000))
    await backup.run(place.config, clock=years_ahead, environment=os.environ)
    # Only the time of that run is unknown.
    assert "acme/website" in late(place)
    place.simulator.faults.clear()
    place.acme.repositories["website"].commit("main", {"new.html": b"1\n"}, "New\n")
    run = await place.run()
    assert run.exit_code == 0
    assert late(place) == []
    found = browse.status(place.config.store)
    assert found.last_backup is not None and found.last_backup["run"] == run.id
    with place.store() as store:
        assert store.history().began["backup"].startswith("2026-")
        folder = store.repository(Selector.parse("acme/website"))
        latest = folder.metadata.latest()
        assert latest is not None and latest.time == run.started.replace(microsecond=0)
        assert folder.metadata.at("latest").snapshot == latest


async def test_what_lists_lack_for_a_day_is_not_late(place: Place) -> None:
    await place.run()
    place.acme.delete_repository("api")
    for _ in range(2):
        place.clock.elapsed += 20 * 3600
        await place.run()
    assert {one.name: one.state for one in browse.status(place.config.store).repositories}[
        "acme/api"
    ] == "absent"
    assert late(place) == []
    # Without further runs nobody knows whether it is gone.
    place.clock.elapsed += 3 * 86400
    assert "acme/api" in late(place)


async def test_a_first_export_that_waits_for_requests_is_not_late(place: Place) -> None:
    place.world.limit = 60
    place.config = replace(place.config, limits=replace(place.config.limits, api_limit=60, api_reserve=0))
    place.config = replace(place.config, limits=replace(place.config.limits, window=timedelta(seconds=1)))
    run = await place.run()
    assert run.exit_code == 75, [one.text for one in run.all_problems]
    assert late(place) == []
    # It goes on as long as runs bring more.
    place.clock.elapsed += 2 * 86400
    assert "acme/website" in late(place)


async def test_a_first_run_that_has_not_ended_is_not_late(place: Place) -> None:
    run = await place.run()
    (record,) = (place.config.store / "runs").glob(f"{run.id}.json")
    record.unlink()  # a run writes it at its end
    for file in place.config.store.rglob("*"):
        os.utime(file, (place.clock.now().timestamp(),) * 2)
    assert late(place) == []
    place.clock.elapsed += 2 * 86400
    assert "acme/website" in late(place)
