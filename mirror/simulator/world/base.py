"""Bases of World and SimWorkspace, which every part of the world refers to.

They do not know the repositories, so that repositories can import them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.simulator.switches import Switches
from mirror.simulator.world.events import Event, Listener, nobody
from mirror.simulator.world.people import Token, User

TICK = timedelta(microseconds=1)


class BaseWorld:
    """Clock, numbers, people and limits. `root` is the folder of the repositories.

    `clock` returns the current time. `switches` are those of the simulator that serves the world.
    """

    def __init__(self, root: Path, clock: Callable[[], datetime] | None = None) -> None:
        self.root = root
        self.clock = clock or _now
        self.switches = Switches.default()
        # Told of each change that Bitbucket announces, in the thread that makes it.
        self.listener: Listener = nobody
        # By e-mail address.
        self.users: dict[str, User] = {}
        self.tokens: list[Token] = []
        # By former address, `workspace/slug`: the uuid of the repository that moved away from there.
        self.moved: dict[str, str] = {}
        # The largest push and file in bytes, and the most schedules that a repository may have.
        self.sizes: dict[str, int] = {"push": 4 << 30, "file": 100 << 20, "schedules": 10}
        self._last = datetime(2000, 1, 1, tzinfo=UTC)
        self._pinned: datetime | None = None
        self._numbers = 0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The current time, always later than the last one returned."""
        with self._lock:
            if self._pinned is not None:
                self._pinned += TICK
                return self._pinned
            self._last = max(self.clock(), self._last + TICK)
            return self._last

    @contextlib.contextmanager
    def at(self, when: datetime) -> Iterator[None]:
        """Inside, `now` returns `when`, and a microsecond more with each call."""
        before, self._pinned = self._pinned, when
        try:
            yield
        finally:
            self._pinned = before

    def announce(self, key: str, repository: Any, actor: User | None = None, **detail: Any) -> None:
        """Tell the listener of a change."""
        self.listener(Event(key, repository, actor, detail))

    def number(self) -> int:
        """A number that was not returned before."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    # -- people

    def add_user(
        self, name: str, email: str, *, workspaces: Iterable[str] | None = None, uuid: str | None = None
    ) -> User:
        """The user with this address, created where there is none. By default a member of all workspaces; the
        uuid follows from the address."""
        member = None if workspaces is None else frozenset(workspaces)
        return self.users.setdefault(email, User(name, email, workspaces=member, given_uuid=uuid))

    def actor(self, token: Token) -> User:
        """The account that `token` acts as; adds it to the users."""
        account = token.account
        return self.users.setdefault(account.email, account)

    def account(self, key: str) -> User | None:
        """The account of this uuid or account id that is not deleted."""
        known = (one for one in self.users.values() if key in (one.uuid, one.account_id))
        return next((one for one in known if not one.deleted), None)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class BaseWorkspace:
    """A workspace without its repositories: names, projects, settings and groups."""

    world: BaseWorld
    slug: str
    name: str
    uuid: str
    # By key: the names of the projects.
    projects: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    project_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By key: what the API shows of a project besides its name.
    project_details: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By slug: the names of its groups.
    groups: dict[str, str] = field(default_factory=dict)
    # The number of users who may be given access; None: any number.
    seats: int | None = None
