"""What hooks announced, which visits followed, and how far the hooks of a workspace can be trusted.

The schedule stays the truth: what it finds and no hook announced shows that hooks are lost. A workspace whose
hooks proved true in its last whole polls (those that asked the API about every repository) is polled less
often; git is asked in every run all the same. Everything is known since this process began; what must outlast
it is in the run records (`facts`, `recall`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mirror.logs import get_logger
from mirror.model import Clock, JsonObject

# So many whole polls in a row must find nothing unannounced.
PROOFS = 3
# A hook may come so many seconds after what it announces was seen,
LATE = 120.0
# or so many before.
EARLY = 60.0

_log = get_logger("hooks")


@dataclass(frozen=True)
class RepositoryVisit:
    """A visit of the repository `uuid` in `workspace` (a uuid), which `began` then (monotonic).

    `is_polled`: the API was asked what changed. `has_new_refs` and `has_moved`: refs changed since the visit
    before, and pull requests or issues since the one that polled. `is_scheduled`: no hook caused it.
    """

    uuid: str
    workspace: str
    began: float
    is_polled: bool
    has_new_refs: bool
    has_moved: bool
    is_scheduled: bool


@dataclass
class _Workspace:
    """The hooks of one workspace.

    `is_heard`: a hook came that was about it, since the last change that none announced, which was counted
    when (monotonic) `lost` says. `proofs`: whole polls in a row without such a change. `unannounced`: such
    changes since the last record; `total`: ever. `polled` and `began`: when (monotonic) the last whole poll
    and the last run began.
    """

    is_heard: bool = False
    proofs: int = 0
    unannounced: int = 0
    total: int = 0
    lost: float = float("-inf")
    polled: float | None = None
    began: float | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether the hooks proved true."""
        return self.is_heard and self.proofs >= PROOFS


