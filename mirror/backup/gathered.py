"""Gathers what visits did that hooks caused, and writes one run record of it now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mirror import __version__
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, Outcome, Run, RunEntry
from mirror.store.reading.reader import Store
from mirror.store.reading.run_history import GOOD
from mirror.store.writing.writer import open_store

# A record tells what was done within so many seconds,
GATHER_SECONDS = 60.0
# and the next one comes no sooner: a year of busy days must not fill the folder of records.
APART_SECONDS = 900.0

_log = get_logger("backup")


class Gathered:
    """The entries of visits since the last record. `store` says where the store is."""

    def __init__(self, store: Callable[[], Path], clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._entries: dict[str, RunEntry] = {}
        # By repository, the newest run record when its last visit ended.
        self._after: dict[str, str | None] = {}
        self._brakes: set[str] = set()
        self._requests = 0
        self._started: datetime | None = None
        self._written: float | None = None
        self._timer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    def add(
        self, entry: RunEntry | None, *, after: str | None, requests: int, brake: str | None = None
    ) -> None:
        """Add what a visit did: its entry, the requests of the API, the folder of a workspace with a brake.
        `after` is the newest run record when it ended. The record follows by itself."""
        self._started = self._started or self._clock.now()
        self._requests += requests
        if brake is not None:
            self._brakes.add(brake)
        if entry is not None:
            self._entries[entry.uuid] = joined(self._entries.get(entry.uuid), entry)
            self._after[entry.uuid] = after
        if self._timer is None or self._timer.done():
            self._timer = asyncio.ensure_future(self._write_later())

    async def stop(self) -> None:
        """Write the record now, if there is anything to tell."""
        if self._timer is not None:
            self._timer.cancel()
        await self.write()

    async def _write_later(self) -> None:
        while self._started is not None:  # what is added while a record is written comes into the next one
            wait = GATHER_SECONDS
            if self._written is not None:
                wait = max(wait, self._written + APART_SECONDS - self._clock.monotonic())
            await self._clock.sleep(wait)
            await asyncio.shield(self.write())

    async def write(self) -> None:
        """Write the record. Visits that found all as it was leave none."""
        async with self._writing:
            if all(one.outcome is Outcome.CONFIRMED for one in self._entries.values()) and not self._brakes:
                self._forget()
                return
            assert self._started is not None
            run = Run(
                id="", kind="backup", started=self._started, ended=self._clock.now(), program=__version__,
                entries=tuple(self._entries.values()),
                facts={"announced": True, "requests": self._requests, "brakes": sorted(self._brakes)},
            )  # fmt: skip
            after = self._after
            self._forget()
            self._written = self._clock.monotonic()
            try:
                written = await asyncio.to_thread(_write, self._store(), run, after)
            except (MirrorError, OSError) as error:  # a full disk, say: what was stored stays
                _log.error("backup.announced_not_recorded", reason=str(error))
            else:
                _log.info("backup.announced", run=written.id, repositories=len(written.entries))

    def _forget(self) -> None:
        self._entries, self._after, self._brakes = {}, {}, set()
        self._requests, self._started = 0, None


def joined(before: RunEntry | None, entry: RunEntry) -> RunEntry:
    """One entry of two visits of a repository, the second of which is `entry`."""
    if before is None:
        return entry
    is_saved = before.outcome is Outcome.SAVED and entry.outcome is Outcome.CONFIRMED
    return replace(
        entry,
        outcome=Outcome.SAVED if is_saved else entry.outcome,
        ref_changes=(*before.ref_changes, *entry.ref_changes),
        seconds=before.seconds + entry.seconds,
        facts={**before.facts, **entry.facts},
    )


def _write(path: Path, run: Run, after: Mapping[str, str | None]) -> Run:
    with open_store(path, command="mirror daemon") as store:
        entries = _in_order(store.reader, run, after)
        run = replace(run, id=store.new_run_id(run.started), entries=entries)
        store.write_run(run)
    return run


def _in_order(store: Store, run: Run, after: Mapping[str, str | None]) -> tuple[RunEntry, ...]:
    """The entries of a record that is written after the visits: a run that recorded a repository in between
    knows better how it is. Where all was well, what changed upstream is told all the same."""
    later = _recorded_since(store, after)
    history = store.history()
    entries = []
    for entry in run.entries:
        if entry.uuid not in later:
            entries.append(entry)
            continue
        known = history.find("repository", entry.uuid)
        if known is not None and known.outcome in GOOD and entry.outcome in GOOD:
            entries.append(replace(entry, problems=(), snapshot=None, ledger=None))
    return tuple(entries)


def _recorded_since(store: Store, after: Mapping[str, str | None]) -> set[str]:
    """The repositories that a backup recorded after the record that `after` names for each."""
    waiting, later = set(after), set[str]()
    for record in store.newest_runs():
        waiting -= {uuid for uuid in waiting if after[uuid] == record.id}
        if not waiting:
            break
        if record.kind == "backup":
            seen = {uuid for _, uuid in record.looked_at} | {one["uuid"] for one in record.data["entries"]}
            later |= waiting & seen
    return later
