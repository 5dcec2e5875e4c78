"""Run an action below the shim: to record its steps, or to have an accident at one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.crash.actions import Scene
from tests.crash.checks import check_after
from tests.crash.points import Tally
from tests.crash.shim import Control, Mode, Order
from tests.crash.zygote import Ended


def trace(stage: Scene) -> list[tuple[str, bool]]:
    """The steps of a complete run: the kind of each, and whether a worker made it."""
    place = stage.place()
    with Control(place.with_suffix(".control"), place, Order(Mode.RECORD)) as control:
        ended = stage.zygote.run(
            stage.action.words, folder=place, control=control, settings=stage.action.settings
        )
        assert ended.code == 0, ended.stderr
        assert not any("\tP\t" in line for line in control.log.read_text().splitlines()), "a mapped write"
        rows = [line.split("\t") for line in control.log.read_text().splitlines()]
        return [(row[2], row[3] == "1") for row in rows if row[0] == "step"]


@contextmanager
def attempt(stage: Scene, tally: Tally, order: Order) -> Iterator[tuple[Ended, Control]]:
    """Have an accident. The caller may look at how the run ended; then this checks everything that must be
    true."""
    place = stage.place()
    with (
        tally.point(order, place) as facts,
        Control(place.with_suffix(".control"), place, order) as control,
    ):
        ended = stage.zygote.run(
            stage.action.words, folder=place, control=control, settings=stage.action.settings
        )
        facts.append(control.fired or f"not reached in {control.steps} steps")
        facts.append(f"ended with {ended.code}")
        yield ended, control
        check_after(stage, place, control, ended)
