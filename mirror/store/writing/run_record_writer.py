"""Writing run records: what changed and what is not well in the record, the rest by the hash of a list."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from mirror.fs.durable import make_folder, sweep, sync_folder, write_file
from mirror.model import JsonObject, Outcome, Run, RunEntry, dumps
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.seal import sealed
from mirror.store.reading.run_history import GOOD, FolderHistory, RunHistory, read_history
from mirror.store.reading.run_records import (
    Key,
    RunRecord,
    last_written,
    newest_first,
    read_run,
    run_ids,
    things_of,
)

# There is a checkpoint at least every so many records and so much time.
CHECKPOINT_RECORDS = 100
CHECKPOINT_TIME = timedelta(days=30)
# So many entries that differ from an older list stand in the record; with more it gets a list of its own.
DIFFERING_MAX = 100
# Facts that stay the same from run to run as long as nothing happens.
_STANDING_FACTS = ("reason", "lfs")
# Outcomes that a record always states, whatever the list says about the thing.
_DONE = (Outcome.SAVED, Outcome.PRUNED, Outcome.ACCEPTED)


def write_record(root: Path, run: Run) -> Path:
    """Write the record of `run`, chained to the one written before; returns its file.

    The caller holds the lock of the store's structure. Raises FileExistsError where the run has a record.
    """
    target = root / layout.run_record(run.id)
    sweep(target.parent)
    if target.exists():
        raise FileExistsError(f"there is a record of the run {run.id} already")
    make_folder(root / layout.LISTS)
    sweep(root / layout.LISTS)
    past = read_history(root)
    tip, count = past.tip, len(run_ids(root))
    number = 1 + (0 if tip is None else tip.number if tip.is_chained else count)
    content = run.to_json(previous=None if tip is None else tip.sha256) | {
        "schema": 2,
        "number": number,
        "previous_run": None if tip is None else tip.id,
        "facts": _facts(run, past),
        **_entries(root, run, past),
        "checkpoint": None,
    }
    if _is_checkpoint_due(past, run, number):
        record = RunRecord(run.id, target, content, "")
        content["checkpoint"] = _write_list(root, read_history(root, first=record).to_json())
    data = sealed(content)
    write_file(target, data)
    last = {"id": run.id, "sha256": hashlib.sha256(data).hexdigest(), "runs": count + 1}
    write_file(root / layout.LAST_RUN, dumps(last))
    return target


def records_to_go(root: Path, keep: timedelta, now: datetime) -> tuple[int, int]:
    """The number of the oldest record to keep, and how many go that were kept so far: those older than
    `keep` that lie before a checkpoint which is not the last one."""
    past = read_history(root)
    checkpoints, boundary, gone = 0, past.records_from, 0
    ended: datetime | None = None
    newer: RunRecord | None = None
    for record in newest_first(root, oldest=past.records_from):
        # Whatever the clock was: what was written before another record did not end after it.
        ended = record.ended if ended is None else min(ended, record.ended)
        if gone or (newer is not None and newer.checkpoint and checkpoints > 1 and now - ended >= keep):
            boundary = boundary if gone or newer is None else newer.number
            gone += 1
        checkpoints += record.checkpoint is not None
        newer = record
    return boundary, gone


def let_go_of_records(root: Path, before: int) -> int:
    """Remove the records whose number is lower than `before`, and lists that no record names any more;
    returns how many records went. The caller holds the lock of the store's structure, and a record tells
    of it."""
    if before <= 1:
        return 0
    named: set[str] = set()
    kept: set[str] = set()
    for record in newest_first(root, oldest=before):
        kept.add(record.id)
        named.update(one for one in (record.list_sha256, record.checkpoint) if one is not None)
    gone = 0
    for identifier in run_ids(root):
        if identifier not in kept:
            with contextlib.suppress(StoreDamaged):  # what is damaged stays, and verify tells
                if read_run(root, identifier).number < before:
                    (root / layout.run_record(identifier)).unlink()
                    gone += 1
    lists = root / layout.LISTS
    for path in lists.glob("*.json") if gone else ():
        if path.stem not in named:
            path.unlink()
    if gone:
        sync_folder(root / layout.RUNS)
        sync_folder(lists)
        _tell_last(root, last_written(root))
    return gone


def _tell_last(root: Path, last: RunRecord | None) -> None:
    """Keep in the cache which record was written last."""
    if last is not None:
        content = {"id": last.id, "sha256": last.sha256, "runs": len(run_ids(root))}
        write_file(root / layout.LAST_RUN, dumps(content))


def _is_checkpoint_due(past: RunHistory, run: Run, number: int) -> bool:
    if past.checkpoint is None:
        return True
    apart = abs(run.ended - past.checkpoint.ended)  # a clock may have gone back
    return number - past.checkpoint.number >= CHECKPOINT_RECORDS or apart >= CHECKPOINT_TIME


def _write_list(root: Path, content: JsonObject) -> str:
    """Write a list under the name of its own sha256, which it returns."""
    data = dumps(content)
    digest = hashlib.sha256(data).hexdigest()
    path = root / layout.run_list(digest)
    if not path.exists():
        write_file(path, data)
    return digest


def _facts(run: Run, past: RunHistory) -> JsonObject:
    """The facts of the run, without the brakes that earlier records have told."""
    facts = dict(run.facts)
    if "brakes" in facts:
        known = {one.folder for one in past.folders.values() if layout.BRAKE_FILE in one.files}
        facts["brakes"] = sorted(set(facts["brakes"]) - known)
    return facts


def _entries(root: Path, run: Run, past: RunHistory) -> JsonObject:
    """The entries that the record tells, and the list of the rest."""
    things: Mapping[Key, JsonObject] = {(one.kind, one.uuid): _standing(one) for one in run.entries}
    if not things:
        return {"looked_at": None, "entries": []}
    digest, listed = _list_for(root, things, past.lists.get(run.kind, ()))
    if digest is None:
        content = {"schema": 1, "things": [things[key] for key in sorted(things)]}
        digest, listed = _write_list(root, content), things
    told = []
    for entry in run.entries:
        key = entry.kind, entry.uuid
        if things[key] != listed[key] or _is_news(entry, past.folders.get(key)):
            told.append(_told(entry))
    return {"looked_at": digest, "entries": told}


def _list_for(
    root: Path, things: Mapping[Key, JsonObject], known: Sequence[str]
) -> tuple[str | None, Mapping[Key, JsonObject]]:
    """The known list of the same things that differs least, where it does not differ by much."""
    best: tuple[int, str | None, Mapping[Key, JsonObject]] = (DIFFERING_MAX + 1, None, {})
    for digest in known:
        try:
            listed = things_of(root, digest)
        except StoreDamaged:
            continue
        if listed.keys() != things.keys() or any(
            _names(listed[key]) != _names(thing) for key, thing in things.items()
        ):
            continue
        differing = sum(listed[key] != thing for key, thing in things.items())
        if differing < best[0]:
            best = differing, digest, listed
    return best[1], best[2]


def _names(thing: JsonObject) -> tuple[str, str]:
    return thing["full_name"], thing["folder"]


def _standing(entry: RunEntry) -> JsonObject:
    """Who an entry is about and how that stands, without what only this run did."""
    outcome = "confirmed" if entry.outcome in GOOD else str(entry.outcome)
    if entry.outcome is Outcome.PRUNED:
        outcome = str(Outcome.KEPT)
    facts = {name: entry.facts[name] for name in _STANDING_FACTS if name in entry.facts}
    problems = [problem.to_json() for problem in entry.problems]
    return {
        "kind": entry.kind,
        "uuid": entry.uuid,
        "full_name": entry.full_name,
        "folder": entry.folder,
        "outcome": outcome,
        **({"problems": problems} if problems else {}),
        **({"facts": facts} if facts else {}),
    }


def _is_news(entry: RunEntry, told: FolderHistory | None) -> bool:
    """Whether the record must hold the entry, though it stands as the list says."""
    if entry.outcome in _DONE or entry.ref_changes or entry.trees:
        return True
    if entry.facts.get("upkeep") or entry.facts.get("lfs", {}).get("received"):
        return True
    known = told if told is not None else FolderHistory((entry.kind, entry.uuid))
    files = set(entry.facts.get("files", ()))
    return (
        (entry.ledger is not None and entry.ledger != known.ledger)
        or (entry.snapshot is not None and entry.snapshot != known.snapshot)
        or not files <= known.files
    )


def _told(entry: RunEntry) -> JsonObject:
    """An entry as the record holds it: who it is about stands in the list."""
    whole = entry.to_json()
    facts = {name: value for name, value in entry.facts.items() if name != "decisions"}
    lost = [one for one in whole["ref_changes"] if one["kind"] in ("rewritten", "removed")]
    counts: dict[str, int] = {}
    for change in entry.ref_changes:
        counts[change.kind] = counts.get(change.kind, 0) + 1
    more = {
        "kind": entry.kind if entry.kind != "repository" else None,
        "snapshot": entry.snapshot,
        "ledger": entry.ledger,
        "problems": whole["problems"],
        "ref_changes": lost,
        "refs": counts,
        "facts": facts,
        "seconds": whole["seconds"],
    }
    told = {name: value for name, value in more.items() if value}
    return {"uuid": entry.uuid, "outcome": whole["outcome"], **told}
