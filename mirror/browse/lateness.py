"""Which repositories and workspaces were not complete for too long."""

from __future__ import annotations

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

    Left out is what is gone upstream, erased or excluded; what lists have lacked for a short time; and what
    was never complete yet, as long as its first export goes on. A time after `now` is from a wrong clock and
    does not count.
    """
    workspaces = [one for one in found.workspaces if one.is_selected]
    repositories = [one for one in found.repositories if not one.is_settled]
    if not workspaces and not found.repositories:
        return {"": "nothing was backed up yet"}
    ages = _Ages(found, most, now)
    told = {one.name: ages.of_repository(one) for one in repositories}
    going_on = {one.name.partition("/")[0] for one in repositories if told[one.name] is None}
    for one in workspaces:
        told[one.name] = ages.of_workspace(one, is_going_on=one.name in going_on)
    return {name: text for name, text in told.items() if text is not None}


class _Ages:
    """Judges one thing after the other; None: it is fresh enough."""

    def __init__(self, found: Status, most: timedelta, now: datetime) -> None:
        self._most, self._now = most, now
        last = found.last_backup
        self._recorded = time_from_text(last["ended"]) if last is not None else None

    def of_repository(self, one: RepositoryStatus) -> str | None:
        if one.absent_since is not None and self._now - one.absent_since <= ABSENT_AT_MOST + self._most:
            return None
        if one.is_first_export:
            progress = snapshot_time(one.last_snapshot) if one.last_snapshot is not None else one.written
            if progress is not None and self._now - progress <= self._most:
                return None
        return self._judged(one.last_confirmed, one.last_complete)

    def of_workspace(self, one: WorkspaceStatus, *, is_going_on: bool) -> str | None:
        """`is_going_on`: one of its repositories is fresh enough."""
        if one.is_first_export and is_going_on:
            return None
        return self._judged(one.last_confirmed, one.last_complete)

    def _judged(self, confirmed: datetime | None, complete: str | None) -> str | None:
        taken = snapshot_time(complete) if complete is not None else None
        # A run that has not ended has no record yet.
        if taken is not None and not self._is_future(taken) and self._is_newer(taken):
            confirmed = taken
        if confirmed is None:
            return "was never complete, as far as run records show"
        if self._is_future(confirmed):
            return f"was last complete at {time_text(confirmed)}, in the future: a wrong clock"
        return None if self._now - confirmed <= self._most else f"was last complete at {time_text(confirmed)}"

    def _is_newer(self, taken: datetime) -> bool:
        """Whether a snapshot is newer than every run that has ended."""
        return self._recorded is None or taken > self._recorded

    def _is_future(self, time: datetime) -> bool:
        return time - self._now > CLOCKS_DIFFER
