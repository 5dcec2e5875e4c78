"""The mass-loss brake: how much there was, as last accepted, and what has vanished since.

One small file in a workspace's folder. What is counted rises at once and falls slowly: a lower count
becomes the accepted one only after the higher one is a week old, so that a slow loss adds up, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from mirror.model import JsonObject, time_from_text, time_text
from mirror.store import layout
from mirror.store.disk import write_file
from mirror.store.records import read_small
from mirror.store.seal import sealed

# What is counted: (uuid of the repository, or "" for the workspace itself; what).
Key = tuple[str, str]
FALLS_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class Accepted:
    """So many there were, at the time `at`."""

    count: int
    at: datetime


@dataclass(frozen=True)
class Loss:
    """Something shrank from `was` to `now` (both counts); noticed at `at`. `name` is for people."""

    key: Key
    name: str
    was: int
    now: int
    at: datetime

    def __str__(self) -> str:
        what = self.key[1].replace("_", " ")
        return f"{self.name}: {what} fell from {self.was} to {self.now}"


@dataclass(frozen=True)
class Acceptance:
    """Somebody accepted a loss."""

    loss: Loss
    by: str
    at: datetime


@dataclass(frozen=True)
class Brake:
    """The brake of one workspace. It is tripped while there are losses that nobody accepted."""

    accepted: Mapping[Key, Accepted] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()
    acceptances: tuple[Acceptance, ...] = ()

    @property
    def is_tripped(self) -> bool:
        """Whether prune must stop, and runs end with 5."""
        return bool(self.losses)

    def seen(
        self,
        counts: Mapping[Key, int],
        names: Mapping[Key, str],
        *,
        share: float,
        at_least: int,
        now: datetime,
    ) -> Brake:
        """The brake after a run that counted `counts` reliably; what is not in it is as it was.

        A loss of at least `at_least`, and of more than `share` (of 1) of what was accepted, trips it.
        """
        accepted = dict(self.accepted)
        losses = {loss.key: loss for loss in self.losses}
        for key, count in sorted(counts.items()):
            if key in losses:
                losses[key] = replace(losses[key], now=count)
                continue
            before = accepted.get(key)
            if before is None or count >= before.count:
                accepted[key] = Accepted(count, now)
            elif before.count - count >= at_least and before.count - count > share * before.count:
                losses[key] = Loss(key, names[key], before.count, count, now)
            elif now - before.at >= FALLS_AFTER:
                accepted[key] = Accepted(count, now)
        return replace(self, accepted=accepted, losses=tuple(losses[key] for key in sorted(losses)))

    def accept(self, keys: frozenset[Key], *, by: str, now: datetime) -> Brake:
        """The brake after somebody accepted the losses of `keys`."""
        gone = [loss for loss in self.losses if loss.key in keys]
        return Brake(
            {**self.accepted, **{loss.key: Accepted(loss.now, now) for loss in gone}},
            tuple(loss for loss in self.losses if loss.key not in keys),
            (*self.acceptances, *(Acceptance(loss, by, now) for loss in gone)),
        )

    def to_json(self) -> JsonObject:
        """As the workspace's file holds it."""
        return {
            "schema": 1,
            "accepted": [
                {**_key_json(key), "count": one.count, "at": time_text(one.at)}
                for key, one in sorted(self.accepted.items())
            ],
            "losses": [_loss_json(loss) for loss in self.losses],
            "acceptances": [
                {"loss": _loss_json(one.loss), "by": one.by, "at": time_text(one.at)}
                for one in self.acceptances
            ],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Brake:
        """Read what `to_json` wrote."""
        return cls(
            {
                _key(one): Accepted(int(one["count"]), time_from_text(one["at"]))
                for one in data["accepted"]
            },
            tuple(_loss(one) for one in data["losses"]),
            tuple(
                Acceptance(_loss(one["loss"]), str(one["by"]), time_from_text(one["at"]))
                for one in data["acceptances"]
            ),
        )  # fmt: skip


def _key(data: JsonObject) -> Key:
    return str(data["repository"]), str(data["what"])


def _key_json(key: Key) -> JsonObject:
    return {"repository": key[0], "what": key[1]}


def _loss(data: JsonObject) -> Loss:
    return Loss(_key(data), str(data["name"]), int(data["was"]), int(data["now"]), time_from_text(data["at"]))


def _loss_json(loss: Loss) -> JsonObject:
    rest = {"name": loss.name, "was": loss.was, "now": loss.now, "at": time_text(loss.at)}
    return {**_key_json(loss.key), **rest}


def read_brake(root: Path, place: str) -> Brake:
    """The brake of the workspace's folder `place`; a fresh one where nothing was counted yet.

    Raises StoreDamaged.
    """
    if not (root / place / layout.BRAKE_FILE).exists():
        return Brake()
    return read_small(root, f"{place}/{layout.BRAKE_FILE}", Brake.from_json)


def write_brake(path: Path, brake: Brake) -> None:
    """Keep the brake in the workspace's folder at `path`. The caller holds the folder's lock."""
    write_file(path / layout.BRAKE_FILE, sealed(brake.to_json()))
