"""A full disk, a read-only one, permissions, too many open files, a broken disk: at any step, once or from
then on. The run names the fault, loses nothing, and the next run continues when the disk works again."""

from __future__ import annotations

import pytest

from tests.crash.actions import ACTIONS, Scene
from tests.crash.attempts import attempt, trace
from tests.crash.points import SOAK, Tally, chosen
from tests.crash.shim import FAILING, Mode, Order

SMALL = [name for name in ACTIONS if not name.startswith("large")]
SHORT = 4


def orders(stage: Scene) -> list[Order]:
    """Every error at every step at which a file system can return it, once and permanently."""
    return [
        Order(mode, at, error=error)
        for at, (kind, _) in enumerate(trace(stage), start=1)
        for error, kinds in FAILING.items()
        if kind in kinds
        for mode in (Mode.FAIL_ONCE, Mode.FAIL_ON)
    ]


def kind(order: Order) -> tuple[str, Mode]:
    """The error, and whether it stays."""
    return order.error, order.mode


@pytest.mark.git
@pytest.mark.timeout(6 * 3600 if SOAK else 1800)
@pytest.mark.parametrize("stage", SMALL, indirect=True)
def test_the_disk_refuses(stage: Scene) -> None:
    tally = Tally(stage.name, "refuses")
    for order in chosen(stage.name, orders(stage), SHORT, kind):
        with attempt(stage, tally, order) as (ended, control):
            assert "Traceback" not in ended.stderr, ended.stderr[-3000:]
            assert ended.code in (0, 1, 3, 4, 75), f"{ended.code}: {ended.stdout} {ended.stderr}"
            if order.mode is Mode.FAIL_ON and control.fired:
                assert ended.code != 0, "nothing could be written, and it says all is well"
    tally.end()
