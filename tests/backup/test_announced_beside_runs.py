"""Announced visits between runs of the schedule: neither hides what the other found."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mirror import backup, browse
from mirror.backup.announced import CONCURRENCY, Visited
from mirror.model import Selector
from mirror.simulator import Fault
from mirror.store.writing.unfinished_backup import UnfinishedMark, has_unfinished_backup
from tests.backup.hooked import Hooked, hooked_world


@pytest.fixture
async def hooked(tmp_path: Path) -> AsyncIterator[Hooked]:
    async with hooked_world(tmp_path) as made:
        yield made


def state_of(hooked: Hooked, name: str) -> str:
    [row] = [one for one in browse.status(hooked.config.store).repositories if one.name == f"acme/{name}"]
    return row.state


async def test_a_visit_that_is_recorded_late_hides_no_run_that_came_between(hooked: Hooked) -> None:
    await hooked.quiet()
    hooked.push("website", "1")
    await hooked.hook("website")
    hooked.simulator.order(Fault("* /acme/website.git/*", "status", status=403, times=1000))
    run = await hooked.run(30)
    assert run.exit_code != 0
    failed = state_of(hooked, "website")
    assert failed != "saved"
    await hooked.gathered()
    assert state_of(hooked, "website") == failed


async def test_a_visit_after_a_run_began_tells_what_changed_though_the_run_is_recorded_first(
    hooked: Hooked,
) -> None:
    await hooked.quiet()
    hooked.repository("website").commit("gone", {"a": b"1"}, "Gone\n")
    await hooked.hook("website")
    hooked.repository("website").delete_ref(b"refs/heads/gone")
    await hooked.hook("website")
    assert (await hooked.run(30)).exit_code == 0
    await hooked.gathered()
    [row] = [one for one in browse.status(hooked.config.store).repositories if one.name == "acme/website"]
    assert (row.state, row.lost_refs.removed) == ("saved", 1)
    with hooked.store() as store:
        known = store.history().find("repository", hooked.repository("website").uuid)
    ledger = hooked.folder("website").ledger()
    assert known is not None
    assert ledger is not None
    assert known.ledger == ledger.sha256


async def test_a_hook_that_comes_first_after_a_start_does_not_forget_what_records_say(
    hooked: Hooked,
) -> None:
    await hooked.trusted()
    hooked.push("shop", "1")
    await hooked.run()  # no hook came
    before = (await hooked.run()).facts["hooks"][hooked.acme.uuid]
    assert before["unannounced_total"] == 1
    await hooked.announced.stop()
    hooked.start()
    await hooked.hook("website")
    after = (await hooked.run()).facts["hooks"][hooked.acme.uuid]
    assert (after["unannounced_total"], after["proofs"]) == (1, before["proofs"])


async def test_visits_that_wait_for_a_long_run_hold_up_no_other(hooked: Hooked) -> None:
    await hooked.quiet()
    hooked.push("website", "1")
    pushed = hooked.repository("website").branch("main")
    async with AsyncExitStack() as runs:
        waiting = []
        for number in range(CONCURRENCY):  # a run is at each of these for hours
            uuid = f"{{long {number}}}"
            await runs.enter_async_context(hooked.announcements.turn(uuid))
            hooked.announcements.announce(uuid)
            waiting.append(asyncio.ensure_future(hooked.announced.backup(uuid, git_only=False)))
        await asyncio.sleep(0)
        assert await asyncio.wait_for(hooked.hook("website"), 60) is Visited.DONE
        assert hooked.tip("website") == pushed
    assert set(await asyncio.gather(*waiting)) == {Visited.UNKNOWN}


async def test_the_mark_of_a_killed_run_stays_until_a_run_of_everything(hooked: Hooked) -> None:
    website = hooked.repository("website")
    website.commit("gone", {"a": b"1"}, "Gone\n")
    await hooked.quiet()
    with hooked.store() as store:
        [home] = store.workspaces()
    folder = home.root / home.place
    UnfinishedMark.begin(folder, "killed").leave()
    website.delete_ref(b"refs/heads/gone")
    await hooked.hook("website")
    assert has_unfinished_backup(folder)
    await backup.run(hooked.config, [Selector("acme", "website")], clock=hooked.clock, environment=os.environ)
    assert has_unfinished_backup(folder)
    await hooked.run()
    assert not has_unfinished_backup(folder)
