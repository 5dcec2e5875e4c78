"""The service itself: jobs, signals, and what systemd is told."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from mirror import backup, prune, verify
from mirror.auth.signin import sign_in
from mirror.bitbucket.budget import Budget
from mirror.config import Config
from mirror.daemon.notify import Notifier
from mirror.daemon.schedule import Kind, check, describe, first_run, make_trigger, triggers
from mirror.errors import ConfigError, MirrorError, NoStore, UsageError
from mirror.logs import get_logger
from mirror.model import Clock, Run, time_from_text, time_text
from mirror.store.journal import VerifyJournal
from mirror.store.reader import Store
from mirror.store.writer import create_or_open

# A run that is told to stop ends within moments; systemd is asked for no more than this.
STOP_SECONDS = 60.0

_log = get_logger("daemon")


async def serve(
    load_config: Callable[[], Config],
    *,
    clock: Clock,
    environment: Mapping[str, str],
    started: Callable[[], None] = lambda: None,
) -> int:
    """Run the schedule until SIGTERM or SIGINT; returns the exit code.

    The configuration, the store and the secrets are proven before it calls itself ready: their
    faults are raised. SIGHUP reads the configuration again; a faulty one is refused and the old one
    kept. A run that fails never ends the service.
    """
    config = load_config()
    service = _Service(config, load_config, clock, environment)
    await service.prove(config)
    return await service.run(started)


class _Service:
    def __init__(
        self,
        config: Config,
        load_config: Callable[[], Config],
        clock: Clock,
        environment: Mapping[str, str],
    ) -> None:
        self.config = config
        self._load = load_config
        self._clock = clock
        self._environment = environment
        self._notifier = Notifier(environment)
        self._budget = Budget(clock, reserve=config.limits.api_reserve, limit=config.limits.api_limit)
        # One run at a time: two on one workspace would only wait for each other's locks.
        self._turn = asyncio.Lock()
        self._stop = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._signals = 0

    async def prove(self, config: Config) -> None:
        """Raise where the configuration cannot work: no schedule, no store, no secret."""
        if not any(trigger for _, trigger in triggers(config)):
            raise UsageError(
                "the configuration has no schedule, so there is nothing for a daemon to do",
                hint='add for example: schedule: {backup: "0 */4 * * *"}',
            )
        check(config, now=self._clock.now())
        with create_or_open(config.store, now=self._clock.now(), command="mirror daemon"):
            pass
        for workspace in config.workspaces:
            for credential in workspace.credentials:
                urls = config.bitbucket
                await sign_in(
                    credential,
                    environment=self._environment,
                    oauth_url=urls.oauth_url,
                    api_url=urls.api_url,
                    clock=self._clock,
                )

    async def run(self, started: Callable[[], None]) -> int:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)
        watchdog = asyncio.ensure_future(self._feed_watchdog())
        self._scheduler.start()
        self._plan()
        self._notifier.send(READY=1)
        _log.info(
            "daemon.ready",
            **{kind: describe(trigger) for kind, trigger in triggers(self.config)},
            store=str(self.config.store),
        )
        started()
        try:
            await self._stop.wait()
            return await self._end()
        finally:
            for task in (watchdog, *self._reloads):
                task.cancel()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def _end(self) -> int:
        self._notifier.send(STOPPING=1, STATUS="stopping", EXTEND_TIMEOUT_USEC=int(STOP_SECONDS * 1e6))
        self._scheduler.shutdown(wait=False)
        for task in self._running:
            task.cancel()
        if self._running:
            # The run writes its record first; a second signal does not wait for that.
            waiting = asyncio.ensure_future(asyncio.wait(self._running, timeout=STOP_SECONDS))
            while not waiting.done() and self._signals < 2:
                self._stop.clear()
                again = asyncio.ensure_future(self._stop.wait())
                await asyncio.wait({waiting, again}, return_when=asyncio.FIRST_COMPLETED)
                again.cancel()
        _log.info("daemon.stopped")
        return 130 if self._signals > 1 else 0

    def _told_to_stop(self) -> None:
        self._signals += 1
        self._stop.set()

    def _plan(self) -> None:
        """Set the jobs; what is overdue runs at once."""
        self._scheduler.remove_all_jobs()
        now = self._clock.now()
        schedule = self.config.schedule
        for kind, trigger in triggers(self.config):
            if trigger is None:
                continue
            last = _last_began(self.config.store, kind)
            first = first_run(trigger, schedule.timezone, now=now, last=last)
            if kind != "backup" and last is None and schedule.backup is not None:
                first = None  # a new store has nothing to verify or to let go yet
            self._scheduler.add_job(
                self._job,
                make_trigger(trigger, schedule.timezone, start=first or now),
                args=[kind],
                id=kind,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
                **({"next_run_time": first} if first is not None else {}),
            )
        self._tell_idle()

    async def _job(self, kind: Kind) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            async with self._turn:
                self._notifier.send(STATUS=f"{kind} running since {time_text(self._clock.now())}")
                await self._one(kind)
                self._tell_idle()
        finally:
            self._running.discard(task)

    async def _one(self, kind: Kind) -> None:
        """One run. Whatever it meets is logged; nothing but being stopped goes further."""
        config = self.config
        try:
            run = await self._work(kind, config)
        except MirrorError as error:
            _log.error(f"daemon.{kind}_failed", reason=error.message, hint=error.hint)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - a service outlives the unexpected, and says so
            _log.exception(f"daemon.{kind}_failed")
        else:
            tell = _log.info if run.exit_code == 0 else _log.error
            tell(
                f"daemon.{kind}_ended",
                run=run.id,
                exit_code=run.exit_code,
                problems=[problem.text for problem in run.problems],
            )

    async def _work(self, kind: Kind, config: Config) -> Run:
        clock, environment = self._clock, self._environment
        if kind == "backup":
            return await backup.run(config, clock=clock, environment=environment, budget=self._budget)
        if kind == "prune":
            return await prune.prune(config, clock=clock, environment=environment)
        return await self._verify(config)

    async def _verify(self, config: Config) -> Run:
        clock = self._clock
        # Gone on with where the last one was stopped by a restart.
        journal = VerifyJournal(config.store, "objects 1 ", resume=True, now=clock.now())
        run = await verify.run(config.store, journal=journal, clock=clock, environment=self._environment)
        with create_or_open(config.store, now=clock.now(), command="mirror daemon") as store:
            store.write_run(run)
        journal.finish()
        return run

    def _told_to_reload(self) -> None:
        task = asyncio.ensure_future(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        """SIGHUP: the new configuration, if it is a good one. What runs meanwhile goes on."""
        async with self._reloading:
            await self._read_again()

    async def _read_again(self) -> None:
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.send(RELOADING=1, MONOTONIC_USEC=microseconds)
        try:
            config = self._load()
            await self.prove(config)
        except ConfigError as error:
            for fault in error.faults:
                _log.error("daemon.reload_refused", fault=fault.text(error.path))
        except (MirrorError, OSError) as error:
            _log.error("daemon.reload_refused", fault=str(error))
        else:
            self.config = config
            self._budget.allow(reserve=config.limits.api_reserve, limit=config.limits.api_limit)
            self._plan()
            _log.info("daemon.reloaded", store=str(config.store))
        self._notifier.send(READY=1)

    def _tell_idle(self) -> None:
        jobs: list[Any] = self._scheduler.get_jobs()
        following = min((job.next_run_time for job in jobs if job.next_run_time), default=None)
        last = _last_began(self.config.store, "backup")
        parts = ["idle"]
        if following is not None:
            parts.append(f"next run {time_text(following)}")
        parts.append(f"last backup {time_text(last)}" if last is not None else "no backup yet")
        self._notifier.send(STATUS=", ".join(parts))

    async def _feed_watchdog(self) -> None:
        """Fed from the loop that does the work: a loop that hangs is found out."""
        seconds = self._notifier.watchdog_seconds
        if seconds is None:
            return
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                self._notifier.send(WATCHDOG=1)
                await asyncio.sleep(seconds)


def _last_began(store: Path, kind: str) -> datetime | None:
    """When the last run of `kind` that was not stopped began."""
    try:
        with Store.open(store) as opened:
            began = [
                time_from_text(run.data["started"])
                for run in opened.runs(kind, lambda _: None)
                if run.data["exit_code"] != 130
            ]
    except NoStore:
        return None
    return max(began, default=None)
