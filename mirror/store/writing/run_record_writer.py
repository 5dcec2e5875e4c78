"""Writing run records. A record holds what changed or failed, and the sha256 of a list with the rest."""

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
    read_listed,
    read_run,
    run_ids,
)

# The largest distance of two checkpoints.
CHECKPOINT_RECORDS = 100
CHECKPOINT_TIME = timedelta(days=30)
# With more entries than this that differ from an older list, a record gets a new list.
DIFFERING_MAX = 100
# Facts that stay the same while nothing happens.
_STATE_FACTS = ("reason", "lfs")
# Outcomes that are always recorded, whatever the list says.
_DONE = (Outcome.SAVED, Outcome.PRUNED, Outcome.ACCEPTED, Outcome.ARRIVED, Outcome.DEPARTED)


def write_record(root: Path, run: Run, *, checkpoint_every: int) -> Path:
    """Write the record of `run`, chained to the previous one; returns its path. At least one record in
    `checkpoint_every` is a checkpoint.

    The caller holds the store's structure lock. Raises FileExistsError where the run has a record.
    """
    target = root / layout.run_record(run.id)
    sweep(target.parent)
    if target.exists():
        raise FileExistsError(f"there is a record of the run {run.id} already")
    make_folder(root / layout.LISTS)
    sweep(root / layout.LISTS)
    history = read_history(root)
    tip, count = history.tip, len(run_ids(root))
    number = 1 + (0 if tip is None else tip.number if tip.is_chained else count)
    content = run.to_json(previous=None if tip is None else tip.sha256) | {
        "schema": 2,
        "number": number,
        "previous_run": None if tip is None else tip.id,
        "facts": _facts(run, history),
        **_entries(root, run, history),
        "checkpoint": None,
    }
    if _is_checkpoint_due(history, run, number, checkpoint_every):
        record = RunRecord(run.id, target, content, "")
        content["checkpoint"] = _write_list(root, read_history(root, first=record).to_json())
    data = sealed(content)
    write_file(target, data)
    last = {"id": run.id, "sha256": hashlib.sha256(data).hexdigest(), "runs": count + 1}
    write_file(root / layout.LAST_RUN, dumps(last))
    return target


def removable_records(root: Path, keep: timedelta, now: datetime) -> tuple[int, int]:
    """The number of the oldest record to keep, and how many may be removed: those older than `keep` that
    precede a checkpoint other than the last one."""
    history = read_history(root)
    checkpoints, boundary, gone = 0, history.records_from, 0
    ended: datetime | None = None
    newer: RunRecord | None = None
    for record in newest_first(root, oldest=history.records_from):
        # An earlier record cannot have ended later, whatever its clock said.
        ended = record.ended if ended is None else min(ended, record.ended)
        if gone or (newer is not None and newer.checkpoint and checkpoints > 1 and now - ended >= keep):
            boundary = boundary if gone or newer is None else newer.number
            gone += 1
        checkpoints += record.checkpoint is not None
        newer = record
    return boundary, gone


def remove_records(root: Path, before: int) -> int:
    """Remove the records with numbers below `before`, and lists that no record names any more; returns how
    many records. The caller holds the store's structure lock, and has recorded the removal."""
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
            with contextlib.suppress(StoreDamaged):  # a damaged record stays, and verify reports it
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
        _cache_last(root, last_written(root))
    return gone


def _cache_last(root: Path, last: RunRecord | None) -> None:
    """Store in the cache which record is the newest."""
    if last is not None:
        content = {"id": last.id, "sha256": last.sha256, "runs": len(run_ids(root))}
        write_file(root / layout.LAST_RUN, dumps(content))


def _is_checkpoint_due(history: RunHistory, run: Run, number: int, every: int) -> bool:
    if history.checkpoint is None:
        return True
    apart = abs(run.ended - history.checkpoint.ended)  # a clock may have gone back
    return number - history.checkpoint.number >= every or apart >= CHECKPOINT_TIME


def _write_list(root: Path, content: JsonObject) -> str:
    """Write a list named by its sha256; returns the sha256."""
    data = dumps(content)
    digest = hashlib.sha256(data).hexdigest()
    path = root / layout.run_list(digest)
    if not path.exists():
        write_file(path, data)
    return digest


def _facts(run: Run, history: RunHistory) -> JsonObject:
    """The facts of the run, without the brakes that earlier records have."""
    facts = dict(run.facts)
    if "brakes" in facts:
        known = {one.folder for one in history.folders.values() if layout.BRAKE_FILE in one.files}
        facts["brakes"] = sorted(set(facts["brakes"]) - known)
    return facts


def _entries(root: Path, run: Run, history: RunHistory) -> JsonObject:
    """The entries of the record, and the list for the rest."""
    things: Mapping[Key, JsonObject] = {(one.kind, one.uuid): _state(one) for one in run.entries}
    if not things:
        return {"looked_at": None, "entries": []}
    if run.facts.get("announced") or run.kind in ("copy", "move"):
        # A few repositories, others each time: no list is shared.
        names = ({"full_name": one.full_name, "folder": one.folder} for one in run.entries)
        recorded = [_recorded(one) | name for one, name in zip(run.entries, names, strict=True)]
        return {"looked_at": None, "entries": recorded}
    digest, listed = _list_for(root, things, history.lists.get(run.kind, ()))
    if digest is None:
        content = {"schema": 1, "things": [things[key] for key in sorted(things)]}
        digest, listed = _write_list(root, content), things
    recorded = []
    for entry in run.entries:
        key = entry.kind, entry.uuid
        if things[key] != listed[key] or _is_news(entry, history.folders.get(key)):
            recorded.append(_recorded(entry))
    return {"looked_at": digest, "entries": recorded}


def _list_for(
    root: Path, things: Mapping[Key, JsonObject], known: Sequence[str]
) -> tuple[str | None, Mapping[Key, JsonObject]]:
    """The known list of the same folders that differs least, if by at most DIFFERING_MAX entries."""
    best: tuple[int, str | None, Mapping[Key, JsonObject]] = (DIFFERING_MAX + 1, None, {})
    for digest in known:
        try:
            listed = read_listed(root, digest)
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


def _state(entry: RunEntry) -> JsonObject:
    """The name and state of an entry, without what only this run did."""
    outcome = "confirmed" if entry.outcome in GOOD else str(entry.outcome)
    if entry.outcome is Outcome.PRUNED:
        outcome = str(Outcome.KEPT)
    facts = {name: entry.facts[name] for name in _STATE_FACTS if name in entry.facts}
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


def _is_news(entry: RunEntry, recorded: FolderHistory | None) -> bool:
    """Whether the record must hold the entry although its state is as in the list."""
    if entry.outcome in _DONE or entry.ref_changes or entry.trees:
        return True
    if entry.facts.get("upkeep") or entry.facts.get("lfs", {}).get("received"):
        return True
    known = recorded if recorded is not None else FolderHistory((entry.kind, entry.uuid))
    files = set(entry.facts.get("files", ()))
    return (
        (entry.ledger is not None and entry.ledger != known.ledger)
        or (entry.snapshot is not None and entry.snapshot != known.snapshot)
        or not files <= known.files
    )


def _recorded(entry: RunEntry) -> JsonObject:
    """The entry for the record; its name is in the list."""
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
    recorded = {name: value for name, value in more.items() if value}
    return {"uuid": entry.uuid, "outcome": whole["outcome"], **recorded}
