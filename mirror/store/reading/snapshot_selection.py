"""Selecting one snapshot of several by an id, a time, or `latest`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mirror.errors import UsageError
from mirror.model import Snapshot, is_snapshot_id, snapshot_id, snapshot_time, time_text
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.ledger import LedgerEntry


@dataclass(frozen=True)
class At:
    """The snapshot that the user selected.

    `taken` is its time; `last_confirmed` is when a run last found nothing changed since (None: unknown);
    `next_different` is when the next snapshot was taken (None: this is the latest).
    """

    snapshot: Snapshot
    taken: datetime
    last_confirmed: datetime | None
    next_different: datetime | None


def choose(snapshots: Sequence[Snapshot | LedgerEntry], text: str) -> int:
    """The index in `snapshots` (in the order of sequences) of the one that `text` selects: an id, `latest` or
    an ISO time. Raises UsageError that names the nearest ones."""
    if text == "latest":
        return len(snapshots) - 1
    wanted = text.upper()
    if is_snapshot_id(wanted):
        for index, snapshot in enumerate(snapshots):
            if snapshot.id == wanted:
                return index
        raise UsageError(f"there is no snapshot {wanted}", hint=_nearest(snapshots, wanted))
    when = parse_time(text)
    if when is None:
        raise UsageError(
            f"{text!r} names no snapshot",
            hint="give a snapshot id (20261123T020000Z), an ISO time (2026-11-23T02:00:00Z) or latest",
        )
    for index in reversed(range(len(snapshots))):
        if snapshots[index].time <= when:
            return index
    raise UsageError(
        f"there is no snapshot at or before {time_text(when)}",
        hint=_nearest(snapshots, snapshot_id(when)),
    )


def check_not_hidden(chosen: Snapshot, damaged: dict[str, StoreDamaged], until: datetime | None) -> None:
    """Raise where a damaged snapshot, not `chosen`, is the last one at or before `until`.

    An older snapshot never replaces a damaged newer one silently: the user must select it by its id.
    """
    for name in sorted(damaged, reverse=True):
        if name > chosen.id and (until is None or snapshot_time(name) <= until):
            raise damaged[name]


def parse_time(text: str) -> datetime | None:
    """The time of an ISO text, in UTC; None where it is no time. A date means the end of that day."""
    try:
        when = datetime.fromisoformat(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        return when + timedelta(days=1, seconds=-1) if len(text) in (8, 10) and ":" not in text else when
    except (ValueError, OverflowError):
        return None


def _nearest(snapshots: Sequence[Snapshot | LedgerEntry], wanted: str) -> str:
    identifiers = sorted(snapshot.id for snapshot in snapshots)
    place = bisect_right(identifiers, wanted)
    if place == 0:
        return f"the first snapshot is {identifiers[0]}; the latest is {snapshots[-1].id}"
    near = identifiers[max(0, place - 2) : place + 2]
    return f"the nearest are {', '.join(near)}; the latest is {snapshots[-1].id}"
