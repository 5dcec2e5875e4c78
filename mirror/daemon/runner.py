"""Runs the jobs that are due, and says how each ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from mirror.browse.figures import figures
from mirror.config import Config
from mirror.connect.notices import Notices
from mirror.daemon.jobs import KINDS, Kind, Means
from mirror.daemon.lanes import Lane
from mirror.daemon.state import State
from mirror.errors import Cancelled, MirrorError
from mirror.logs import get_logger
from mirror.metrics import textfile
from mirror.model import Run

_log = get_logger("daemon")


class Runner:
    """Has a lane for each job. `on_change` is called whenever a job begins or ends."""

    def __init__(self, means: Means, state: State, notices: Notices, on_change: Callable[[], None]) -> None:
        self._means, self._state, self._notices, self._on_change = means, state, notices, on_change
        turns = {one.lane: asyncio.Lock() for one in KINDS.values()}
        self._lanes = {kind: Lane(partial(self.run, kind), turns[one.lane]) for kind, one in KINDS.items()}

    def due(self, kind: Kind) -> None:
        """A job is due: run it now, or as soon as possible."""
        self._lanes[kind].due()

    async def run(self, kind: Kind) -> None:
        """Run a job. Its errors are logged; only cancellation propagates."""
        state, config = self._state, self._means.config
        state.running[kind] = state.began[kind] = self._means.clock.now()
        self._on_change()
        self._notices.began(kind)
        try:
            result = await self._result(kind, config)
        finally:
            del state.running[kind]
        state.ended[kind] = self._means.clock.now()
        self._notices.ended(kind, result)
        self._on_change()
        await _write_metrics(config)

    async def _result(self, kind: Kind, config: Config) -> Run | Exception:
        """The record of a run, or the error with which it ended; both are logged."""
        try:
            run = await KINDS[kind].work(self._means, config)
        except (Cancelled, asyncio.CancelledError):
            _log.info(f"daemon.{kind}_stopped")
            raise asyncio.CancelledError from None
        except MirrorError as error:
            _log.error(f"daemon.{kind}_failed", reason=error.message, hint=error.hint)
            return error
        except Exception as error:  # noqa: BLE001 - a service survives unexpected errors, and logs them
            _log.exception(f"daemon.{kind}_failed")
            return error
        log = _log.info if run.exit_code == 0 else _log.error
        problems = [problem.text for problem in run.problems]
        log(f"daemon.{kind}_ended", run=run.id, exit_code=run.exit_code, problems=problems)
        return run

    async def stop(self, seconds: float) -> None:
        """Cancel what runs and start nothing more; waits until each run has written its record, at most
        `seconds`."""
        stopping = [asyncio.ensure_future(lane.stop()) for lane in self._lanes.values()]
        await asyncio.wait(stopping, timeout=seconds)


async def _write_metrics(config: Config) -> None:
    """Write the textfile, if one is configured, in a thread: it reads the whole store's status."""
    if config.web is not None and config.web.textfile is not None:
        await asyncio.to_thread(textfile.update, config.web.textfile, lambda: figures(config))
