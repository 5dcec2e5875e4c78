"""The service as it lives on: signals, reloads, a clock that is set, a machine that sleeps. No server can be
reached here, and what the jobs do is the test's."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mirror.config import Config, load
from mirror.daemon import preflight
from mirror.daemon.jobs import KINDS, Kind, Means
from mirror.daemon.live import ServiceLive
from mirror.daemon.overdue import overdue_report
from mirror.daemon.schedule import JITTER_MAX, jobs_of
from mirror.daemon.service import _Service
from mirror.daemon.sole import Sole
from mirror.errors import Locked, UsageError
from mirror.model import Progress, Run, Scope
from mirror.store.reading import run_records
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open, open_store
from tests.daemon.driven import Driven, DrivenClock, living
from tests.e2e.helpers import MADE
from tests.ports import unused_port

START = datetime(2026, 11, 27, 1, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
# There is a checkpoint every hundred records.
RECORDS = 1000 if os.environ.get("MIRROR_SOAK") == "1" else 210


class Place:
    """A store, its configuration, and jobs that do nothing but note when they ran."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.clock = DrivenClock(START)
        self.path = folder / "config.yaml"
        self.began: list[tuple[str, float]] = []
        self.hold: asyncio.Event | None = None
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text("a-token")
        create_or_open(folder / "store", now=MADE).close()
        self.write("schedule: {backup: every 4h}")
        for kind, made in KINDS.items():
            monkeypatch.setitem(KINDS, kind, replace(made, work=self._work(kind)))

    def write(self, more: str, *, store: str = "store", expires: str = "") -> None:
        extra = f", expires: {expires}" if expires else ""
        self.path.write_text(
            f"store: {store}\n"
            f"bitbucket: {{api_url: 'http://127.0.0.1:{unused_port()}/2.0'}}\n"
            f"credential: {{kind: workspace_access_token, token: {{file: token}}{extra}}}\n{more}\n"
        )

    def load(self) -> Config:
        return load(self.path)

    def _work(self, kind: Kind) -> Callable[[Means, Config, Scope, Progress], Coroutine[Any, Any, Run]]:
        async def work(means: Means, config: Config, scope: Scope, _: Progress) -> Run:
            began = means.clock.now()
            self.began.append((scope.job(kind), (began - START) / HOUR))
            if self.hold is not None:
                await self.hold.wait()
            with open_store(config.store, command="test") as store:
                ended = means.clock.now()
                run = Run(store.new_run_id(began), kind, began, ended, "test", facts=scope.facts())
                store.write_run(run)
            return run

        return work


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


async def live(place: Place, *hours: float) -> None:
    """Live once until each of these hours after the start, one life after the other."""
    for hour in hours:
        async with living(place.load, place.clock, place.monkeypatch) as daemon:
            await daemon.live_until(START + hour * HOUR)


async def test_an_interval_does_not_drift_and_a_restart_neither_repeats_nor_skips(place: Place) -> None:
    await live(place, 0.5, 3.9, 4.1, 4.2, 9)
    assert [at for _, at in place.began] == pytest.approx([0, 4, 8], abs=0.01)


async def test_what_became_due_while_the_service_was_down_runs_once_at_its_start(place: Place) -> None:
    await live(place, 1)
    place.clock.move(20 * 3600)
    await live(place, 24)
    assert [at for _, at in place.began] == pytest.approx([0, 21], abs=0.01)


async def test_a_reload_during_a_run_queues_no_second_one(place: Place) -> None:
    async with living(place.load, place.clock, place.monkeypatch) as daemon:
        await daemon.live_until(START + 3 * HOUR)
        place.hold = asyncio.Event()
        await daemon.live_until_backup()
        await daemon.reload(settle=False)
        place.hold.set()
        await daemon.settle()
        await daemon.live_until(START + 6 * HOUR)
    assert [at for _, at in place.began] == pytest.approx([0, 4], abs=0.01)


@pytest.mark.parametrize("broken", ["deleted", "faulty", "no schedule", "no store", "no secret"])
async def test_a_configuration_that_cannot_work_keeps_the_old_one(place: Place, broken: str) -> None:
    good = place.path.read_text()
    async with living(place.load, place.clock, place.monkeypatch) as daemon:
        await daemon.live_until(START + HOUR)
        match broken:
            case "deleted":
                place.path.unlink()
            case "faulty":
                place.path.write_text(good + "nonsense: 1\n")
            case "no schedule":
                place.write("")
            case "no store":
                place.write("schedule: {backup: every 1h}", store="elsewhere")
            case "no secret":
                place.path.write_text(good.replace("file: token", "file: none"))
        with capture_logs() as logs:
            await daemon.reload()
        assert [one["event"] for one in logs if one["log_level"] == "error"] == ["daemon.reload_refused"]
        await daemon.live_until(START + 9 * HOUR)
    assert [at for _, at in place.began] == pytest.approx([0, 4, 8], abs=0.01)


