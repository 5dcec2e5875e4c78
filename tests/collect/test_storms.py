"""Mirror reports a refusal of data that was readable yesterday, although it may mean absence, until it has
lasted for days."""

from __future__ import annotations

from typing import Any

from mirror.model import Run
from mirror.simulator import Fault
from tests.collect.test_missing import DAY, part, place  # noqa: F401 - a fixture
from tests.place import Place

SAID = "Token is invalid, expired, or not supported for this endpoint."
# Kinds that may really be absent: the tracker, the key pair, and pipelines by their configuration.
ADDRESSES = (
    "*/issues",
    "*/ssh/key_pair",
    "*/pipelines_config",
    "*/pipelines/",
    "*/pipelines_config/variables",
)


def order(place: Place, *addresses: str, **more: Any) -> None:  # noqa: F811
    for address in addresses:
        place.simulator.order(Fault(f"GET {address}", times=10_000, **more))


async def first_run(place: Place) -> None:  # noqa: F811
    place.acme.repositories["website"].add_issue("Broken", author=place.world.users["ann@acme.example"])
    assert (await place.run()).exit_code == 0


def states(run: Run) -> set[str]:
    return {str(part(run, name).state) for name in ("issues", "pipelines", "settings")}


async def test_what_is_held_and_not_found_is_missing_until_that_has_lasted(place: Place) -> None:  # noqa: F811
    await first_run(place)
    order(place, *ADDRESSES, status=404)
    storm = await place.run(full=True)
    assert storm.exit_code == 3
    assert states(storm) == {"partial"}
    assert "the last copy is kept" in str(part(storm, "issues").reason)
    place.simulator.faults.clear()
    assert (await place.run(full=True)).exit_code == 0
    order(place, *ADDRESSES, status=404)
    assert (await place.run(full=True)).exit_code == 3
    place.clock.elapsed += 4 * DAY
    lasting = await place.run(full=True)
    assert lasting.exit_code == 0, [one.problems for one in lasting.entries]
    assert str(part(lasting, "issues").state) == "unavailable"
    assert str(part(lasting, "pipelines").state) == "gone"


async def test_what_is_held_is_not_out_of_reach_for_one_refusal(place: Place) -> None:  # noqa: F811
    await first_run(place)
    order(place, "*/issues", status=401, message=SAID)
    run = await place.run(full=True)
    assert run.exit_code == 3
    assert str(part(run, "issues").state) == "denied" and SAID in str(part(run, "issues").reason)
