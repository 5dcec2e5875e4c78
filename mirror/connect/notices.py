"""Notices and pings as the configuration says, about the runs of this process.

Each is sent by a task of its own, in bounded time: it neither delays a run nor fails one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import date
from typing import Any

from mirror.auth.secrets import SecretSource, read_secret
from mirror.config import WARN_DAYS, expiring
from mirror.config.settings import Config, NotifyConfig
from mirror.connect.network import network_of
from mirror.errors import MirrorError, UsageError
from mirror.logs import get_logger
from mirror.model import EVERYTHING, Clock, Run, RunKind, Scope, Selector
from mirror.notify import delivery
from mirror.notify.conditions import Condition, Event, Report, of_error, of_run
from mirror.notify.judgement import judge
from mirror.notify.memory import Memory
from mirror.notify.message import Message, compose
from mirror.notify.ping import Signal, check_url, ping
from mirror.store.format.layout import CACHE

# How long a process waits at its end for what is being sent, in seconds.
FINISH_SECONDS = 60.0
# How many conditions a ping describes.
PING_LINES_MAX = 20

_log = get_logger("notify")


class Notices:
    """Reports the runs of this process to people. `config` may be replaced at any time; `host` names this
    machine in notices. Secrets are read anew for each notice and ping.

    `standing` makes a report that belongs into every notice, as that of expiring credentials does.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        environment: Mapping[str, str],
        host: str,
        standing: Callable[[], Report] | None = None,
    ) -> None:
        self.config = config
        self._clock = clock
        self._environment = environment
        self._host = host
        self._standing = standing
        self._memory = Memory(config.store / CACHE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling = asyncio.Lock()
        self._start: asyncio.Task[None] | None = None

    def use(self, config: Config) -> None:
        """From now on, do as this configuration says."""
        if config.store != self.config.store:
            self._memory = Memory(config.store / CACHE)
        self.config = config

    def began(self, kind: RunKind, selectors: Sequence[Selector] = (), scope: Scope = EVERYTHING) -> None:
        """A run began. Backups of everything are pinged, and so are those of all workspaces without a
        schedule of their own: other runs do not say that the backup works."""
        if kind == "backup" and not selectors and scope.only is None and self.config.ping is not None:
            self._start = self._begin(self._ping(self.config.ping.url, "start", ""))

    def ended(
        self,
        kind: RunKind,
        result: Run | Exception,
        selectors: Sequence[Selector] = (),
        scope: Scope = EVERYTHING,
    ) -> None:
        """A run ended with this record, or with this error and without one."""
        if isinstance(result, Run):
            report = of_run(result, selectors, scope)
        else:
            report = of_error(kind, result, selectors, scope)
        if report is None:
            return
        if kind == "backup" and not selectors and scope.only is None and self.config.ping is not None:
            self._begin(self._ping_end(self.config.ping.url, self._start, report))
        self.tell(report)

    def tell(self, *reports: Report, again: Sequence[str] = ()) -> None:
        """Tell people, in one message at most, what is new in these reports, and what of the last reports of
        the topics `again` lasts since the last notice."""
        if self.config.notify is not None:
            self._begin(self._tell(self.config.notify, reports, again))

    async def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Wait until everything is sent, at most `seconds`; what is not is given up."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _tell(self, notify: NotifyConfig, reports: Sequence[Report], again: Sequence[str]) -> None:
        async with self._telling:  # the next notice must know what this one says
            now, memory = self._clock.now(), self._memory
            every = [*reports, *(memory.read(topic).report(topic) for topic in again)]
            every += [expiring_report(self.config, now.date())]
            every += [self._standing()] if self._standing is not None else []
            verdicts = [judge(one, memory.read(one.topic), now=now, on=notify.on) for one in every]
            message = compose(verdicts, host=self._host, store=self.config.store)
            sent = message is None or await self._send(notify, message)
            for one in verdicts:
                memory.write(one.topic, one.if_sent if sent else one.if_not_sent)

    async def _send(self, notify: NotifyConfig, message: Message) -> bool:
        """Send to all addresses; returns whether one of them took it."""
        try:
            results = await _deliver(self.config, notify, self._environment, message)
        except (MirrorError, OSError) as error:
            _log.error("notify.not_sent", reason=str(error), hint=getattr(error, "hint", None))
            return False
        for index, problem in enumerate(results):
            if problem is not None:
                _log.warning("notify.not_sent", key=f"notify.urls[{index}]", reason=problem)
        count = results.count(None)
        if count:
            _log.info("notify.sent", title=message.title, addresses=count)
        return count > 0

    async def _ping_end(self, url: SecretSource, start: asyncio.Task[None] | None, report: Report) -> None:
        if start is not None:  # the server must get it first
            await asyncio.wait({start})
        ordered = sorted(report.conditions, key=lambda one: one.rank)
        text = "\n".join([*(one.line for one in ordered[:PING_LINES_MAX]), report.source])
        await self._ping(url, "fail" if report.conditions else "success", text)

    async def _ping(self, source: SecretSource, signal: Signal, text: str) -> None:
        url = await _reveal(source, self._environment)
        check_url(url)
        network = await network_of(self.config, self._environment)
        await ping(url, signal, text, network=network, clock=self._clock)


async def check_notices(config: Config, environment: Mapping[str, str]) -> None:
    """Raise UsageError where notices and pings cannot work: no Apprise, no secret, a malformed address.
    Sends nothing."""
    if config.ping is not None:
        check_url(await _reveal(config.ping.url, environment))
    if config.notify is None:
        return
    delivery.check_installed()
    urls = [await _reveal(one, environment) for one in config.notify.urls]
    unknown = await delivery.unknown(urls, environment=environment)
    if unknown:
        raise UsageError(
            f"notify.urls[{unknown[0]}], from {config.notify.urls[unknown[0]]}, is not an address that "
            "Apprise knows",
            hint="docs/monitoring.md has examples; `apprise --dry-run -b test ADDRESS` tries one",
        )


async def send_test(config: Config, environment: Mapping[str, str], host: str) -> list[str | None]:
    """Send a test notice to each address of `notify`; returns for each why it was not sent, or None. Raises
    UsageError."""
    assert config.notify is not None
    title = f"Mirror on {host}: this is a test"
    message = Message(title, f"Notices about the store {config.store} arrive here.", "success")
    return await _deliver(config, config.notify, environment, message)


def expiring_report(config: Config, today: date) -> Report:
    """The credentials that expire soon or have expired. One has a notice with 30, 14, 7 and 1 days left, and
    once it has expired."""
    name = str(config.source or "the configuration")
    conditions = []
    for left, fault in expiring(config, today):
        step = min(days for days in WARN_DAYS if left <= days) if left >= 0 else -1
        key = f"{fault.key}:{step}"
        conditions.append(Condition(key, "", Event.EXPIRING, 12, fault.text(name), repeats=False))
    return Report("credentials", tuple(conditions))


async def _deliver(
    config: Config, notify: NotifyConfig, environment: Mapping[str, str], message: Message
) -> list[str | None]:
    delivery.check_installed()
    urls = [await _reveal(one, environment) for one in notify.urls]
    network = await network_of(config, environment)
    return await delivery.deliver(message, urls, network=network, environment=environment)


async def _reveal(source: SecretSource, environment: Mapping[str, str]) -> str:
    return (await read_secret(source, environment=environment)).reveal()


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; what it raises is logged, and fails no run."""
    try:
        await work
    except MirrorError as error:
        _log.error("notify.failed", reason=error.message, hint=error.hint)
    except Exception as error:  # noqa: BLE001 - a notice never fails a run
        _log.error("notify.failed", reason=type(error).__name__)
