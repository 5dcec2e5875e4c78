"""The mass-loss brake: what there was when it was last accepted, and what has vanished since.

Every repository's folder may have one (`brake.json`), for the refs and pull requests lost in it, and
every workspace's, for what all its repositories lost together. Two things trip it: a count that shrinks by
too much within a week, however slowly; and most names gone at once, whatever else was added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from mirror.model import JsonObject, time_from_text, time_text
from mirror.store.format import layout
from mirror.store.format.failures import Malformed
from mirror.store.format.small_files import read_small_file

REFS = "refs"
PULL_REQUESTS = "pull_requests"
REPOSITORIES = "repositories"
FALLS_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class Rules:
    """What trips the brake: a loss of `at_least` things that is more than `share` (of 1) of all."""

    share: float
    at_least: int

    def are_broken(self, lost: int, was: int) -> bool:
        """Whether a loss of `lost` out of `was` is too much."""
        return lost >= self.at_least and lost > self.share * was

    def are_broken_at_once(self, lost: int, was: int) -> bool:
        """Whether `lost` names out of `was`, gone in one step, are too many, whatever was added."""
        return lost >= self.at_least and 2 * lost > was


@dataclass(frozen=True)
class Accepted:
    """So many there were, at the time `at`."""

    count: int
    at: datetime


@dataclass(frozen=True)
class Lost:
    """One thing that vanished: `what` it is (`refs`, …), its name and, where it has one, its value."""

    what: str
    name: str
    value: str | None
    at: datetime


@dataclass(frozen=True)
class Loss:
    """A loss that tripped the brake at `at`: `was` and `now` are counts, `name` is for people.

    `replaced` is how many were gone at once while others were added, where the counts alone show no loss.
    `repository` is the uuid of the repository whose loss it is, in what versions before 0.6 wrote to a
    workspace's brake; they named nothing that was lost.
    """

    what: str
    name: str
    was: int
    now: int
    at: datetime
    repository: str = ""
    replaced: int = 0

    def __str__(self) -> str:
        what = self.what.replace("_", " ")
        if self.replaced:
            return (
                f"{self.name}: {self.replaced} of {self.was} {what} vanished at once, while others were added"
            )
        return f"{self.name}: {what} fell from {self.was} to {self.now}"


@dataclass(frozen=True)
class Release:
    """The end of a loss: `by` whom it was accepted; None where everything that was lost came back."""

    loss: Loss
    by: str | None
    at: datetime


@dataclass(frozen=True)
class Count:
    """What a run counted of one kind of thing.

    `was` is the count before, `now` this run's; `lost` are the names and values that are no longer
    there. `is_back` says whether something that was lost earlier is there again.
    """

    what: str
    was: int
    now: int
    lost: Mapping[str, str | None]
    is_back: Callable[[Lost], bool]


@dataclass(frozen=True)
class Brake:
    """One brake. It is tripped while it has losses that nobody accepted.

    `accepted` and `counted` are counts by kind of thing: those that losses are measured by, and those
    of the last run that judged. `lost` names what is missing.
    """

    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    lost: tuple[Lost, ...] = ()
    losses: tuple[Loss, ...] = ()
    releases: tuple[Release, ...] = ()

    def lost_of(self, what: str) -> tuple[Lost, ...]:
        """What is missing of one kind of thing."""
        return tuple(one for one in self.lost if one.what == what)

    def loss_of(self, what: str) -> Loss | None:
        """The loss of this brake's own things of a kind that tripped it, or None."""
        return next((one for one in self.losses if one.what == what and not one.repository), None)

    def shrunk_by(self, what: str, now: datetime, *, hold: bool) -> int:
        """By how many things of a kind this is smaller than what counts as accepted at `now`."""
        accepted = self.accepted.get(what)
        if accepted is None:
            return 0
        keeps = hold or self.loss_of(what) is not None
        recent = sum(1 for one in self.lost_of(what) if keeps or now - one.at < FALLS_AFTER)
        return max(0, min(accepted.count - self.counted.get(what, 0), recent))

    def vanished(self, what: str, since: datetime, *, hold: bool) -> int:
        """How many names of a kind are gone since the run that began at `since`, or with `hold` of all."""
        second = since.replace(microsecond=0)  # times are kept so
        return sum(1 for one in self.lost_of(what) if hold or one.at >= second)

    def seen(self, count: Count, rules: Rules, *, name: str, now: datetime, hold: bool) -> Brake:
        """The brake of a repository's folder after a run that counted one kind of thing reliably.

        `hold` keeps a smaller count from being accepted with time: the sum over the workspace is
        tripped, or was not taken. A repository that had refs and has none trips it whatever `rules` say.
        """
        what = count.what
        accepted = self.accepted.get(what)
        if accepted is None or accepted.count < count.was:
            accepted = Accepted(count.was, now)
        # A clock that was ahead does not keep a loss young.
        lost = {
            one.name: replace(one, at=min(one.at, now))
            for one in self.lost_of(what)
            if not count.is_back(one)
        }
        tripped = self.loss_of(what)
        for key, value in count.lost.items():
            if tripped is None or key not in lost:  # the values that tripped the brake stay
                lost[key] = Lost(what, key, value, now)
        brake = replace(self, counted={**self.counted, what: count.now})
        if tripped is not None:
            brake = brake.trip(replace(tripped, now=count.now))._with(what, accepted, lost.values())
            return brake if lost else brake.released(frozenset({what}), by=None, now=now)
        if not hold:
            lost = {key: one for key, one in lost.items() if now - one.at < FALLS_AFTER}
        loss = _loss_in(count, accepted.count, len(lost), rules, name, now)
        if loss is not None:
            return brake.trip(loss)._with(what, accepted, lost.values())
        if count.now >= accepted.count and not hold:
            # What vanished in this run counts in its sum over the workspace, whatever was added here.
            lost = {key: one for key, one in lost.items() if key in count.lost}
        # Until the next run what was added in the same step does not count.
        level = count.now if not lost else accepted.count
        if not hold:
            level = min(level, count.now + len(lost))
        if level != accepted.count:
            accepted = Accepted(level, now)
        return brake._with(what, accepted, lost.values())

    def _with(self, what: str, accepted: Accepted, lost: Iterable[Lost]) -> Brake:
        others = tuple(one for one in self.lost if one.what != what)
        return replace(self, accepted={**self.accepted, what: accepted}, lost=(*others, *lost))

    def trip(self, loss: Loss) -> Brake:
        """The brake with `loss`, in the place of an earlier one of the same things."""
        key = (loss.what, loss.repository)
        others = tuple(one for one in self.losses if (one.what, one.repository) != key)
        return replace(self, losses=(*others, loss))

    def released(self, whats: frozenset[str], *, by: str | None, now: datetime) -> Brake:
        """The brake after its own losses of the kinds `whats` ended: accepted by a person, or all came
        back. What there is now is what later losses are measured by."""
        ended = [one for one in self.losses if one.what in whats and not one.repository]
        accepted = {
            what: Accepted(self.counted.get(what, 0), now)
            for what in whats
            if what in self.counted or what == REPOSITORIES
        }
        return Brake(
            {**self.accepted, **accepted},
            self.counted,
            tuple(one for one in self.lost if one.what not in whats),
            tuple(one for one in self.losses if one not in ended),
            (*self.releases, *(Release(one, by, now) for one in ended)),
        )

    def without(self, loss: Loss, *, by: str, now: datetime) -> Brake:
        """The brake after a person accepted a loss that names nothing (see Loss)."""
        losses = tuple(one for one in self.losses if one != loss)
        return replace(self, losses=losses, releases=(*self.releases, Release(loss, by, now)))

    def to_json(self) -> JsonObject:
        """As the file holds it."""
        return {
            "schema": 2,
            "accepted": {
                what: {"count": one.count, "at": time_text(one.at)} for what, one in self.accepted.items()
            },
            "counted": dict(self.counted),
            "lost": [
                {"what": one.what, "name": one.name, "value": one.value, "at": time_text(one.at)}
                for one in self.lost
            ],
            "losses": [_loss_json(one) for one in self.losses],
            "releases": [
                {"loss": _loss_json(one.loss), "by": one.by, "at": time_text(one.at)} for one in self.releases
            ],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Brake:
        """Read what `to_json` wrote, or a version before 0.6."""
        if data["schema"] == 1:
            return _of_schema_1(data)
        if data["schema"] != 2:
            raise Malformed(f"its schema {data['schema']!r} is not known to this version")
        return cls(
            {what: Accepted(int(one["count"]), _time(one)) for what, one in data["accepted"].items()},
            {what: int(number) for what, number in data["counted"].items()},
            tuple(Lost(one["what"], one["name"], one["value"], _time(one)) for one in data["lost"]),
            tuple(_loss(one) for one in data["losses"]),
            tuple(Release(_loss(one["loss"]), one["by"], _time(one)) for one in data["releases"]),
        )


def _loss_in(
    count: Count, accepted: int, missing: int, rules: Rules, name: str, now: datetime
) -> Loss | None:
    """The loss that `count` is, or None; `accepted` were there, of which `missing` are not."""
    fallen = min(accepted - count.now, missing)
    is_emptied = count.what == REFS and count.now == 0 and count.was > 0
    if is_emptied or rules.are_broken(fallen, accepted):
        return Loss(count.what, name, max(accepted, count.was), count.now, now)
    if rules.are_broken_at_once(len(count.lost), count.was):
        return Loss(count.what, name, count.was, count.now, now, replaced=len(count.lost))
    return None


def _of_schema_1(data: JsonObject) -> Brake:
    """A workspace's brake of schema 1: counts only, its repositories' and its own."""
    own = [one for one in data["accepted"] if not one["repository"]]
    return Brake(
        accepted={one["what"]: Accepted(int(one["count"]), _time(one)) for one in own},
        losses=tuple(_loss(one) for one in data["losses"]),
        releases=tuple(
            Release(_loss(one["loss"]), str(one["by"]), _time(one)) for one in data["acceptances"]
        ),
    )


def _time(data: JsonObject) -> datetime:
    return time_from_text(data["at"])


def _loss(data: JsonObject) -> Loss:
    return Loss(
        str(data["what"]), str(data["name"]), int(data["was"]), int(data["now"]), _time(data),
        str(data.get("repository", "")), int(data.get("replaced", 0)),
    )  # fmt: skip


def _loss_json(loss: Loss) -> JsonObject:
    rest = {"name": loss.name, "was": loss.was, "now": loss.now, "at": time_text(loss.at)}
    replaced = {"replaced": loss.replaced} if loss.replaced else {}
    return {"what": loss.what, "repository": loss.repository, **rest, **replaced}


def read_brake(root: Path, place: str) -> Brake:
    """The brake of the folder `place`; a fresh one where nothing was lost yet. Raises StoreDamaged."""
    if not (root / place / layout.BRAKE_FILE).exists():
        return Brake()
    return read_small_file(root, f"{place}/{layout.BRAKE_FILE}", Brake.from_json)
