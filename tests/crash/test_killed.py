"""Killed with SIGKILL before any of its steps, or in the middle of a write: nothing is lost, no process or
lock remains, and the next run needs no manual work."""

from __future__ import annotations

import pytest

from tests.crash.actions import ACTIONS, Scene
from tests.crash.attempts import attempt, trace
from tests.crash.points import SOAK, Tally, chosen
from tests.crash.shim import Mode, Order, Who

SMALL = [name for name in ACTIONS if not name.startswith("large")]
LARGE = [name for name in ACTIONS if name.startswith("large")]
SHORT = 4


def orders(stage: Scene) -> list[Order]:
    """Every way to kill a run: before each step, each process that can die then; and in the middle of a
    write."""
    found = []
    for at, (kind, worker) in enumerate(trace(stage), start=1):
        found.append(Order(Mode.KILL, at, Who.ALL))
        if worker:
            found += [Order(Mode.KILL, at, Who.SELF), Order(Mode.KILL, at, Who.MAIN)]
        if kind == "W":
            found.append(Order(Mode.TEAR, at, Who.ALL))
    return found


def kind(order: Order) -> tuple[Mode, Who]:
    """The way to kill."""
    return order.mode, order.who


def try_all(stage: Scene) -> None:
    tally = Tally(stage.name, "kill")
    for order in chosen(stage.name, orders(stage), SHORT, kind):
        with attempt(stage, tally, order):
            pass
    tally.end()


@pytest.mark.git
@pytest.mark.timeout(6 * 3600 if SOAK else 1800)
@pytest.mark.parametrize("stage", SMALL, indirect=True)
def test_killed_at_any_step_of_a_small_run(stage: Scene) -> None:
    try_all(stage)


@pytest.mark.git
@pytest.mark.timeout(6 * 3600 if SOAK else 1800)
@pytest.mark.parametrize("stage", LARGE, indirect=True)
def test_killed_at_some_steps_of_a_large_run(stage: Scene) -> None:
    try_all(stage)
