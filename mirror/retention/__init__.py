"""Which snapshots to keep, and why. Pure functions from a policy and snapshots to decisions.

The rules work as restic's: each considers all snapshots from the newest on, and counts the periods that have
a snapshot, so a pause in the backups never shortens the history.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from mirror.errors import UsageError
from mirror.model import PartState, Snapshot, time_text

# Said of a snapshot that may go.
NO_RULE = "no rule keeps it"

# How much a part in this state lacks. A part that is gone upstream or switched off lacks nothing: the
# snapshot has all there is.
_BADNESS = {
    PartState.COMPLETE: 0,
    PartState.GONE: 0,
    PartState.SKIPPED: 0,
    PartState.UNAVAILABLE: 1,
    PartState.PARTIAL: 2,
    PartState.DENIED: 3,
}


@dataclass(frozen=True)
class Policy:
    """What to keep: the newest N snapshots; the newest one of each of N hours, days, ISO weeks, months and
    years (UTC); and all within `keep_within` before the newest."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no rule keeps anything."""
        return not any(count for _, count, _ in _rules(self)) and self.keep_within is None


@dataclass(frozen=True)
class Decision:
    """Whether to keep one snapshot; `reasons` are for people."""

    snapshot: Snapshot
    keep: bool
    reasons: tuple[str, ...]