@dataclass
class _Turn:
    """Whose turn it is at one repository, and how many want it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Announcements:
    """What hooks announced to this process; one for all its runs. `poll_every` is in seconds (None: each run
    polls), and may be changed; `unannounced` counts the changes that no hook announced."""

    def __init__(self, clock: Clock, *, poll_every: float | None = None) -> None:
        self.poll_every = poll_every
        self.unannounced = 0
        self._clock = clock
        self._workspaces: dict[str, _Workspace] = {}
        # By repository, when (monotonic) it was announced last, as news and once more; and when the last
        # visits began that asked git, and the API.
        self._announced: dict[str, float] = {}
        self._repeated: dict[str, float] = {}
        self._fetched: dict[str, float] = {}
        self._polled: dict[str, float] = {}
        # Changes that may be announced yet: by repository, its workspace, and when the first was seen.
        self._unexplained: dict[str, tuple[str, float]] = {}
        self._turns: dict[str, _Turn] = {}

    # -- hooks, and the visits that they cause

    def announce(self, uuid: str, *, again: bool = False) -> None:
        """A hook said that something changed in a repository. `again`: the same hook came before, so
        that it explains no change that was seen since."""
        self._settle()
        if again:
            self._repeated[uuid] = self._clock.monotonic()
        else:
            self._unexplained.pop(uuid, None)
            self._announced[uuid] = self._clock.monotonic()

    def forget(self, uuid: str) -> None:
        """A repository is none of ours."""
        self._announced.pop(uuid, None)
        self._repeated.pop(uuid, None)

    def is_known(self, uuid: str) -> bool:
        """Whether a repository was visited, by the schedule or because of a hook."""
        return uuid in self._fetched

    def is_waiting(self, uuid: str) -> bool:
        """Whether a repository was announced since the last visit began that asked the API."""
        announced = self._announced.get(uuid)
        return announced is not None and announced >= self._polled.get(uuid, float("-inf"))

    def is_visited(self, uuid: str, *, git_only: bool) -> bool:
        """Whether a visit that was as thorough began after a repository was announced last."""
        visited = (self._fetched if git_only else self._polled).get(uuid)
        heard = self._heard(uuid) if git_only else self._announced.get(uuid)
        return visited is not None and heard is not None and visited > heard

    @asynccontextmanager
    async def turn(self, uuid: str) -> AsyncIterator[None]:
        """One visit of a repository at a time, in this process."""
        turn = self._turns.setdefault(uuid, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[uuid]

    def is_busy(self, uuid: str) -> bool:
        """Whether a visit of a repository is under way."""
        return uuid in self._turns

    def _heard(self, uuid: str) -> float | None:
        found = [one for one in (self._announced.get(uuid), self._repeated.get(uuid)) if one is not None]
        return max(found, default=None)

    def is_polled(self, uuid: str, since: float) -> bool:
        """Whether a visit that asked the API began `since` then, and ended well."""
        return self._polled.get(uuid, float("-inf")) >= since

    # -- what visits found

    def note_visit(self, visit: RepositoryVisit) -> None:
        """Note a visit that ended well. What a scheduled one found since the visit before is held against
        the hooks, unless they announced it."""
        uuid, announced = visit.uuid, self._announced.get(visit.uuid)
        workspace = self._workspace(visit.workspace)
        workspace.is_heard |= announced is not None and announced >= workspace.lost
        before, polled = self._fetched.get(uuid), self._polled.get(uuid)
        is_lost = (visit.has_new_refs and _is_unheard(announced, before)) or (
            visit.has_moved and _is_unheard(announced, polled)
        )
        if visit.is_scheduled and is_lost:
            self._unexplained.setdefault(uuid, (visit.workspace, self._clock.monotonic()))
        self._fetched[uuid] = visit.began
        if visit.is_polled:
            self._polled[uuid] = visit.began

    def _settle(self) -> None:
        """Count the changes that no hook announced in time."""
        now = self._clock.monotonic()
        for uuid, (workspace, seen) in list(self._unexplained.items()):
            if now - seen >= LATE:
                del self._unexplained[uuid]
                found = self._workspace(workspace)
                found.is_heard, found.lost, found.proofs = False, now, 0
                found.unannounced, found.total = found.unannounced + 1, found.total + 1
                self.unannounced += 1
                _log.warning("hooks.unannounced_change", repository=uuid, workspace=workspace)

    # -- runs

    def is_poll_due(self, workspace: str) -> bool:
        """Whether a run of a workspace that begins now asks the API about every repository: always while its
        hooks are not trusted, and once after the start. Else so that `poll_every` is kept, if the next run
        comes as soon as this one came."""
        self._settle()
        found, now = self._workspace(workspace), self._clock.monotonic()
        if self.poll_every is None or not found.is_trusted or found.polled is None or found.began is None:
            return True
        return now - found.polled + (now - found.began) > self.poll_every

    def end_run(self, workspace: str, began: float, *, is_whole: bool) -> JsonObject:
        """A run of a workspace ends that `began` then (monotonic); returns what its record says. `is_whole`:
        it has asked the API about every repository."""
        self._settle()
        found = self._workspace(workspace)
        is_open = any(one == workspace for one, _ in self._unexplained.values())
        # The first poll of a process finds what changed while nobody listened.
        if is_whole and found.polled is not None and not is_open and not found.unannounced:
            found.proofs = min(PROOFS, found.proofs + 1)
        if is_whole:
            found.polled = began
        found.began = began
        facts: JsonObject = {
            "polled": is_whole, "heard": found.is_heard, "proofs": found.proofs,
            "unannounced_changes": found.unannounced, "unannounced_total": found.total,
        }  # fmt: skip
        found.unannounced = 0
        return facts

    def recall(self, facts: Mapping[str, JsonObject]) -> None:
        """Take up what the last record of each workspace says, where this process does not know it yet."""
        for workspace, one in facts.items():
            if workspace not in self._workspaces:
                self._workspaces[workspace] = _Workspace(
                    one.get("heard") is True,
                    max(0, min(PROOFS, int(one.get("proofs", 0)))),
                    total=max(0, int(one.get("unannounced_total", 0))),
                )

    def are_trusted(self) -> bool:
        """Whether the hooks of every workspace are trusted."""
        return bool(self._workspaces) and all(one.is_trusted for one in self._workspaces.values())

    def _workspace(self, uuid: str) -> _Workspace:
        return self._workspaces.setdefault(uuid, _Workspace())


def _is_unheard(heard: float | None, before: float | None) -> bool:
    """Whether no hook was heard since the visit `before`; False where there was none in this process."""
    return before is not None and (heard is None or heard < before - EARLY)
