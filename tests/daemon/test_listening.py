"""The listeners of the service: opened before it is ready, opened anew at a reload, and after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.config import Config, load_text
from mirror.daemon.listening import Listening
from mirror.daemon.service import _Service
from mirror.errors import UsageError
from mirror.model.live import HookEvents, Live
from tests.clock import FakeClock

BASE = "store: s\ncredential: {kind: workspace_access_token, token: {env: T}}\nschedule: {backup: every 4h}\n"


def a_config(folder: Path, store: str = "s") -> Config:
    return load_text(BASE.replace("store: s", f"store: {store}"), "config.yaml", folder=folder)


class Opened:
    """Listeners that do nothing but remember what they were opened for. `fail` lets one of them fail."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fail = asyncio.Event()
        self.refused: set[str] = set()
        self.live: Live | None = None

    @asynccontextmanager
    async def __call__(self, config: Config, live: Live, hooks: HookEvents) -> AsyncIterator[None]:
        name = config.store.name
        if name in self.refused:
            raise UsageError(f"web.listen: cannot listen for {name}")
        self.live = live
        hooks.announce(None, b"never raises")
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self._serve())
            self.log.append(f"opened {name}")
            try:
                yield
            finally:
                self.log.append(f"closed {name}")
                serving.cancel()

    async def _serve(self) -> None:
        await self.fail.wait()
        self.fail.clear()
        raise OSError("the socket is gone")


def listening_of(opened: Opened, folder: Path) -> tuple[Listening, _Service]:
    service = _Service(a_config(folder), lambda: a_config(folder), FakeClock(), {}, opened)
    return service._listening, service


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def test_they_are_opened_closed_and_told_what_runs(tmp_path: Path) -> None:
    opened = Opened()
    listening, service = listening_of(opened, tmp_path)
    await listening.open(service.means.config)
    assert opened.live is not None
    service.state.running["backup"] = service.state.since
    assert [one.kind for one in opened.live.running()] == ["backup"]
    assert [(one.kind, one.schedule) for one in opened.live.following()] == [("backup", "every 4h")]
    assert opened.live.not_ready() == []
    await listening.close()
    assert opened.log == ["opened s", "closed s"]


async def test_one_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    opened = Opened()
    opened.refused.add("s")
    listening, service = listening_of(opened, tmp_path)
    with pytest.raises(UsageError, match=r"web\.listen"):
        await listening.open(service.means.config)


async def test_a_reload_that_cannot_open_them_keeps_the_old_ones(tmp_path: Path) -> None:
    opened = Opened()
    opened.refused.add("t")
    listening, service = listening_of(opened, tmp_path)
    await listening.open(service.means.config)
    with pytest.raises(UsageError):
        await listening.reopen(a_config(tmp_path, "t"))
    assert opened.log == ["opened s", "closed s", "opened s"]
    opened.refused.clear()
    await listening.reopen(a_config(tmp_path, "t"))
    assert opened.log[-2:] == ["closed s", "opened t"]
    await listening.close()


async def test_one_that_fails_is_opened_again_and_makes_the_service_not_ready_meanwhile(
    tmp_path: Path,
) -> None:
    opened = Opened()
    listening, service = listening_of(opened, tmp_path)
    await listening.open(service.means.config)
    assert opened.live is not None
    opened.refused.add("s")
    opened.fail.set()
    await until(lambda: service.state.trouble is not None)
    assert "the socket is gone" in opened.live.not_ready()[0]
    await until(lambda: "cannot listen" in str(service.state.trouble))
    opened.refused.clear()
    await until(lambda: service.state.trouble is None)
    assert opened.log == ["opened s", "closed s", "opened s"]
    await listening.close()


async def test_an_overdue_job_makes_the_service_not_ready(tmp_path: Path) -> None:
    opened = Opened()
    listening, service = listening_of(opened, tmp_path)
    await listening.open(service.means.config)
    assert opened.live is not None
    assert isinstance(service.means.clock, FakeClock)
    service.means.clock.elapsed += 8 * 3600 + 1
    assert "backup is overdue" in opened.live.not_ready()[0]
    assert [one.is_overdue for one in opened.live.following()] == [True]
    await listening.close()
