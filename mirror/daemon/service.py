"""The service: start, signals, reload and end, and what it tells systemd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from mirror.config import Config
from mirror.connect import budget_of
from mirror.connect.notices import Notices
from mirror.daemon.clustered import Clustered
from mirror.daemon.expiry import ExpiryWarnings
from mirror.daemon.hooks import Hooks
from mirror.daemon.jobs import Means
from mirror.daemon.listening import Listeners, Listening, no_listeners
from mirror.daemon.live import ServiceLive
from mirror.daemon.notify import Notifier
from mirror.daemon.overdue import overdue_report
from mirror.daemon.preflight import check
from mirror.daemon.runner import Runner
from mirror.daemon.sole import Sole
from mirror.daemon.state import State
from mirror.daemon.timetable import Timetable
from mirror.daemon.watch import watch
from mirror.errors import ConfigError, MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, time_text
from mirror.model.words import progress
from mirror.notify.conditions import Report

# The time that the service requests from systemd to stop. A run usually stops within moments.
STOP_SECONDS = 60.0
# How long it waits then for notices that are being sent.
NOTICES_STOP_SECONDS = 5.0
# How often it tells systemd how far its jobs are, in seconds.
PROGRESS_SECONDS = 10.0

# What jobs count while they run, other than repositories.
_UNITS = {"drill": "steps", "copy": "folders"}

_log = get_logger("daemon")


async def serve(
    load_config: Callable[[], Config],
    *,
    clock: Clock,
    environment: Mapping[str, str],
    listeners: Listeners = no_listeners,
) -> int:
    """Run the schedule until SIGTERM or SIGINT; returns the exit code.

    Configuration, store, secrets and credentials are checked, and `listeners` opened, before it reports
    READY; their faults are raised. SIGHUP reads the configuration again and opens the listeners anew; if
    that fails, the old one stays in force. A failed run never ends the service. A second SIGTERM or SIGINT
    ends the process at once.
    """
    return await _Service(load_config(), load_config, clock, environment, listeners).run()


class _Service:
    def __init__(
        self,
        config: Config,
        load_config: Callable[[], Config],
        clock: Clock,
        environment: Mapping[str, str],
        listeners: Listeners = no_listeners,
    ) -> None:
        self._load = load_config
        self._clock = clock
        self._cluster = Clustered(config, clock, environment)
        budget = budget_of(config, clock, leases=self._cluster.leases)
        self.means = Means(config, clock, environment, budget, elsewhere=self._cluster.elsewhere)
        self.state = State(clock.now(), clock.now())
        self.notices = Notices(
            config, clock=clock, environment=environment, host=socket.gethostname(), standing=self._overdue
        )
        self.runner = Runner(self.means, self.state, self.notices, self._changed)
        self._timetable = Timetable(config, self.runner.due, self.look, self._cluster.next_times)
        self._cluster.take_part(self.means, self._timetable.jobs, self.runner.run_part, self._changed)
        self._hooks = Hooks(
            config, clock=clock, environment=environment, budget=budget,
            queue_of=self._cluster.queue_of, elsewhere=self._cluster.elsewhere,
        )  # fmt: skip
        self.means.announcements = self._hooks.announcements
        live = ServiceLive(self.means, self.state, self._timetable, self._hooks, self._cluster)
        self._listening = Listening(listeners, live, self._hooks, self.state, clock, self._changed)
        self._notifier = Notifier(environment)
        self._sole = Sole(clock)
        self._expiry = ExpiryWarnings()
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve until a signal stops it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        watchdog = asyncio.ensure_future(self._feed_watchdog())
        telling = asyncio.ensure_future(self._tell_progress())
        watching = asyncio.ensure_future(watch(self._clock, self._timetable.wake, self._clock_stepped))
        try:
            async with self._reloading:
                started = await self._start()
            if started:
                stopping = asyncio.ensure_future(self._stop.wait())
                await asyncio.wait({stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
            await self.end()
            if watching.done():
                await watching  # no schedule is kept without it; systemd starts a service that failed anew
        finally:
            for task in (watchdog, telling, watching, *self._reloads):
                task.cancel()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
            await self._sole.release()
        return 0

    async def _start(self) -> bool:
        """Check the configuration, open the listeners and begin the schedule. Returns False where a signal
        stopped it meanwhile."""
        config = self.means.config
        checking = asyncio.ensure_future(self._check(config))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({checking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not checking.done():
            checking.cancel()
            return False
        self._warn_unreachable(await checking)
        await self._sole.take(config.store)
        await self._cluster.start()
        await self._listening.open(config)
        self._timetable.start()
        self._plan()
        self._notifier.send(READY=1)
        times = {job.name: job.trigger.text for job in self._timetable.jobs}
        _log.info("daemon.ready", schedule=times, store=str(config.store))
        return True

    async def _check(self, config: Config) -> list[str]:
        means = self.means
        return await check(config, clock=means.clock, environment=means.environment, budget=means.budget)

    def _warn_unreachable(self, reasons: list[str]) -> None:
        for reason in reasons:
            hint = "the schedule runs anyway; the next backup shows whether the credentials are valid"
            _log.warning("daemon.bitbucket_unreachable", reason=reason, hint=hint)

    async def end(self) -> None:
        """Stop what runs, and wait until it has written its records."""
        self._notifier.send(STOPPING=1, STATUS="stopping", EXTEND_TIMEOUT_USEC=int(STOP_SECONDS * 1e6))
        self._timetable.pause()
        stopping = {
            asyncio.ensure_future(self._hooks.stop()), asyncio.ensure_future(self._cluster.stop())
        }  # fmt: skip
        await self.runner.stop(STOP_SECONDS)
        await asyncio.wait(stopping, timeout=STOP_SECONDS)
        await self._listening.close()
        await self.notices.finish(NOTICES_STOP_SECONDS)
        self._timetable.shutdown()
        _log.info("daemon.stopped")

    def _on_stop(self) -> None:
        if self._stop.is_set():
            # The second signal does not wait for records; the next run resumes what this one leaves. Nothing
            # is left where no job runs any more.
            left = sorted(self.state.running)
            _log.warning("daemon.stopped_at_once", left=left)
            os._exit(130 if left else 0)
        self._stop.set()

    def _plan(self) -> None:
        """Follow the schedule of the configuration in force."""
        config, now = self.means.config, self._clock.now()
        self.state.recall(config.store)
        self._timetable.plan(config, self.state, now)
        self._changed()

    def _clock_stepped(self, step: timedelta) -> None:
        """The machine slept, or its clock was set: nothing is late because of that. What follows is planned
        anew, as at a start: a clock that was set back has left it in the future."""
        _log.warning("daemon.clock_stepped", seconds=int(step.total_seconds()))
        now = self._clock.now()
        if step < timedelta():
            self.state.shift(step)
        self.state.kept = now
        self._timetable.plan(self.means.config, self.state, now)
        self._changed()

    def look(self) -> None:
        """Warn of credentials that expire; tell people what is overdue, and repeat what is still not well."""
        self._expiry.look(self.means.config, self._clock.now())
        if self.means.config.notify is not None:
            self.notices.tell(again=[job.name for job in self._timetable.jobs])

    def _overdue(self) -> Report:
        return overdue_report(self._timetable.jobs, self.state, self._clock.now())

    def _on_reload(self) -> None:
        task = asyncio.ensure_future(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        """SIGHUP: load the configuration again. Running jobs go on."""
        async with self._reloading:
            microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._notifier.send(RELOADING=1, MONOTONIC_USEC=microseconds)
            try:
                await self._use(self._load())
            except ConfigError as error:
                for fault in error.faults:
                    _log.error("daemon.reload_refused", fault=fault.text(error.path))
            except (MirrorError, OSError) as error:
                hint = error.hint if isinstance(error, MirrorError) else None
                _log.error("daemon.reload_refused", fault=str(error), hint=hint)
            except Exception:  # noqa: BLE001 - a service survives unexpected errors, and logs them
                _log.exception("daemon.reload_refused")
            self._notifier.send(READY=1)

    async def _use(self, config: Config) -> None:
        """From now on, do as this configuration says. Where it cannot work, raises, and changes nothing."""
        self._cluster.check(config)
        unreachable = await self._check(config)
        await self._sole.take(config.store)
        try:
            await self._listening.reopen(config)
        except Exception:
            await self._sole.take(self.means.config.store)
            raise
        self.means.config = config
        await self._hooks.use(config)
        self.means.announcements = self._hooks.announcements
        self.notices.use(config)
        self._warn_unreachable(unreachable)
        self.means.budget.allow(reserve=config.limits.api_reserve, limit=config.limits.api_limit)
        self._plan()
        self._cluster.use(config, self._timetable.jobs)
        _log.info("daemon.reloaded", store=str(config.store))

    def _changed(self) -> None:
        """Report to systemd what runs, or what runs next."""
        state = self.state
        trouble = [] if state.trouble is None else [f"the listeners failed: {state.trouble}"]
        trouble += [one for one in (self._cluster.trouble,) if one is not None]
        said = [f"{job}: {self._how_far(job)}" for job in state.running]
        if not said:
            said = ["idle"]
            following = min(self._timetable.next_times().values(), default=None)
            if following is not None:
                said.append(f"next run {time_text(following)}")
            backups = [when for job, when in state.began.items() if job.partition(" ")[0] == "backup"]
            last = max(backups, default=None)
            said.append(f"last backup {time_text(last)}" if last is not None else "no backup yet")
        self._notifier.send(STATUS=", ".join([*trouble, *said]))

    def _how_far(self, job: str) -> str:
        unit = _UNITS.get(job.partition(" ")[0], "repositories")
        return progress(self.state.progress[job].picture(), unit)

    async def _tell_progress(self) -> None:
        """Report to systemd again and again how far the jobs are."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            if self.state.running:
                self._changed()

    async def _feed_watchdog(self) -> None:
        """Feed the watchdog from the event loop, so that systemd notices a loop that hangs."""
        seconds = self._notifier.watchdog_seconds
        if seconds is None:
            return
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                self._notifier.send(WATCHDOG=1)
                await asyncio.sleep(seconds)
