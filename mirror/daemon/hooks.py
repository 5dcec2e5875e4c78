"""What the service does with hooks: true ones become jobs, and the jobs become visits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

from mirror.backup.announced import AnnouncedBackups, Visited
from mirror.backup.announcements import Announcements
from mirror.bitbucket.client.budget import Budget
from mirror.config import Config
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock
from mirror.model.elsewhere import Elsewhere
from mirror.model.live import HooksState
from mirror.model.queue import Job, QueueOf

# Hooks come in bursts: a visit begins so many seconds after the first.
DEBOUNCE_SECONDS = 2.0
# A hook that comes once more waits longer: somebody may send it again and again. So does the second look.
AGAIN_SECONDS = 60.0
# A repository that the store does not have starts one list of all workspaces in so many seconds.
DISCOVERY_SECONDS = 300.0
# So many hooks are remembered, to know those that come once more, and so many repositories that are not ours.
EVENTS_MAX = 16_384
STRANGERS_MAX = 4_096

_log = get_logger("hooks")


class Hooks:
    """Takes what the hooks' door receives (the port `HookEvents`), and has announced repositories backed up
    beside the schedule."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        environment: Mapping[str, str],
        budget: Budget,
        queue_of: QueueOf,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._clock = clock
        self._announcements = Announcements(clock)
        self._backups = AnnouncedBackups(
            config, self._announcements, clock=clock, environment=environment, budget=budget,
            elsewhere=elsewhere,
        )  # fmt: skip
        self._is_on = False
        self._configure(config)
        self._queue = queue_of(self._work)
        self._events = _Recent(EVENTS_MAX)
        self._strangers = _Recent(STRANGERS_MAX)
        # Repositories that the store does not have, or that have another name now.
        self._unknown: set[str] = set()
        self._discovered: float | None = None
        self._received = self._refused = self._announced = 0
        self._last: datetime | None = None

    def announce(self, uuid: str | None, event: bytes) -> None:
        """See `HookEvents.announce`."""
        self._received += 1
        self._last = self._clock.now()
        is_again = self._events.add(event)
        if uuid is None or (uuid in self._strangers and not self._announcements.is_known(uuid)):
            return
        self._announcements.announce(uuid, again=is_again)
        after = AGAIN_SECONDS if is_again else DEBOUNCE_SECONDS
        self._queue.put(Job("backup", uuid, git_only=is_again, is_news=not is_again), after=after)

    def refuse(self) -> None:
        """See `HookEvents.refuse`."""
        self._refused += 1

    def state(self) -> HooksState:
        """What hooks did since the service started."""
        return HooksState(
            received=self._received,
            refused=self._refused,
            announced=self._announced,
            unannounced_changes=self._announcements.unannounced,
            are_trusted=self._announcements.are_trusted(),
            last=self._last,
        )

    @property
    def announcements(self) -> Announcements | None:
        """What hooks announced; None where the configuration has no hooks."""
        return self._announcements if self._is_on else None

    async def use(self, config: Config) -> None:
        """From now on, do as this configuration says: other repositories may be ours. Of another store
        nothing is known yet."""
        if config.store != self._store:
            self._announcements = Announcements(self._clock)  # a run that goes on keeps those it has
        self._configure(config)
        self._strangers.clear()
        await self._backups.use(config, self._announcements)

    def _configure(self, config: Config) -> None:
        self._store = config.store
        self._is_on = config.hooks is not None
        every = config.hooks.poll_every if config.hooks is not None else None
        self._announcements.poll_every = None if every is None else every.total_seconds()

    async def stop(self) -> None:
        """Stop the visits, and write the record of what they did. What they did not do is left to the first
        run after the start, which polls everything."""
        await self._queue.stop()
        await self._backups.stop()

    async def _work(self, job: Job) -> None:
        """Do one job. Its errors are logged: the schedule meets them too, and reports them."""
        try:
            if job.kind == "discover":
                await self._discover()
            else:
                await self._backup(job)
        except (MirrorError, OSError) as error:
            reason = error.message if isinstance(error, MirrorError) else str(error)
            _log.warning("hooks.visit_failed", repository=job.subject or None, reason=reason)

    async def _backup(self, job: Job) -> None:
        is_second = not job.is_news and not job.git_only
        if job.is_foreign and not is_second:
            self._announcements.announce(job.subject, again=not job.is_news)
        visited = await self._backups.backup(job.subject, git_only=job.git_only, is_second=is_second)
        if visited is Visited.UNKNOWN:
            self._need_discovery(job.subject)
            return
        self._announced += not is_second
        if job.is_news:
            # Hooks may come before their changes can be seen. What a visit found may be another's news, so
            # that each is followed by one more look, which hooks that come meanwhile join.
            self._queue.put(Job("backup", job.subject), after=AGAIN_SECONDS)

    def _need_discovery(self, uuid: str) -> None:
        if len(self._unknown) >= STRANGERS_MAX:
            return  # the schedule finds it
        self._unknown.add(uuid)
        wait = 0.0
        if self._discovered is not None:
            wait = max(0.0, self._discovered + DISCOVERY_SECONDS - self._clock.monotonic())
        self._queue.put(Job("discover", ""), after=wait)

    async def _discover(self) -> None:
        """Find out which of the unknown repositories are ours."""
        wanted, self._unknown = self._unknown, set()
        self._discovered = self._clock.monotonic()
        found, is_complete = await self._backups.discover(wanted)
        self._announced += len(found)
        _log.info("hooks.discovered", announced=len(wanted), ours=len(found))
        for uuid in wanted - found if is_complete else ():
            self._strangers.add(uuid.encode("ascii"))
            self._announcements.forget(uuid)


class _Recent:
    """The last things that were seen, so many at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def add(self, one: bytes) -> bool:
        """Add a thing; returns whether it was seen before."""
        was_seen = one in self._seen
        self._seen[one] = None
        self._seen.move_to_end(one)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return was_seen

    def __contains__(self, one: str) -> bool:
        return one.encode("ascii") in self._seen

    def clear(self) -> None:
        """Forget everything."""
        self._seen.clear()
