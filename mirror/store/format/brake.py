"""The mass-loss brake: the counts that were last accepted, and what has vanished since.

The folder of a repository may have one (`brake.json`) for its lost refs and pull requests, and that of a
workspace for the losses of all its repositories together. A brake trips when a count shrinks by too much
within a week, however slowly, or when most names vanish at once, whatever was added.
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
ACCEPTED_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class Rules:
    """The limits of the brake: a loss of `at_least` items that is more than `share` (0 to 1) of all trips
    it."""

    share: float
    at_least: int

    def are_exceeded(self, lost: int, was: int) -> bool:
        """Whether a loss of `lost` out of `was` items exceeds the limits."""
        return lost >= self.at_least and lost > self.share * was

    def are_exceeded_at_once(self, lost: int, was: int) -> bool:
        """Whether a loss of `lost` out of `was` names in one run exceeds the limits, whatever was added."""
        return lost >= self.at_least and 2 * lost > was


@dataclass(frozen=True)
class Accepted:
    """The accepted count, at the time `at`."""

    count: int
    at: datetime


@dataclass(frozen=True)
class Lost:
    """One item that vanished: its kind (`what`: `refs`, …), its name, and its value if it has one."""

    what: str
    name: str
    value: str | None
    at: datetime


@dataclass(frozen=True)
class Loss:
    """A loss that tripped the brake at `at`: `was` and `now` are counts, `name` is for people.

    `replaced` is how many vanished at once while others were added, where the counts alone show no loss.
    `repository` is the uuid of the repository, in the brake of a workspace by versions before 0.5, which did
    not name what was lost.
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
    """The end of a loss: accepted `by` a person, or None where everything came back."""

    loss: Loss
    by: str | None
    at: datetime


@dataclass(frozen=True)
class Count:
    """The count of one kind of item in a run.

    `was` is the previous count, `now` that of the run; `lost` are the names and values that vanished.
    `is_back` decides whether an item that was lost earlier exists again.
    """

    what: str
    was: int
    now: int
    lost: Mapping[str, str | None]
    is_back: Callable[[Lost], bool]


@dataclass(frozen=True)
class Brake:
    """A brake. It is tripped while it has losses that nobody accepted.

    `accepted` and `counted` are counts by kind: those that losses are measured from, and those of the last
    run that judged. `lost` names the missing items.
    """

    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    lost: tuple[Lost, ...] = ()
    losses: tuple[Loss, ...] = ()
    releases: tuple[Release, ...] = ()

    def lost_of(self, what: str) -> tuple[Lost, ...]:
        """The missing items of one kind."""
        return tuple(one for one in self.lost if one.what == what)

    def loss_of(self, what: str) -> Loss | None:
        """The loss of this brake's own items of a kind, or None."""
        return next((one for one in self.losses if one.what == what and not one.repository), None)

    def shrunk_by(self, what: str, now: datetime, *, hold: bool) -> int:
        """By how many items of a kind the count is below the accepted one at `now`."""
        accepted = self.accepted.get(what)
        if accepted is None:
            return 0
        keeps = hold or self.loss_of(what) is not None
        recent = sum(1 for one in self.lost_of(what) if keeps or now - one.at < ACCEPTED_AFTER)
        return max(0, min(accepted.count - self.counted.get(what, 0), recent))

    def vanished(self, what: str, since: datetime, *, hold: bool) -> int:
        """How many names of a kind vanished since the run that began at `since`; with `hold`, all of them."""
        second = since.replace(microsecond=0)  # stored times have no microseconds
        return sum(1 for one in self.lost_of(what) if hold or one.at >= second)

    def seen(
        self,
        count: Count,
        rules: Rules,
        *,
        name: str,
        now: datetime,
        hold: bool,
        since: datetime | None = None,
    ) -> Brake:
        """The brake of a repository after a visit that counted one kind of item reliably.

        What was lost from `since` on counts as lost now: hooks spread over many visits what a single run
        would see at once. With `hold` a smaller count is not accepted after a week, because the sum over the
        workspace tripped its brake or was not judged. A repository that lost all its refs trips it whatever
        the rules.
        """
        what = count.what
        accepted = self.accepted.get(what)
        if accepted is None or accepted.count < count.was:
            accepted = Accepted(count.was, now)
        # A clock that was ahead must not make a loss look recent.
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
            lost = {key: one for key, one in lost.items() if now - one.at < ACCEPTED_AFTER}
        at_once = count.lost.keys() | {
            key for key, one in lost.items() if since is not None and one.at >= since.replace(microsecond=0)
        }
        loss = _loss_in(count, accepted.count, len(lost), len(at_once), rules, name, now)
        if loss is not None:
            return brake.trip(loss)._with(what, accepted, lost.values())
        if count.now >= accepted.count and not hold:
            # What vanished in this run counts in the sum over the workspace, whatever was added here.
            lost = {key: one for key, one in lost.items() if key in at_once}
        # What was added in the same run counts from the next run on.
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
        """The brake with `loss`, which replaces an earlier one of the same kind."""
        key = (loss.what, loss.repository)
        others = tuple(one for one in self.losses if (one.what, one.repository) != key)
        return replace(self, losses=(*others, loss))

    def released(self, whats: frozenset[str], *, by: str | None, now: datetime) -> Brake:
        """The brake after its own losses of the kinds `whats` ended: accepted by a person, or everything came
        back. Later losses are measured from the present counts."""
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
        """The brake after a person accepted a loss without names (see Loss)."""
        losses = tuple(one for one in self.losses if one != loss)
        return replace(self, losses=losses, releases=(*self.releases, Release(loss, by, now)))

    def to_json(self) -> JsonObject:
        """The JSON in the file."""
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
            "losses": [loss_to_json(one) for one in self.losses],
            "releases": [
                {"loss": loss_to_json(one.loss), "by": one.by, "at": time_text(one.at)}
                for one in self.releases
            ],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Brake:
        """Read the JSON of this version, or of one before 0.5."""
        if data["schema"] == 1:
            return _of_schema_1(data)
        if data["schema"] != 2:
            raise Malformed(f"its schema {data['schema']!r} is not known to this version")
        return cls(
            {what: Accepted(int(one["count"]), _time(one)) for what, one in data["accepted"].items()},
            {what: int(number) for what, number in data["counted"].items()},
            tuple(Lost(one["what"], one["name"], one["value"], _time(one)) for one in data["lost"]),
            tuple(loss_from_json(one) for one in data["losses"]),
            tuple(Release(loss_from_json(one["loss"]), one["by"], _time(one)) for one in data["releases"]),
        )