async def test_a_reload_changes_the_schedule_and_the_store(place: Place) -> None:
    create_or_open(place.folder / "other", now=MADE).close()
    async with living(place.load, place.clock, place.monkeypatch) as daemon:
        await daemon.live_until(START + HOUR)
        place.write("schedule: {backup: every 2h, prune: every 3h}\nretention: {keep_last: 1}")
        await daemon.reload()
        await daemon.live_until(START + 3.5 * HOUR)
        place.write("schedule: {backup: every 2h}", store="other")
        await daemon.reload()
        await daemon.live_until(START + 4 * HOUR)
        with pytest.raises(Locked, match=r"the schedule of .*other is locked by mirror daemon"):
            await Sole(place.clock).take(place.folder / "other")
        first = Sole(place.clock)
        await first.take(place.folder / "store")
        await first.release()
    assert [job for job, _ in place.began] == ["backup", "backup", "backup"]
    assert [at for _, at in place.began] == pytest.approx([0, 2, 3.5], abs=0.01)


async def test_a_second_daemon_of_the_store_is_refused(place: Place) -> None:
    async with living(place.load, place.clock, place.monkeypatch):
        second = _Service(place.load(), place.load, place.clock, os.environ)
        with pytest.raises(Locked) as caught:
            await second._start()
        assert "two daemons" in str(caught.value.hint)


async def test_sigterm_is_quiet(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.hold = asyncio.Event()
    with capture_logs() as logs:
        async with living(place.load, place.clock, place.monkeypatch) as daemon:
            await daemon.live_until_backup()
    assert not [one for one in logs if one["log_level"] in ("error", "critical")]
    assert logs[-1]["event"] == "daemon.stopped"
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("runs", "code"), [(True, 130), (False, 0)])
def test_a_second_signal_says_what_it_leaves(
    place: Place, monkeypatch: pytest.MonkeyPatch, runs: bool, code: int
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    service = _Service(place.load(), place.load, place.clock, os.environ)
    if runs:
        service.state.running["backup"] = START
    service._on_stop()
    assert codes == []
    with capture_logs() as logs:
        service._on_stop()
    assert codes == [code]
    assert logs == [
        {
            "event": "daemon.stopped_at_once",
            "left": ["backup"] * runs,
            "log_level": "warning",
            "room": "daemon",
        }
    ]


async def test_a_machine_that_slept_catches_up_and_is_not_overdue(place: Place) -> None:
    async with living(place.load, place.clock, place.monkeypatch) as daemon:
        await daemon.live_until(START + HOUR)
        place.clock.set(30 * HOUR)
        place.clock.move(31)
        await daemon.until(lambda: len(place.began) == 2)
        state = daemon.service.state
        assert not overdue_report(daemon.service._timetable.jobs, state, place.clock.now()).conditions
        await daemon.live_until(START + 36 * HOUR)
    assert [at for _, at in place.began] == pytest.approx([0, 31, 35], abs=0.02)


async def test_a_clock_that_is_set_back_stops_no_schedule(place: Place) -> None:
    async with living(place.load, place.clock, place.monkeypatch) as daemon:
        await daemon.live_until(START + HOUR)
        place.clock.set(timedelta(days=-300))
        place.clock.move(31)
        await daemon.live_until(START - timedelta(days=300) + 9 * HOUR)
    real = [at if at < 4 and at >= 0 else at + 300 * 24 for _, at in place.began]
    assert real == pytest.approx([0, 4, 8], abs=0.02)


async def test_a_clock_that_was_far_ahead_and_is_put_right_stops_no_schedule(place: Place) -> None:
    async with living(place.load, place.clock, place.monkeypatch) as daemon:
        await daemon.live_until(START + HOUR)
        place.clock.set(timedelta(days=3650))
        place.clock.move(31)
        await daemon.until(lambda: len(place.began) == 2)
        await daemon.settle()
        place.clock.set(timedelta(days=-3650))
        place.clock.move(31)
        await daemon.live_until(START + 6 * HOUR)
    assert len(place.began) == 3 and place.began[2][1] == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("restarts", [1, 8])
async def test_each_step_to_an_expiry_is_told_once(place: Place, restarts: int) -> None:
    """Also where no job runs for months, and however often the service is restarted."""
    place.write("schedule: {backup: '0 0 1 1 *'}", expires="2027-10-01")
    days = 320 / restarts
    with capture_logs() as logs:
        for number in range(1, restarts + 1):
            async with living(place.load, place.clock, place.monkeypatch) as daemon:
                await daily(daemon, START + timedelta(days=number * days))
    told = [one["fault"] for one in logs if one["event"] == "daemon.credential_expires"]
    steps = [text.partition(" expire")[2].partition(", on")[0].partition(" on")[0] for text in told]
    assert steps == ["s in 30 days", "s in 14 days", "s in 7 days", "s in 1 day", "d"]


async def test_an_expiry_is_told_once_where_the_store_is_gone(place: Place) -> None:
    place.write("schedule: {backup: '0 0 1 1 *'}", expires="2026-12-01")
    with capture_logs() as logs:
        async with living(place.load, place.clock, place.monkeypatch) as daemon:
            await daemon.settle()
            (place.folder / "store").rename(place.folder / "unmounted")
            await daemon.live_until(START + 5 * HOUR)
            (place.folder / "unmounted").rename(place.folder / "store")
    assert [one["event"] for one in logs].count("daemon.credential_expires") == 1


async def daily(daemon: Driven, until: datetime) -> None:
    """Live on from day to day: what is looked at every ten minutes is looked at once a day."""
    while daemon.clock.now() < until:
        await daemon.live_until(min(daemon.clock.now() + timedelta(days=1), until))


async def test_it_is_ready_however_long_the_history_and_with_a_server_that_hangs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(place.folder / "store", command="test") as store:
        for number in range(RECORDS):
            when = START - timedelta(hours=4 * (RECORDS - number))
            store.write_run(Run(store.new_run_id(when), "backup", when, when, "test"))
    read: list[str] = []
    before = run_records.read_run

    def reading(root: Path, identifier: str) -> run_records.RunRecord:
        read.append(identifier)
        return before(root, identifier)

    monkeypatch.setattr(run_records, "read_run", reading)
    monkeypatch.setattr(preflight, "RESPONSE_SECONDS", 0.2)
    hanging = socket.create_server(("127.0.0.1", 0))  # nobody ever accepts
    port = hanging.getsockname()[1]
    place.path.write_text(place.path.read_text().replace("http://127.0.0.1:", f"http://127.0.0.1:{port}/x/"))
    with capture_logs() as logs:
        async with living(place.load, place.clock, place.monkeypatch) as daemon:
            await daemon.settle()
    reasons = [one["reason"] for one in logs if one["event"] == "daemon.bitbucket_unreachable"]
    assert reasons == ["no response within 0.2 s"]
    # Three times as far as to the last checkpoint.
    assert 0 < len(read) <= 3 * 101
    hanging.close()


async def test_listeners_that_cannot_be_opened_are_an_error_at_start(place: Place) -> None:
    def refuse(*_: object) -> object:
        raise UsageError("web.listen: cannot listen on 127.0.0.1:80")

    service = _Service(place.load(), place.load, place.clock, os.environ, refuse)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"web\.listen"):
        await service.run()
    await Sole(place.clock).take(place.folder / "store")  # the schedule is free again


