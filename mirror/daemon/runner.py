"""Runs the jobs that are due, and says how each ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from mirror.backup.listing import Listing
from mirror.browse.figures import figures
from mirror.config import After, Config
from mirror.connect.notices import Notices
from mirror.daemon.jobs import KINDS, Kind, Means, backup_part
from mirror.daemon.queue import LocalQueue
from mirror.daemon.state import State
from mirror.errors import Cancelled, MirrorError
from mirror.logs import get_logger
from mirror.metrics import textfile
from mirror.model import EVERYTHING, Run, Scope
from mirror.model.progress import Gatherer
from mirror.model.queue import Job

_log = get_logger("daemon")


class Runner:
    """Runs each job alone, and those of one lane one after the other. `on_change` is called whenever a job
    begins or ends."""

    def __init__(self, means: Means, state: State, notices: Notices, on_change: Callable[[], None]) -> None:
        self._means, self._state, self._notices, self._on_change = means, state, notices, on_change
        self._turns = {one.lane: asyncio.Lock() for one in KINDS.values()}
        self._queue = LocalQueue(self._work, means.clock, lambda job: self._turns[KINDS[_kind(job)].lane])

    def due(self, kind: Kind, scope: Scope = EVERYTHING) -> None:
        """A job is due: run it now, or as soon as possible. While it runs, it is due once more at most."""
        self._queue.put(Job(kind, scope.job(kind)), after=0)

    async def _work(self, job: Job) -> None:
        await self.run(_kind(job), Scope.of_job(job.subject)[1])

    async def run_part(self, scope: Scope, listed: Listing) -> Run | None:
        """Back up what a discovery gave this host of a scope, when it is its turn; None where that ended with
        an error, which is logged."""
        async with self._turns[KINDS["backup"].lane]:
            if scope not in self._means.config.scopes("backup"):
                hint = "give every host of the cluster the same workspaces and schedule"
                _log.error("daemon.backup_unknown", job=scope.job("backup"), hint=hint)
                return None
            result = await self._run("backup", scope, listed)
            return result if isinstance(result, Run) else None

    async def run(self, kind: Kind, scope: Scope = EVERYTHING) -> None:
        """Run a job. Its errors are logged; only cancellation propagates."""
        if scope in self._means.config.scopes(
            kind
        ):  # else a reload took it away while it waited for its turn
            await self._run(kind, scope)

    async def _run(self, kind: Kind, scope: Scope, listed: Listing | None = None) -> Run | Exception:
        state, config, job = self._state, self._means.config, scope.job(kind)
        progress = state.progress[job] = Gatherer(self._means.clock.monotonic)
        state.running[job] = state.began[job] = self._means.clock.now()
        self._on_change()
        self._notices.began(kind, scope=scope)
        try:
            result = await self._result(kind, scope, config, progress, listed)
        finally:
            del state.running[job], state.progress[job]
        state.ended[job] = self._means.clock.now()
        self._notices.ended(kind, result, scope=scope)
        self._on_change()
        self._follow(kind)
        await _write_metrics(config)
        return result

    def _follow(self, kind: Kind) -> None:
        """What follows jobs of this kind, however they ended, is due now."""
        for other in KINDS:
            trigger = self._means.config.schedule.of(other)
            if isinstance(trigger, After) and trigger.kind == kind:
                self.due(other)

    async def _result(
        self, kind: Kind, scope: Scope, config: Config, progress: Gatherer, listed: Listing | None
    ) -> Run | Exception:
        """The record of a run, or the error with which it ended; both are logged."""
        where = {} if scope.is_everything else {"job": scope.job(kind)}
        try:
            work = KINDS[kind].work if listed is None else partial(backup_part, listed)
            run = await work(self._means, config, scope, progress)
        except (Cancelled, asyncio.CancelledError):
            _log.info(f"daemon.{kind}_stopped", **where)
            raise asyncio.CancelledError from None
        except MirrorError as error:
            _log.error(f"daemon.{kind}_failed", **where, reason=error.message, hint=error.hint)
            return error
        except Exception as error:  # noqa: BLE001 - a service survives unexpected errors, and logs them
            _log.exception(f"daemon.{kind}_failed", **where)
            return error
        log = _log.info if run.exit_code == 0 else _log.error
        problems = [problem.text for problem in run.problems]
        log(f"daemon.{kind}_ended", **where, run=run.id, exit_code=run.exit_code, problems=problems)
        return run

    async def stop(self, seconds: float) -> None:
        """Cancel what runs and start nothing more; waits until each run has written its record, at most
        `seconds`."""
        await asyncio.wait({asyncio.ensure_future(self._queue.stop())}, timeout=seconds)


def _kind(job: Job) -> Kind:
    """The kind of a job of the schedule."""
    return next(kind for kind in KINDS if kind == job.kind)


async def _write_metrics(config: Config) -> None:
    """Write the textfile, if one is configured, in a thread: it reads the whole store's status."""
    if config.web is not None and config.web.textfile is not None:
        await asyncio.to_thread(textfile.update, config.web.textfile, lambda: figures(config.store, config))
