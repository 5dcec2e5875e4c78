"""What a person should know of a cluster: its shards, its queue, its budget, and what stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from mirror.cluster.brakes import INTERVAL_SECONDS, INTERVALS
from mirror.cluster.database import Connection
from mirror.cluster.leases import hashed
from mirror.cluster.shards import SILENCE_SECONDS, SKEW_MAX, Shard, shards
from mirror.errors import Result
from mirror.model import JsonObject, time_text
from mirror.model.words import age, counted
from mirror.store.format.brake import loss_from_json


@dataclass(frozen=True)
class ShardState:
    """A shard, with how many repositories it has and how many jobs run and wait there.

    `unknown_since` is when it was last seen, where that is longer ago than two of its backup intervals:
    nothing that it said since counts.
    """

    shard: Shard
    repositories: int
    running: int
    waiting: int
    unknown_since: datetime | None

    @property
    def state(self) -> str:
        """The state in a word: here, silent, unknown, called dead."""
        if self.shard.retired is not None:
            return "called dead"
        if self.unknown_since is not None:
            return "unknown"
        return "here" if self.shard.age <= SILENCE_SECONDS else "silent"

    @property
    def concerns(self) -> list[str]:
        """What somebody should look at."""
        one, found = self.shard, []
        seen = f"{age(timedelta(seconds=one.age))} ago"
        if one.retired is not None and self.repositories:
            found.append(
                f"the shard {one.name} was called dead and still has {self.repositories} repositories:"
                f" mirror cluster move --from {one.name}"
            )
        elif one.retired is None and self.unknown_since is not None:
            found.append(f"the shard {one.name} is unknown since {time_text(self.unknown_since)} ({seen})")
        elif one.retired is None and one.age > SILENCE_SECONDS:
            found.append(
                f"the shard {one.name} was last seen {seen}: start its daemon, or, if its host is dead for"
                f" good: mirror cluster move --from {one.name}"
            )
        if one.retired is None and one.skew is not None and abs(one.skew) > SKEW_MAX.total_seconds():
            way = "ahead of" if one.skew > 0 else "behind"
            found.append(f"the clock of {one.name} is {abs(one.skew):.0f} s {way} the database's: use NTP")
        if one.retired is None and one.copy_to is None:
            found.append(f"the shard {one.name} has no copy: what it holds is lost with its disk")
        return found + ([self._return] if self.has_returned else [])

    @property
    def has_returned(self) -> bool:
        """Whether it came back after it was called dead."""
        return self.shard.retired is not None and self.shard.returned is not None

    @property
    def _return(self) -> str:
        one = self.shard
        assert one.returned is not None
        found = f"the shard {one.name}, called dead, came back on {one.host} at {time_text(one.returned)}"
        if one.aside:
            found += f": {counted(one.aside, 'folders')} that others have now lie in quarantine/ of its store"
        if one.alone:
            found += (
                f"; {counted(one.alone, 'repositories')} of it no other shard has: bring the folders to one,"
                " and run mirror cluster adopt FOLDER"
            )
        return found

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        one = self.shard
        return {
            "name": one.name,
            "state": self.state,
            "host": one.host,
            "program": one.program,
            "weight": one.weight,
            "seen": time_text(one.seen),
            "seconds_since_seen": round(one.age, 1),
            "unknown_since": time_text(self.unknown_since) if self.unknown_since else None,
            "clock_skew": one.skew,
            "copy": one.copy_to,
            "interval": one.interval_seconds,
            "repositories": self.repositories,
            "running": self.running,
            "waiting": self.waiting,
        }


@dataclass(frozen=True)
class Spent:
    """The requests of one identity (a hash) and group in the last hour, as far as they were lent.
    `credential` is where this host's configuration has it; None: nowhere, as far as its secrets could be
    read."""

    identity: str
    group: str
    used: int
    limit: int | None
    blocked_until: datetime | None
    credential: str | None = None

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        blocked = time_text(self.blocked_until) if self.blocked_until else None
        return {**self.__dict__, "blocked_until": blocked}


@dataclass(frozen=True)
class Overview(Result):
    """The state of a cluster. `conflicts` are repositories that several stores hold, `homeless` how many are
    on their way or belong to no shard; `brakes` are the losses that tripped one, by the workspace's uuid."""

    shards: Sequence[ShardState]
    budgets: Sequence[Spent]
    brakes: Sequence[tuple[str, str, str]]
    conflicts: Mapping[str, Sequence[str]]
    homeless: int
    moves: Sequence[JsonObject] = field(default_factory=tuple)

    @property
    def concerns(self) -> list[str]:
        """What somebody should look at, the most urgent first."""
        tripped = [f"{loss}: nothing of it is pruned; see mirror accept-loss" for _, loss, _ in self.brakes]
        return [*self.own_concerns, *tripped, *(text for one in self.shards for text in one.concerns)]

    @property
    def own_concerns(self) -> list[str]:
        """Those of no shard, and of no brake, which the stores have as well."""
        found = [
            f"{name} is in several stores ({', '.join(several)}): nothing is written to it until one is moved"
            " away"
            for name, several in self.conflicts.items()
        ]
        dead = {one.shard.name for one in self.shards if one.shard.retired is not None}
        return [*found, *(text for one in self.moves if (text := _hindrance(one, dead)) is not None)]

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """5 where a brake is tripped, 3 where a shard is not there, or something is in the way of a move."""
        away = any(one.state in ("unknown", "silent") for one in self.shards)
        dead = any(one.state == "called dead" and one.repositories for one in self.shards)
        codes = [5] if self.brakes else []
        return tuple([*codes, 3] if away or dead or self.own_concerns else codes)

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "shards": [one.to_json() for one in self.shards],
            "budgets": [one.to_json() for one in self.budgets],
            "brakes": [
                {"workspace": workspace, "loss": loss, "shard": shard}
                for workspace, loss, shard in self.brakes
            ],
            "conflicts": {name: list(several) for name, several in self.conflicts.items()},
            "without_shard": self.homeless,
            "moves": list(self.moves),
            "returned": [
                {
                    "name": one.shard.name,
                    "host": one.shard.host,
                    "at": time_text(one.shard.returned),
                    "aside": one.shard.aside,
                    "alone": one.shard.alone,
                }
                for one in self.shards
                if one.has_returned and one.shard.returned is not None
            ],
            "concerns": self.concerns,
            **self.codes_to_json(),
        }


