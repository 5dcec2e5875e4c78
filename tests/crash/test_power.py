"""The power fails at any moment of a run: everything that was not fsynced may be gone, and nothing is
lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.crash.actions import ACTIONS, Scene
from tests.crash.checks import check_after
from tests.crash.points import SOAK, Tally, chosen
from tests.crash.power import Disk, Outcome, effects
from tests.crash.shim import Control, Mode, Order
from tests.crash.zygote import Ended

SMALL = [name for name in ACTIONS if not name.startswith("large")]
SHORT = 3


def recorded(stage: Scene) -> tuple[Path, list[list[str]], Path]:
    """The record of a complete run: its folder, its effects, and the bytes that were fsynced."""
    place = stage.place()
    with Control(place.with_suffix(".control"), place, Order(Mode.RECORD)) as control:
        ended = stage.zygote.run(
            stage.action.words, folder=place, control=control, settings=stage.action.settings
        )
        assert ended.code == 0, ended.stderr
        return place, list(effects(control.log)), control.blobs


def outcome_of(point: str) -> str:
    """What happens to everything that was not durable."""
    return point.partition(":")[0]


@pytest.mark.git
@pytest.mark.timeout(6 * 3600 if SOAK else 1800)
@pytest.mark.parametrize("stage", SMALL, indirect=True)
def test_the_power_fails(stage: Scene) -> None:
    root, rows, blobs = recorded(stage)
    tally = Tally(stage.name, "power")
    points = [f"{outcome}:{at}" for at in range(1, len(rows)) for outcome in Outcome]
    points = chosen(stage.name, points, SHORT, outcome_of) + [f"{outcome}:{len(rows)}" for outcome in Outcome]
    for point in points:
        outcome, _, at = point.partition(":")
        with tally.point(point, stage.folder / "disk") as facts:
            facts.append(f"after {rows[int(at) - 1]}")
            place = stage.place()
            disk = Disk(root, place, blobs)
            for row in rows[: int(at)]:
                disk.take(row)
            failed = stage.folder / "disk"
            shutil.rmtree(failed, ignore_errors=True)
            disk.write(failed, Outcome(outcome), point)
            shutil.rmtree(place)
            # Everything that the run reported as done is there.
            ended = Ended(0, "", "") if int(at) == len(rows) else None
            check_after(stage, failed, None, ended)
    tally.end()
