"""The service: jobs, signals, and notifications to systemd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from mirror import backup, prune, verify
from mirror.bitbucket.client.budget import Budget
from mirror.browse.figures import figures
from mirror.config import WARN_DAYS, Config, expiring
from mirror.connect.notices import Notices
from mirror.daemon.lanes import Lane
from mirror.daemon.notify import Notifier
from mirror.daemon.overdue import overdue_report
from mirror.daemon.preflight import check
from mirror.daemon.schedule import Kind, describe, first_run, make_trigger, triggers
from mirror.errors import Cancelled, ConfigError, MirrorError, NoStore
from mirror.logs import get_logger
from mirror.metrics import textfile
from mirror.model import Clock, Run, time_from_text, time_text
from mirror.notify.conditions import Report
from mirror.store.reading.reader import Store
from mirror.store.writing.verify_journal import VerifyJournal
from mirror.store.writing.writer import open_store

# The time that the service requests from systemd to stop. A run usually stops within moments.
STOP_SECONDS = 60.0
# How long it waits then for notices that are being sent.
NOTICES_STOP_SECONDS = 5.0
# How often it looks, in minutes, for what is overdue, and for notices that must be repeated.
LOOK_MINUTES = 10
# The id of that job beside those of the schedule.
_LOOK = "notices"

_log = get_logger("daemon")


async def serve(load_config: Callable[[], Config], *, clock: Clock, environment: Mapping[str, str]) -> int:
    """Run the schedule until SIGTERM or SIGINT; returns the exit code.

    Configuration, store, secrets and credentials are checked before it reports READY; their faults are
    raised. SIGHUP reads the configuration again; if that is faulty, the old one stays in force. A failed run
    never ends the service. A second SIGTERM or SIGINT ends the process at once.
    """
    return await _Service(load_config(), load_config, clock, environment).run()


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
        # Jobs that write run one after the other: they would only wait for each other's locks.
        # Verification and drills take no lock and run concurrently.
        writing = asyncio.Lock()
        self._lanes: dict[Kind, Lane] = {
            "backup": Lane(partial(self._job, "backup"), writing),
            "prune": Lane(partial(self._job, "prune"), writing),
            "verify": Lane(partial(self._job, "verify"), asyncio.Lock()),
            "drill": Lane(partial(self._job, "drill"), asyncio.Lock()),
        }
        self._running: dict[Kind, datetime] = {}
        self._last_backup: datetime | None = None
        self._ended: dict[Kind, datetime] = {}
        self._since = clock.now()
        self._notices = Notices(
            config,
            clock=clock,
            environment=environment,
            host=socket.gethostname(),
            standing=self._overdue,
        )
        # By key of the configuration, the days ahead of its last expiry warning.
        self._warned: dict[str, int] = {}
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    async def run(self) -> int:
        """Serve until a signal stops it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        watchdog = asyncio.ensure_future(self._feed_watchdog())
        try:
            async with self._reloading:
                started = await self._start()
            if started:
                await self._stop.wait()
            await self._end()
        finally:
            for task in (watchdog, *self._reloads):
                task.cancel()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
        return 0

    async def _start(self) -> bool:
        """Check the configuration and add the jobs. Returns False where a signal stopped it meanwhile."""
        checking = asyncio.ensure_future(self._check(self.config))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({checking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not checking.done():
            checking.cancel()
            return False
        self._warn_unreachable(await checking)
        self._scheduler.start()
        self._plan()
        self._notifier.send(READY=1)
        _log.info(
            "daemon.ready",
            **{kind: describe(trigger) for kind, trigger in triggers(self.config)},
            store=str(self.config.store),
        )
        return True

    async def _check(self, config: Config) -> list[str]:
        return await check(config, clock=self._clock, environment=self._environment, budget=self._budget)

    def _warn_unreachable(self, reasons: list[str]) -> None:
        for reason in reasons:
            hint = "the schedule runs anyway; the next backup shows whether the credentials are valid"
            _log.warning("daemon.bitbucket_unreachable", reason=reason, hint=hint)

    async def _end(self) -> None:
        self._notifier.send(STOPPING=1, STATUS="stopping", EXTEND_TIMEOUT_USEC=int(STOP_SECONDS * 1e6))
        if self._scheduler.running:
            self._scheduler.pause()
        # Each run writes its record first.
        stopping = [asyncio.ensure_future(lane.stop()) for lane in self._lanes.values()]
        await asyncio.wait(stopping, timeout=STOP_SECONDS)
        await self._notices.finish(NOTICES_STOP_SECONDS)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        _log.info("daemon.stopped")

    def _on_stop(self) -> None:
        if self._stop.is_set():
            # The second signal does not wait for records; the next run resumes what this one leaves.
            _log.warning("daemon.stopped_at_once")
            os._exit(130)
        self._stop.set()

    def _plan(self) -> None:
        """Add the jobs; overdue ones run at once."""
        self._scheduler.remove_all_jobs()
        now = self._clock.now()
        schedule = self.config.schedule
        began = _last_began(self.config.store)
        self._last_backup = began.get("backup")
        self._ended = {**began, **self._ended}
        for kind, trigger in triggers(self.config):
            if trigger is None:
                continue
            last = began.get(kind)
            first = first_run(trigger, schedule.timezone, now=now, last=last)
            if kind != "backup" and last is None and schedule.backup is not None:
                first = None  # a new store has nothing to verify, prune or rehearse yet
            self._scheduler.add_job(
                self._due,
                make_trigger(trigger, schedule.timezone, start=first or now),
                args=[kind],
                id=kind,
                coalesce=True,
                misfire_grace_time=None,
                **({"next_run_time": first} if first is not None else {}),
            )
        if self.config.notify is not None:
            self._scheduler.add_job(self._look, "interval", minutes=LOOK_MINUTES, id=_LOOK, coalesce=True)
        self._warn_of_expiry()
        self._report_state()

    async def _look(self) -> None:
        """Called by the scheduler: tell people what is overdue, and repeat what is still not well."""
        self._notices.tell(again=[kind for kind, _ in triggers(self.config)])

    def _overdue(self) -> Report:
        return overdue_report(
            self.config, self._clock.now(), since=self._since, ended=self._ended, running=self._running
        )

    async def _due(self, kind: Kind) -> None:
        """Called by the scheduler when a job is due; its lane runs it."""
        self._lanes[kind].due()

    async def _job(self, kind: Kind) -> None:
        """One run. Its errors are logged; only cancellation propagates."""
        self._running[kind] = self._clock.now()
        if kind == "backup":
            self._last_backup = self._running[kind]
        self._warn_of_expiry()
        self._report_state()
        self._notices.began(kind)
        result: Run | Exception
        try:
            run = result = await self._work(kind, self.config)
        except (Cancelled, asyncio.CancelledError):
            _log.info(f"daemon.{kind}_stopped")
            raise asyncio.CancelledError from None
        except MirrorError as error:
            result = error
            _log.error(f"daemon.{kind}_failed", reason=error.message, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - a service survives unexpected errors, and logs them
            result = error
            _log.exception(f"daemon.{kind}_failed")
        else:
            log = _log.info if run.exit_code == 0 else _log.error
            log(
                f"daemon.{kind}_ended",
                run=run.id,
                exit_code=run.exit_code,
                problems=[problem.text for problem in run.problems],
            )
        finally:
            del self._running[kind]
        self._ended[kind] = self._clock.now()
        self._notices.ended(kind, result)
        self._report_state()
        await _write_metrics(self.config)

    async def _work(self, kind: Kind, config: Config) -> Run:
        clock, environment = self._clock, self._environment
        if kind == "backup":
            return await backup.run(config, clock=clock, environment=environment, budget=self._budget)
        if kind == "prune":
            return await prune.prune(config, clock=clock, environment=environment)
        if kind == "drill":
            return await self._drill(config)
        return await self._verify(config)

    async def _verify(self, config: Config) -> Run:
        clock = self._clock
        # Resumes a verification that a restart interrupted.
        journal = VerifyJournal(config.store, "objects 1 ", resume=True, now=clock.now())
        run = await verify.run(config.store, journal=journal, clock=clock, environment=self._environment)
        with open_store(config.store, command="mirror daemon") as store:
            store.write_run(run)
        journal.finish()
        return run

    async def _drill(self, config: Config) -> Run:
        from mirror import drill  # with the simulated Bitbucket, which nothing else here needs

        done = await drill.run(
            config.store, clock=self._clock, environment=self._environment, limits=config.limits
        )
        with open_store(config.store, command="mirror daemon") as store:
            store.write_run(done.run)
        return done.run

    def _on_reload(self) -> None:
        task = asyncio.ensure_future(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        """SIGHUP: load the configuration again. Running jobs go on."""
        async with self._reloading:
            await self._load_again()

    async def _load_again(self) -> None:
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.send(RELOADING=1, MONOTONIC_USEC=microseconds)
        try:
            config = self._load()
            unreachable = await self._check(config)
        except ConfigError as error:
            for fault in error.faults:
                _log.error("daemon.reload_refused", fault=fault.text(error.path))
        except (MirrorError, OSError) as error:
            hint = error.hint if isinstance(error, MirrorError) else None
            _log.error("daemon.reload_refused", fault=str(error), hint=hint)
        else:
            self.config = config
            self._notices.use(config)
            self._warn_unreachable(unreachable)
            self._budget.allow(reserve=config.limits.api_reserve, limit=config.limits.api_limit)
            self._plan()
            _log.info("daemon.reloaded", store=str(config.store))
        self._notifier.send(READY=1)

    def _warn_of_expiry(self) -> None:
        """Warn about each token that expires soon: at start, and again with 14, 7 and 1 days left."""
        name = str(self.config.source or "the configuration")
        steps: dict[str, int] = {}
        for left, fault in expiring(self.config, self._clock.now().date()):
            steps[fault.key] = min(days for days in WARN_DAYS if left <= days) if left >= 0 else -1
            if self._warned.get(fault.key) != steps[fault.key]:
                _log.warning("daemon.credential_expires", days_left=left, fault=fault.text(name))
        self._warned = steps

    def _report_state(self) -> None:
        """Report to systemd what runs, or what runs next."""
        running = [f"{kind} running since {time_text(since)}" for kind, since in self._running.items()]
        if not running:
            jobs: list[Any] = [job for job in self._scheduler.get_jobs() if job.id != _LOOK]
            following = min((job.next_run_time for job in jobs if job.next_run_time), default=None)
            last = self._last_backup
            running = ["idle"]
            if following is not None:
                running.append(f"next run {time_text(following)}")
            running.append(f"last backup {time_text(last)}" if last is not None else "no backup yet")
        self._notifier.send(STATUS=", ".join(running))

    async def _feed_watchdog(self) -> None:
        """Feed the watchdog from the event loop, so that systemd notices a loop that hangs."""
        seconds = self._notifier.watchdog_seconds
        if seconds is None:
            return
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                self._notifier.send(WATCHDOG=1)
                await asyncio.sleep(seconds)


async def _write_metrics(config: Config) -> None:
    """Write the textfile, if one is configured, in a thread: it reads the whole store's status."""
    if config.web is not None:
        await asyncio.to_thread(textfile.update, config.web.textfile, lambda: figures(config))


def _last_began(store: Path) -> dict[Kind, datetime]:
    """By kind, when the last run that was not stopped began."""
    try:
        with Store.open(store) as opened:
            began = opened.history().began
    except NoStore:
        return {}
    return {kind: time_from_text(began[kind]) for kind in get_args(Kind) if kind in began}