async def overview(connection: Connection, places: Mapping[str, str] = MappingProxyType({})) -> Overview:
    """The state of the cluster. `places` says where credentials stand, by identity. Raises what the database
    raises."""
    [(salt,)] = await _all(connection, "SELECT salt FROM cluster")
    names = {hashed(bytes(salt), identity): place for identity, place in places.items()}
    held = dict(await _all(connection, _HELD))
    jobs = {(queue, status): count for queue, status, count in await _all(connection, _JOBS)}
    return Overview(
        shards=[
            ShardState(
                one, held.get(one.name, 0), jobs.get((one.name, "doing"), 0), jobs.get((one.name, "todo"), 0),
                unknown_since(one),
            )
            for one in await shards(connection)
        ],
        budgets=[
            Spent(identity, group, used, limit, blocked, names.get(identity))
            for identity, group, used, limit, blocked in await _all(connection, _BUDGETS)
        ],
        brakes=[
            (workspace, str(loss_from_json(loss)), shard)
            for workspace, loss, shard in await _all(connection, _BRAKES)
        ],
        conflicts=dict(await _all(connection, _CONFLICTS)),
        homeless=held.get(None, 0),
        moves=[
            {"full_name": name, "source": source, "target": target, "state": state, "problem": problem}
            for name, source, target, state, problem in await _all(connection, _MOVES)
        ],
    )  # fmt: skip


def _hindrance(move: JsonObject, dead: Collection[str]) -> str | None:
    """What is in the way of a move that has not arrived; None where it goes on by itself."""
    name, state, target, problem = (move[key] for key in ("full_name", "state", "target", "problem"))
    way = f"from {move['source']} to {target}"
    if state == "failed":
        return f"{name} could not be moved {way}: {problem}"
    if state != "returning" and target in dead:
        return f"{name} is on its way {way}, which was called dead: mirror cluster move --from {target}"
    return f"{name} is held up on its way {way} ({state}): {problem}" if problem else None


def unknown_since(shard: Shard) -> datetime | None:
    """Since when a shard is unknown; None where it was seen within two of its backup intervals."""
    allowed = INTERVALS * (shard.interval_seconds or INTERVAL_SECONDS)
    return shard.seen if shard.age > allowed else None


_HELD = "SELECT shard, count(*) FROM repositories GROUP BY shard"
_JOBS = (
    "SELECT queue_name, status::text, count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
    " GROUP BY queue_name, status"
)
_BUDGETS = (
    "SELECT b.identity, b.resources, coalesce(sum(l.count), 0)::int, b.requests_limit, b.blocked_until"
    " FROM budgets AS b LEFT JOIN lent AS l ON (l.identity, l.resources) = (b.identity, b.resources)"
    " AND l.at > now() - interval '1 hour' GROUP BY b.identity, b.resources ORDER BY 1, 2"
)
_BRAKES = "SELECT workspace_uuid, loss, shard FROM brakes WHERE released IS NULL ORDER BY id"
_CONFLICTS = (
    "SELECT min(full_name), array_agg(shard ORDER BY shard) FROM holdings GROUP BY uuid HAVING count(*) > 1"
    " ORDER BY 1"
)
_MOVES = (
    "SELECT full_name, source, target, state, problem FROM moves WHERE state <> 'arrived' ORDER BY full_name"
)


async def _all(connection: Connection, query: str) -> list[tuple]:  # type: ignore[type-arg]
    return await (await connection.execute(query.encode())).fetchall()
