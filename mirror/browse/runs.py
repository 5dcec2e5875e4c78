"""The runs of a store, for people: what each was, how it ended, and what it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.errors import PRECEDENCE
from mirror.model import JsonObject, time_from_text
from mirror.store.reading.reader import RunRecord, Store

# Records that are remembered; a page of older ones reads them again.
ROWS_MOST = 5000


@dataclass(frozen=True)
class RunRow:
    """One run in a list. `reason` is the first problem; `saved` counts the new snapshots. `is_announced`: it
    is of repositories that webhooks announced, and no backup of everything."""

    id: str
    kind: str
    started: datetime
    ended: datetime
    exit_code: int
    reason: str
    saved: int
    requests: int | None
    selectors: tuple[str, ...] = ()
    is_announced: bool = False

    @property
    def length(self) -> timedelta:
        """How long it took."""
        return self.ended - self.started


class RunLog:
    """The rows of a store's runs, the newest first. A record never changes, so each is read once."""

    def __init__(self) -> None:
        self._rows: list[RunRow] = []
        # Whether there are no older records than those of the rows.
        self._is_whole = False

    def rows(self, store: Store, most: int) -> list[RunRow]:
        """The newest `most` rows, or all there are."""
        known = {one.id: number for number, one in enumerate(self._rows)}
        enough = len(self._rows) >= most or self._is_whole
        rows: list[RunRow] = []
        is_whole = True
        for record in store.newest_runs(lambda _: None):
            if enough and record.id in known:
                rows += self._rows[known[record.id] :]
                is_whole = self._is_whole
                break
            if len(rows) >= most:
                is_whole = False
                break
            at = known.get(record.id)
            rows.append(row_of(record) if at is None else self._rows[at])
        self._rows, self._is_whole = rows[:ROWS_MOST], is_whole and len(rows) <= ROWS_MOST
        return rows[:most]


def row_of(record: RunRecord) -> RunRow:
    """The row of a record."""
    data = record.data
    facts = data.get("facts", {})
    problems = [str(one.get("text", "")) for one in [*data.get("problems", []), *_entry_problems(data)]]
    requests = facts.get("requests")
    return RunRow(
        id=record.id,
        kind=record.kind,
        started=time_from_text(record.started),
        ended=record.ended,
        exit_code=record.exit_code,
        reason=problems[0] if problems else "",
        saved=sum(one.get("outcome") == "saved" for one in data["entries"]),
        requests=requests if isinstance(requests, int) else None,
        selectors=tuple(str(one) for one in facts.get("selectors", ())),
        is_announced=record.is_announced,
    )


def _entry_problems(data: JsonObject) -> Iterator[JsonObject]:
    for entry in data["entries"]:
        yield from entry.get("problems", ())


@dataclass(frozen=True)
class Day:
    """The runs of one UTC day: how many there were, and the worst exit code; None where there were none."""

    date: datetime
    runs: int = 0
    worst: int | None = None


def calendar(rows: list[RunRow], *, now: datetime, weeks: int) -> list[Day]:
    """The last `weeks` weeks of days, from a Monday to today; the kinds of runs together. What webhooks
    announced does not count: a day on which the schedule stood still must not look well."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=today.weekday() + 7 * (weeks - 1))
    found: dict[datetime, list[int]] = {}
    for one in rows:
        if one.is_announced:
            continue
        day = one.started.replace(hour=0, minute=0, second=0, microsecond=0)
        found.setdefault(day, []).append(one.exit_code)
    days = [first + timedelta(days=number) for number in range((today - first).days + 1)]
    return [Day(day, len(found.get(day, ())), _worst(found.get(day))) for day in days]


def _worst(codes: list[int] | None) -> int | None:
    if not codes:
        return None
    return min(codes, key=lambda code: PRECEDENCE.index(code if code in PRECEDENCE else 1))
