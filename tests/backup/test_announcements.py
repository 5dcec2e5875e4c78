"""How far hooks are trusted: by what the schedule finds that none of them announced."""

from __future__ import annotations

import asyncio

import pytest

from mirror.backup.announcements import LATE, PROOFS, Announcements, RepositoryVisit
from mirror.model import JsonObject
from tests.clock import FakeClock

A, ACME, OTHER = "{a}", "{acme}", "{other}"
HOUR = 3600.0


class World:
    """Announcements, and the visits that tell them what changed."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.heard = Announcements(self.clock, poll_every=24 * HOUR)

    def visit(
        self,
        uuid: str = A,
        *,
        refs: bool = False,
        moved: bool = False,
        polled: bool = True,
        scheduled: bool = True,
    ) -> None:
        began = self.clock.monotonic()
        self.clock.elapsed += 1
        self.heard.note_visit(RepositoryVisit(uuid, ACME, began, polled, refs, moved, scheduled))

    def run(self, *, refs: bool = False, moved: bool = False) -> JsonObject:
        """A scheduled run of one repository, four hours after the last."""
        self.clock.elapsed += 4 * HOUR
        began = self.clock.monotonic()
        is_poll = self.heard.is_poll_due(ACME)
        self.visit(polled=is_poll or self.heard.is_waiting(A), refs=refs, moved=moved)
        return self.heard.end_run(ACME, began, is_whole=is_poll)

    def announced(self) -> None:
        """A hook, and the visit that it causes."""
        self.heard.announce(A)
        self.clock.elapsed += 2
        self.visit(scheduled=False, moved=True)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def trusted(world: World) -> World:
    world.announced()
    for _ in range(PROOFS + 1):
        world.run()
    assert world.heard.are_trusted()
    return world


def test_trust_takes_three_whole_polls_after_the_first(world: World) -> None:
    world.announced()
    assert [world.run()["proofs"] for _ in range(5)] == [0, 1, 2, 3, 3]


def test_a_workspace_without_any_hook_is_not_trusted(world: World) -> None:
    for _ in range(10):
        assert world.run()["polled"]
    assert not world.heard.are_trusted()


def test_trust_is_one_workspace_s(trusted: World) -> None:
    assert not trusted.heard.is_poll_due(ACME)
    assert trusted.heard.is_poll_due(OTHER)


def test_a_trusted_workspace_is_polled_within_the_time(trusted: World) -> None:
    polled = [bool(trusted.run()["polled"]) for _ in range(24)]
    assert polled == [False, False, False, False, True] * 4 + [False] * 4


@pytest.mark.parametrize("found", ["refs", "moved"])
def test_a_change_that_no_hook_announced_ends_trust(trusted: World, found: str) -> None:
    for _ in range(4):
        trusted.run()  # the next one polls
    assert trusted.run(refs=found == "refs", moved=found == "moved")["polled"]
    trusted.clock.elapsed += LATE
    assert trusted.heard.is_poll_due(ACME)
    facts = trusted.run()
    assert (facts["unannounced_changes"], facts["unannounced_total"], facts["proofs"]) == (1, 1, 0)
    assert trusted.heard.unannounced == 1
    assert [trusted.run()["proofs"] for _ in range(3)] == [1, 2, 3]
    assert not trusted.heard.are_trusted()  # hooks may have stopped for good
    trusted.announced()
    assert trusted.heard.are_trusted()


@pytest.mark.parametrize("seconds", [-30.0, LATE - 30])
def test_a_hook_that_comes_a_little_before_or_after_announces(trusted: World, seconds: float) -> None:
    if seconds < 0:
        trusted.clock.elapsed += 4 * HOUR
        trusted.heard.announce(A)
        trusted.clock.elapsed -= seconds
        trusted.clock.elapsed -= 4 * HOUR
    trusted.run(refs=True)
    if seconds > 0:
        trusted.clock.elapsed += seconds
        trusted.heard.announce(A)
    trusted.clock.elapsed += LATE
    assert trusted.run()["unannounced_changes"] == 0
    assert trusted.heard.are_trusted()


def test_a_later_hook_about_something_else_explains_nothing(trusted: World) -> None:
    trusted.run(refs=True)
    trusted.clock.elapsed += LATE + 1
    trusted.announced()
    assert trusted.run()["unannounced_changes"] == 1
    assert trusted.heard.unannounced == 1


def test_changes_that_each_frequent_run_finds_are_counted_in_the_end(trusted: World) -> None:
    for _ in range(5):
        trusted.clock.elapsed += LATE / 2
        trusted.heard.is_poll_due(ACME)
        trusted.visit(refs=True)
    assert trusted.heard.unannounced > 0
    assert not trusted.heard.are_trusted()


def test_what_changed_while_nobody_listened_is_not_held_against_hooks(world: World) -> None:
    world.announced()
    world.heard = Announcements(world.clock, poll_every=24 * HOUR)
    world.heard.recall({ACME: {"heard": True, "proofs": 3, "unannounced_total": 2}})
    assert world.heard.are_trusted()
    assert world.run(refs=True, moved=True)["polled"]  # the first run polls everything
    world.clock.elapsed += LATE
    facts = world.run()
    assert (facts["polled"], facts["unannounced_total"], facts["proofs"]) == (False, 2, 3)


def test_a_poll_that_was_cut_short_proves_nothing(world: World) -> None:
    world.announced()
    for _ in range(6):
        world.clock.elapsed += 4 * HOUR
        assert world.heard.is_poll_due(ACME)
        assert world.heard.end_run(ACME, world.clock.monotonic(), is_whole=False)["proofs"] == 0


def test_an_announced_repository_waits_until_it_was_polled(world: World) -> None:
    assert not world.heard.is_waiting(A)
    world.heard.announce(A)
    assert world.heard.is_waiting(A)
    world.clock.elapsed += 1
    world.visit(polled=False)
    assert world.heard.is_waiting(A)
    assert world.heard.is_visited(A, git_only=True)
    assert not world.heard.is_visited(A, git_only=False)
    world.visit()
    assert not world.heard.is_waiting(A)
    assert world.heard.is_visited(A, git_only=False)


def test_a_hook_that_comes_once_more_asks_for_no_poll(world: World) -> None:
    world.heard.announce(A, again=True)
    assert not world.heard.is_waiting(A)
    assert not world.heard.is_visited(A, git_only=True)


@pytest.mark.parametrize("is_before", [True, False])
def test_a_hook_that_comes_once_more_explains_no_change(world: World, *, is_before: bool) -> None:
    world.announced()
    world.run()
    if is_before:
        world.heard.announce(A, again=True)
    world.run(refs=True)
    if not is_before:
        world.heard.announce(A, again=True)
    assert world.run()["unannounced_changes"] == 1


def test_a_hook_that_comes_as_a_change_is_counted_begins_trust_anew(trusted: World) -> None:
    trusted.run(refs=True)
    trusted.clock.elapsed += LATE
    trusted.announced()
    for _ in range(PROOFS + 1):
        trusted.run()
    assert trusted.heard.are_trusted()
    assert trusted.heard.unannounced == 1


async def test_visits_of_one_repository_take_turns(world: World) -> None:
    order: list[str] = []

    async def visit(name: str, uuid: str) -> None:
        async with world.heard.turn(uuid):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(visit("1", A), visit("2", A), visit("3", "{b}"))
    assert order.index("1 ends") < order.index("2 begins")
    assert order.index("3 begins") < order.index("1 ends")