class Dated(Protocol):
    """A snapshot as the rules see it."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def sequence(self) -> int:
        """Its place among those of its folder."""

    @property
    def time(self) -> datetime:
        """When it was taken."""


def decide(
    policy: Policy, snapshots: Collection[Snapshot], *, now: datetime, accept_missing: Collection[str] = ()
) -> list[Decision]:
    """Decide for each snapshot of a folder; the result is in their order, the oldest first. See `why_kept`.

    `accept_missing` are parts that may be missing. Raises UsageError for a policy that keeps nothing or has a
    negative count.
    """
    complete = {one.id for one in snapshots if _is_complete(one, accept_missing)}
    reasons = why_kept(policy, snapshots, complete, now=now)
    return [
        Decision(one, bool(reasons[one.id]), reasons[one.id] or (NO_RULE,))
        for one in sorted(snapshots, key=lambda one: one.sequence)
    ]


def why_kept(
    policy: Policy, snapshots: Collection[Dated], complete: Collection[str], *, now: datetime
) -> dict[str, tuple[str, ...]]:
    """The reasons to keep each snapshot of a folder, by id; none where no rule keeps it. `complete` are the
    ids of those that lack nothing.

    The newest and the newest complete snapshot are always kept. Snapshots after `now` are kept and count for
    no rule: a clock that was wrong must not push out good snapshots. Within a period a complete snapshot is
    preferred to a newer incomplete one. Raises UsageError as `decide`.
    """
    if policy.is_empty or any(count < 0 for _, count, _ in _rules(policy)):
        raise UsageError("the retention policy keeps nothing", hint="give at least one of its rules a number")
    newest_first = sorted(snapshots, key=lambda one: one.sequence, reverse=True)
    past = [one for one in newest_first if one.time <= now]
    reasons: dict[str, list[str]] = {one.id: [] for one in newest_first}
    for name, count, period_of in _rules(policy):
        for text, one in _kept_by(name, count, period_of, past, complete):
            reasons[one.id].append(text)
    if policy.keep_within is not None and past:
        since = max(one.time for one in past) - policy.keep_within
        for one in past:
            if one.time >= since:
                reasons[one.id].append("within")
    for one in newest_first:
        if one.time > now:
            reasons[one.id].append("from the future")
    if newest_first:
        reasons[newest_first[0].id].append("newest")
        reference = next((one for one in newest_first if one.id in complete), None)
        if reference is not None:
            reasons[reference.id].append("newest complete")
    return {identifier: tuple(texts) for identifier, texts in reasons.items()}


Period = Callable[[Dated], object]


def _rules(policy: Policy) -> list[tuple[str, int, Period]]:
    """The rules: name, count, and the period of a snapshot."""
    return [
        ("last", policy.keep_last, lambda one: one.id),
        ("hourly", policy.keep_hourly, lambda one: one.time.astimezone(UTC).strftime("%Y%m%d%H")),
        ("daily", policy.keep_daily, lambda one: one.time.astimezone(UTC).date()),
        ("weekly", policy.keep_weekly, lambda one: one.time.astimezone(UTC).isocalendar()[:2]),
        ("monthly", policy.keep_monthly, lambda one: one.time.astimezone(UTC).strftime("%Y%m")),
        ("yearly", policy.keep_yearly, lambda one: one.time.astimezone(UTC).year),
    ]


def _kept_by(
    name: str, count: int, period_of: Period, newest_first: Sequence[Dated], complete: Collection[str]
) -> list[tuple[str, Dated]]:
    """The snapshots that one rule keeps. A rule whose count is not used up also keeps the oldest snapshot, so
    that the history is as long as possible."""
    if not count or not newest_first:
        return []
    periods: dict[object, list[Dated]] = {}
    for one in newest_first:
        periods.setdefault(period_of(one), []).append(one)
    chosen = [
        next((one for one in several if one.id in complete), several[0]) for several in periods.values()
    ]
    kept = [(name, one) for one in chosen[:count]]
    if len(chosen) < count and newest_first[-1] is not chosen[-1]:
        kept.append((f"oldest {name}", newest_first[-1]))
    return kept


def while_gone(gone_since: datetime, keep_gone: timedelta | None, *, now: datetime) -> str | None:
    """Why nothing of a repository that is gone upstream may be removed, or None. `keep_gone` is how long all
    of it is kept; None means for ever."""
    if keep_gone is None:
        return "it is gone upstream, and retention.keep_gone is not set: kept for ever"
    if now - gone_since < keep_gone:
        until = time_text(gone_since + keep_gone)
        return f"it is gone upstream; retention begins at {until} (retention.keep_gone)"
    return None


def obstacle(snapshots: Collection[Snapshot], *, accept_missing: Collection[str] = ()) -> str | None:
    """Why nothing may be removed from a folder, or None.

    While the newest snapshot lacks what the last complete one has, older snapshots may have what is missing.
    `accept_missing` are parts that may be missing.
    """
    newest_first = sorted(snapshots, key=lambda one: one.sequence, reverse=True)
    if not newest_first:
        return "it has no snapshot"
    complete = next((one for one in newest_first if _is_complete(one, accept_missing)), None)
    if complete is None:
        return "none of its snapshots is complete"
    newest = newest_first[0]
    for name, was in sorted(complete.parts.items()):
        if name in accept_missing:
            continue
        now = newest.parts.get(name)
        if now is None:
            return f"the newest snapshot has no {name}, and {complete.id} has"
        if _BADNESS[now.state] > _BADNESS[was.state]:
            return f"{name} is {now.state} in the newest snapshot, and was {was.state} in {complete.id}"
    return _lost_for_good(newest, newest_first[1:], accept_missing)


def _lost_for_good(
    newest: Snapshot, older: Sequence[Snapshot], accept_missing: Collection[str]
) -> str | None:
    """A reason where the credential of the newest snapshot can never read a part that an older one has.

    Such a snapshot counts as complete, but the older part must not be removed silently.
    """
    for name, part in sorted(newest.parts.items()):
        if part.state is not PartState.UNAVAILABLE or name in accept_missing:
            continue
        for one in older:
            if name in one.parts and one.parts[name].state is PartState.COMPLETE:
                return f"{name} is {part.state} in the newest snapshot, and was complete in {one.id}"
    return None


def _is_complete(snapshot: Snapshot, accept_missing: Collection[str]) -> bool:
    return all(part.is_settled or name in accept_missing for name, part in snapshot.parts.items())


__all__ = ["NO_RULE", "Decision", "Policy", "decide", "obstacle", "while_gone", "why_kept"]