async def test_an_end_of_the_watch_ends_the_service_with_its_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch(*_: object) -> None:
        await asyncio.sleep(0.01)
        raise RuntimeError("the clock is gone")

    monkeypatch.setattr("mirror.daemon.service.watch", watch)
    service = _Service(place.load(), place.load, place.clock, os.environ)
    with pytest.raises(RuntimeError, match="the clock is gone"):
        await service.run()


def test_the_jitter_is_the_same_for_one_job_of_one_store_and_spreads_others(place: Place) -> None:
    place.write("schedule: {backup: '0 */4 * * *', verify: '*/20 * * * *', drill: every 9d}")
    config = place.load()
    delays = {name: {job.kind: job.delay for job in jobs_of(config, name)} for name in ("a", "b", "a ")}
    assert delays["a"] == {job.kind: job.delay for job in jobs_of(place.load(), "a")}
    assert len({one["backup"] for one in delays.values()}) == 3
    for one in delays.values():
        assert timedelta() <= one["backup"] < JITTER_MAX
        assert timedelta() <= one["verify"] < timedelta(minutes=1)
        assert one["drill"] == timedelta()
    place.write("schedule: {backup: '0 */4 * * *', jitter: none}")
    assert [job.delay for job in jobs_of(place.load(), "a")] == [timedelta()]
    place.write("schedule: {backup: '0 */4 * * *', jitter: 1h}")
    spread = [jobs_of(place.load(), str(number))[0].delay for number in range(50)]
    assert max(spread) > timedelta(minutes=40) and len(set(spread)) > 45


@pytest.mark.parametrize("stop", [0.01, 0.55, 0.95, 1.05])
async def test_a_restart_around_a_delayed_time_neither_repeats_nor_skips_it(
    place: Place, stop: float
) -> None:
    """Before the time, between the time and its delay, and after."""
    place.write("schedule: {backup: '30 * * * *', jitter: 30m}")
    with Store.open(place.folder / "store") as store:
        [job] = jobs_of(place.load(), store.id)
    delay = job.delay / HOUR
    await live(place, 0.001, 1 + stop * delay, 1 + stop * delay + 0.001, 3 + delay / 2)
    assert [at for _, at in place.began] == pytest.approx([0, 1 + delay, 2 + delay], abs=0.01)


def test_a_page_is_told_of_the_jobs_of_each_workspace(place: Place) -> None:
    place.write(
        "schedule: {backup: every 4h}\n"
        "workspaces: [{workspace: beta}, {workspace: acme, schedule: {backup: every 1h}}]"
    )
    service = _Service(place.load(), place.load, place.clock, os.environ)
    live_port = ServiceLive(
        service.means, service.state, service._timetable, service._hooks, service._cluster
    )
    service.state.running["backup of acme"] = START
    assert [(one.kind, one.workspace) for one in live_port.running()] == [("backup", "acme")]
    assert [(one.kind, one.workspace, one.schedule) for one in live_port.following()] == [
        ("backup", None, "every 4h"),
        ("backup", "acme", "every 1h"),
    ]
