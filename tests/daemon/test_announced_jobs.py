"""What hooks become: jobs that join, a second look, one list for what is unknown, nothing for strangers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from mirror.backup.announced import AnnouncedBackups, Visited
from mirror.backup.announcements import RepositoryVisit
from mirror.bitbucket.client.budget import Budget
from mirror.config import Config, load_text
from mirror.daemon.hooks import AGAIN_SECONDS, DISCOVERY_SECONDS, Hooks
from mirror.daemon.queue import LocalQueue
from tests.clock import HeldClock

OURS, NEW, STRANGER = "{a}", "{b}", "{c}"


class Visits:
    """Stands for the backups, and remembers what was asked of them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.is_complete = True

    async def backup(self, uuid: str, *, git_only: bool, is_second: bool) -> Visited:
        words = ["visit", uuid, *(["git only"] if git_only else []), *(["again"] if is_second else [])]
        self.log.append(" ".join(words))
        return Visited.DONE if uuid == OURS else Visited.UNKNOWN

    async def discover(self, uuids: Collection[str]) -> tuple[set[str], bool]:
        self.log.append(f"list for {', '.join(sorted(uuids))}")
        return {NEW} & set(uuids), self.is_complete


class Place:
    """The hooks of a service, and a clock that moves when the test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.visits = HeldClock(), Visits()
        for name in ("backup", "discover"):
            monkeypatch.setattr(AnnouncedBackups, name, staticmethod(getattr(self.visits, name)))
        self.hooks = Hooks(
            configured(folder), clock=self.clock, environment=os.environ, budget=Budget(self.clock),
            queue_of=lambda work: LocalQueue(work, self.clock),
        )  # fmt: skip
        self._number = 0

    def hook(self, uuid: str | None, event: bytes | None = None) -> None:
        self._number += 1
        self.hooks.announce(uuid, event or b"%d" % self._number)

    async def after(self, seconds: float) -> list[str]:
        """What was done within so many seconds."""
        await self.clock.pass_time(seconds)
        done = self.visits.log[:]
        self.visits.log.clear()
        return done


def configured(folder: Path, *, hooks: bool = True, store: str = "store") -> Config:
    text = f"store: {store}\n"
    text += "credential: {kind: workspace_access_token, token: {env: T}}\n"
    if hooks:
        text += "hooks: {url: 'https://mirror.example.org', secret: {env: H}, poll_every: 24h}\n"
    return load_text(text, "c", folder=folder)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    made = Place(tmp_path, monkeypatch)
    yield made
    await made.hooks.stop()


async def test_a_burst_of_hooks_is_one_visit(place: Place) -> None:
    for _ in range(100):
        place.hook(OURS)
    assert await place.after(1.9) == []
    assert await place.after(0.1) == [f"visit {OURS}"]
    assert await place.after(3600) == [f"visit {OURS} again"]
    state = place.hooks.state()
    assert (state.received, state.announced, state.last) == (100, 1, place.clock.start)


async def test_the_same_hook_again_asks_git_alone_and_once_a_minute(place: Place) -> None:
    place.hook(OURS, b"same")
    await place.after(2)
    await place.after(AGAIN_SECONDS)
    for _ in range(100):
        place.hook(OURS, b"same")
    assert await place.after(AGAIN_SECONDS - 1) == []
    assert await place.after(1) == [f"visit {OURS} git only"]
    assert await place.after(3600) == []


async def test_each_visit_is_followed_by_a_second_look_and_no_third(place: Place) -> None:
    place.hook(OURS)
    assert await place.after(2) == [f"visit {OURS}"]
    assert await place.after(AGAIN_SECONDS - 1) == []
    assert await place.after(1) == [f"visit {OURS} again"]
    assert await place.after(3600) == []


async def test_news_takes_the_place_of_the_second_look_that_waits(place: Place) -> None:
    for _ in range(10):
        place.hook(OURS)
        assert await place.after(2) == [f"visit {OURS}"]
    assert await place.after(3600) == [f"visit {OURS} again"]


async def test_the_same_hook_sent_for_ever_asks_the_api_for_one_second_look_at_most(place: Place) -> None:
    place.hook(OURS, b"same")
    assert await place.after(2) == [f"visit {OURS}"]
    place.hook(OURS, b"same")
    assert await place.after(AGAIN_SECONDS) == [f"visit {OURS} again"]
    for _ in range(5):
        place.hook(OURS, b"same")
        assert await place.after(AGAIN_SECONDS) == [f"visit {OURS} git only"]
    assert await place.after(3600) == []


async def test_what_is_unknown_starts_one_list_in_five_minutes(place: Place) -> None:
    place.hook(NEW)
    assert await place.after(2) == [f"visit {NEW}", f"list for {NEW}"]
    place.hook(NEW)
    place.hook(STRANGER)
    assert sorted(await place.after(2)) == [f"visit {NEW}", f"visit {STRANGER}"]
    assert await place.after(DISCOVERY_SECONDS - 3) == []
    assert await place.after(3) == [f"list for {NEW}, {STRANGER}"]
    for _ in range(50):
        place.hook(STRANGER)
    assert await place.after(3600) == []


async def test_a_list_that_broke_off_makes_no_strangers(place: Place) -> None:
    place.visits.is_complete = False
    place.hook(STRANGER)
    await place.after(2)
    place.hook(STRANGER)
    assert await place.after(DISCOVERY_SECONDS) == [f"visit {STRANGER}", f"list for {STRANGER}"]


async def test_a_stranger_that_the_schedule_backs_up_is_none_any_more(place: Place) -> None:
    place.hook(STRANGER)
    await place.after(2)
    assert place.hooks.announcements is not None
    visit = RepositoryVisit(STRANGER, "{w}", place.clock.monotonic(), True, False, False, True)
    place.hooks.announcements.note_visit(visit)
    place.hook(STRANGER)
    assert await place.after(2) == [f"visit {STRANGER}"]


async def test_a_reload_may_make_strangers_ours(place: Place, tmp_path: Path) -> None:
    place.hook(STRANGER)
    await place.after(2)
    await place.hooks.use(configured(tmp_path))
    place.hook(STRANGER)
    assert await place.after(2) == [f"visit {STRANGER}"]


async def test_of_another_store_nothing_is_known_yet(place: Place, tmp_path: Path) -> None:
    place.hook(OURS)
    visit = RepositoryVisit(OURS, "{w}", place.clock.monotonic(), True, False, False, True)
    announcements = place.hooks.announcements
    assert announcements is not None
    announcements.recall({"{w}": {"heard": True, "proofs": 3}})
    announcements.note_visit(visit)
    await place.hooks.use(configured(tmp_path))
    assert place.hooks.announcements is announcements
    assert announcements.are_trusted()
    await place.hooks.use(configured(tmp_path, store="other"))
    anew = place.hooks.announcements
    assert anew is not None
    assert (anew.poll_every, anew.are_trusted(), anew.is_known(OURS)) == (86_400, False, False)


async def test_without_the_section_runs_ask_everything(place: Place, tmp_path: Path) -> None:
    assert place.hooks.announcements is not None
    assert place.hooks.announcements.poll_every == 86_400
    await place.hooks.use(configured(tmp_path, hooks=False))
    assert place.hooks.announcements is None


async def test_a_hook_about_no_repository_and_a_refused_one_are_counted(place: Place) -> None:
    place.hook(None)
    place.hooks.refuse()
    assert await place.after(3600) == []
    state = place.hooks.state()
    assert (state.received, state.refused, state.announced) == (1, 1, 0)
