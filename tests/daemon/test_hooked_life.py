"""A daemon with a driven clock, and the simulator's hooks: early ones, and those beside long backups."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirror.backup.announced import AnnouncedBackups
from mirror.backup.git.code import Code
from mirror.backup.turn import FirstTurn
from tests.daemon.hooked import DEBOUNCE, hooked_world


async def test_hooks_that_come_before_their_changes_lose_none_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hooked_world(tmp_path, monkeypatch, early=True) as hooked, hooked.living(monkeypatch):
        await hooked.quiet()
        await hooked.run()
        pushed = None
        for number, burst in enumerate(("pc", "cp", "pp")):
            for place, one in enumerate(burst):
                text = f"burst {number} {place}."
                if one == "p":
                    pushed = await hooked.push("website", text)
                else:
                    hooked.comment(text)
            await hooked.deliver()
            begun = len(hooked.runs())
            await hooked.visits()
            assert hooked.tip("website") == pushed, burst
            assert len(hooked.runs()) == begun  # the schedule did not
            await hooked.run()  # the simulator may hold comments back for as long as nobody asks for them
            for place, one in enumerate(burst):
                assert one == "p" or f"burst {number} {place}." in hooked.comments(), burst


async def test_hooks_that_come_early_while_a_visit_runs_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, visited = asyncio.Event(), AnnouncedBackups._visit

    async def visit(*given: object, **named: object) -> object:
        done = await visited(*given, **named)  # type: ignore[arg-type]
        await may_end.wait()
        return done

    monkeypatch.setattr(AnnouncedBackups, "_visit", visit)
    async with hooked_world(tmp_path, monkeypatch, early=True) as hooked, hooked.living(monkeypatch):
        await hooked.quiet()
        await hooked.run()
        begun = len(hooked.runs())
        first = await hooked.push("website", "first")
        await hooked.deliver()
        hooked.clock.move(DEBOUNCE)
        [place] = hooked.daemon.service._hooks._queue._places.values()  # type: ignore[attr-defined]
        await hooked.until(lambda: place.waiting is None)
        last = await hooked.push("website", "last")
        hooked.comment("while it runs")
        await hooked.deliver()
        may_end.set()
        await hooked.visits()
        assert hooked.tip("website") == last != first
        assert len(hooked.runs()) == begun
        await hooked.run()
        assert "while it runs" in hooked.comments()


async def test_a_push_is_saved_while_the_first_backup_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, is_there, read = asyncio.Event(), asyncio.Event(), FirstTurn.read

    async def slow(turn: FirstTurn) -> Code:
        if turn.folder.repository.slug == "tools":
            is_there.set()
            await reading.wait()
        return await read(turn)

    monkeypatch.setattr(FirstTurn, "read", slow)
    async with hooked_world(tmp_path, monkeypatch) as hooked, hooked.living(monkeypatch):
        for _ in range(2):  # the first export, and a run of the schedule that is as long
            await hooked.until(is_there.is_set)
            running = len(hooked.runs())
            await hooked.until(lambda: hooked.has("website"))
            hooked.simulator.requests.clear()
            pushed = await hooked.push("website", f"beside {running}")
            held = await hooked.push("tools", f"beside {running}")
            await hooked.deliver()
            hooked.clock.move(DEBOUNCE)
            await hooked.until(lambda wanted=pushed: hooked.tip("website") == wanted)  # type: ignore[misc]
            assert len(hooked.runs()) == running  # the run goes on
            reading.set()
            await hooked.quiet()
            await hooked.visits()
            assert hooked.tip("tools") == held
            # What there is and what is new, the second look, and the turn of the run where it comes later.
            assert hooked.git_requests("website") in (3, 4)
            assert len(hooked.runs()) == running + 1
            reading.clear()
            is_there.clear()
            hooked.daemon.move_to_next_run()
        reading.set()
        await hooked.quiet()
