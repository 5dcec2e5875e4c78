"""Which repositories and workspaces were not complete for too long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from mirror.browse.status import RepositoryStatus, Status, WorkspaceStatus
from mirror.model import snapshot_time, time_from_text, time_text

# The tolerated difference of the clocks of this host and the one that wrote a record.
CLOCKS_DIFFER = timedelta(minutes=10)
# What lists lack counts as gone after so long, if runs go on.
ABSENT_AT_MOST = timedelta(days=2)


def stale(found: Status, *, most: timedelta, now: datetime) -> list[str]:
    """As `late`, a line each."""
    return [f"{name} {text}".lstrip() for name, text in late(found, most=most, now=now).items()]


def late(found: Status, *, most: timedelta, now: datetime) -> dict[str, str]:
    """The repositories and workspaces that were not confirmed complete within `most` before `now`, by name,
    each with when they last were; under an empty name that nothing was backed up at all.

    Left out is what is gone upstream, erased or excluded; what lists have lacked for a short time; what was
    never complete yet, as long as its first export goes on; and an empty store that is new. A time after
    `now` is from a wrong clock and does not count.
    """
    if not found.workspaces and not found.repositories:
        is_new = found.created is not None and timedelta(0) <= now - found.created <= most
        return {} if is_new else {"": "nothing was backed up yet"}
    counted = counted_from(found, now)
    told = {}
    for one in _chosen(found):
        since, confirmed = counted[one.name], one.last_confirmed
        if confirmed is not None and _is_future(confirmed, now) and since is None:
            told[one.name] = f"was last complete at {time_text(confirmed)}, in the future: a wrong clock"
        elif since is None or now - since > most:
            told[one.name] = _last(one)
    return told


def counted_from(found: Status, now: datetime | None = None) -> dict[str, datetime | None]:
    """By name of a repository or workspace, the time from which its age counts: when it was last complete;
    in a first export, when the last part of it came; for what lists lack, when it counts as gone at the
    latest. None: never. What is gone, erased or excluded is left out. With `now`, later times do not count.
    """
    ages = _Ages(found, now)
    repositories = [one for one in found.repositories if not one.is_settled]
    told = {one.name: ages.of_repository(one) for one in repositories}
    for one in found.workspaces:
        inside = [told[other.name] for other in repositories if other.name.startswith(f"{one.name}/")]
        told[one.name] = ages.of_workspace(one, inside)
    return told


def _chosen(found: Status) -> Iterator[RepositoryStatus | WorkspaceStatus]:
    yield from (one for one in found.workspaces if one.is_selected)
    yield from (one for one in found.repositories if not one.is_settled)


def _last(one: RepositoryStatus | WorkspaceStatus) -> str:
    if isinstance(one, RepositoryStatus) and one.is_unknown:
        return f"is {one.state}: its shard was not heard of"
    if one.last_confirmed is None:
        return "was never complete, as far as run records show"
    return f"was last complete at {time_text(one.last_confirmed)}"


def _is_future(time: datetime, now: datetime | None) -> bool:
    return now is not None and time - now > CLOCKS_DIFFER


class _Ages:
    """Judges one thing after the other."""

    def __init__(self, found: Status, now: datetime | None) -> None:
        self._now = now
        last = found.last_backup
        self._recorded = time_from_text(last["ended"]) if last is not None else None

    def of_repository(self, one: RepositoryStatus) -> datetime | None:
        if one.absent_since is not None and not _is_future(one.absent_since, self._now):
            return one.absent_since + ABSENT_AT_MOST
        if one.is_first_export:
            return snapshot_time(one.last_snapshot) if one.last_snapshot is not None else one.written
        return self._complete(one.last_confirmed, one.last_complete)

    def of_workspace(self, one: WorkspaceStatus, inside: list[datetime | None]) -> datetime | None:
        """`inside` are the times of its repositories."""
        if one.is_first_export:
            return max((time for time in inside if time is not None), default=None)
        return self._complete(one.last_confirmed, one.last_complete)

    def _complete(self, confirmed: datetime | None, complete: str | None) -> datetime | None:
        taken = snapshot_time(complete) if complete is not None else None
        times = [confirmed] if confirmed is not None else []
        # A run that has not ended has no record yet.
        if taken is not None and (self._recorded is None or taken > self._recorded):
            times.append(taken)
        return max((one for one in times if not _is_future(one, self._now)), default=None)