def _loss_in(
    count: Count, accepted: int, missing: int, at_once: int, rules: Rules, name: str, now: datetime
) -> Loss | None:
    """The loss in `count`, or None; of `accepted` items `missing` are missing, `at_once` of them since the
    last run."""
    fallen = min(accepted - count.now, missing)
    is_emptied = count.what == REFS and count.now == 0 and count.was > 0
    if is_emptied or rules.are_exceeded(fallen, accepted):
        return Loss(count.what, name, max(accepted, count.was), count.now, now)
    if rules.are_exceeded_at_once(at_once, count.was):
        return Loss(count.what, name, count.was, count.now, now, replaced=at_once)
    return None


def _of_schema_1(data: JsonObject) -> Brake:
    """A workspace's brake of schema 1, which has only counts."""
    own = [one for one in data["accepted"] if not one["repository"]]
    return Brake(
        accepted={one["what"]: Accepted(int(one["count"]), _time(one)) for one in own},
        losses=tuple(loss_from_json(one) for one in data["losses"]),
        releases=tuple(
            Release(loss_from_json(one["loss"]), str(one["by"]), _time(one)) for one in data["acceptances"]
        ),
    )


def _time(data: JsonObject) -> datetime:
    return time_from_text(data["at"])


def loss_from_json(data: JsonObject) -> Loss:
    """Read what `loss_to_json` wrote."""
    return Loss(
        str(data["what"]), str(data["name"]), int(data["was"]), int(data["now"]), _time(data),
        str(data.get("repository", "")), int(data.get("replaced", 0)),
    )  # fmt: skip


def loss_to_json(loss: Loss) -> JsonObject:
    """The JSON of a loss in the file."""
    rest = {"name": loss.name, "was": loss.was, "now": loss.now, "at": time_text(loss.at)}
    replaced = {"replaced": loss.replaced} if loss.replaced else {}
    return {"what": loss.what, "repository": loss.repository, **rest, **replaced}


def read_brake(root: Path, place: str) -> Brake:
    """The brake of the folder `place`; an empty one where there is no file. Raises StoreDamaged."""
    if not (root / place / layout.BRAKE_FILE).exists():
        return Brake()
    return read_small_file(root, f"{place}/{layout.BRAKE_FILE}", Brake.from_json)
