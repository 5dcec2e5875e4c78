"""How each repository stands: its last good snapshot, when it was last confirmed, what is missing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mirror.model import JsonObject, Selector, Snapshot, time_text
from mirror.store.reader import RepositoryFolder, RunRecord, Store, StoreDamaged, WorkspaceFolder

GOOD = ("saved", "confirmed")


@dataclass(frozen=True)
class RepositoryStatus:
    """One repository. Times are None where nothing is known."""

    name: str
    folder: str
    state: str
    last_snapshot: str | None
    last_complete: str | None
    last_confirmed: datetime | None
    snapshots: int
    bytes: int
    missing: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        data: dict[str, Any] = dict(self.__dict__)
        data["last_confirmed"] = time_text(self.last_confirmed) if self.last_confirmed else None
        data["problems"], data["rewritten"] = list(self.problems), list(self.rewritten)
        return data


@dataclass(frozen=True)
class Status:
    """The store as a whole. `last_good_backup` is when the last backup that ended with 0 began."""

    store: str
    repositories: tuple[RepositoryStatus, ...]
    last_backup: JsonObject | None
    last_good_backup: datetime | None
    last_verify: JsonObject | None
    damage: tuple[str, ...] = ()
    last_prune: JsonObject | None = None
    # Losses that tripped a mass-loss brake and that nobody accepted yet.
    losses: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {
            "schema": 1,
            "store": self.store,
            "last_backup": self.last_backup,
            "last_good_backup": time_text(self.last_good_backup) if self.last_good_backup else None,
            "last_verify": self.last_verify,
            "last_prune": self.last_prune,
            "losses": list(self.losses),
            "damage": list(self.damage),
            "repositories": [one.to_json() for one in self.repositories],
        }


def status(path: Path, selectors: Sequence[Selector] = ()) -> Status:
    """How the repositories that `selectors` mean (or all) stand. Raises NoStore and UsageError."""
    damage: list[str] = []

    def note(one: StoreDamaged) -> None:
        damage.append(f"{one.file}: {one.problem}")

    with Store.open(path) as store:
        runs = list(store.runs(None, note))
        latest = _latest_entries(runs)
        good = _last_good(runs)
        rows = tuple(
            _repository(one, latest.get(one.uuid), good.get(one.uuid), damage)
            for one in store.repositories(selectors, note)
        )
        backups = [run for run in runs if run.kind == "backup"]
        sound = [run for run in backups if run.data["exit_code"] == 0]
        return Status(
            store=str(store.path),
            repositories=rows,
            last_backup=_summary(backups),
            last_good_backup=max((run.ended for run in sound), default=None),
            last_verify=_summary([run for run in runs if run.kind == "verify"]),
            last_prune=_summary([run for run in runs if run.kind == "prune"]),
            losses=_losses(store.workspaces((), note), note),
            damage=tuple(dict.fromkeys(damage)),
        )


def _losses(workspaces: Sequence[WorkspaceFolder], note: Callable[[StoreDamaged], None]) -> tuple[str, ...]:
    found = []
    for one in workspaces:
        try:
            found += [str(loss) for loss in one.brake().losses]
        except StoreDamaged as damage:
            note(damage)
    return tuple(found)


def _summary(runs: Sequence[RunRecord]) -> JsonObject | None:
    if not runs:
        return None
    last = max(runs, key=lambda run: run.data["started"])
    return {
        "run": last.id,
        "started": last.data["started"],
        "ended": last.data["ended"],
        "exit_code": last.data["exit_code"],
        "problems": [problem["text"] for problem in last.data["problems"]],
    }


def _latest_entries(runs: Sequence[RunRecord]) -> dict[str, JsonObject]:
    """What the last backup that spoke of a repository said."""
    found: dict[str, JsonObject] = {}
    for run in sorted(
        (run for run in runs if run.kind == "backup"), key=lambda run: str(run.data["started"])
    ):
        found.update({entry["uuid"]: entry for entry in run.data["entries"]})
    return found


def _last_good(runs: Sequence[RunRecord]) -> dict[str, datetime]:
    """When each repository was last found whole."""
    found: dict[str, datetime] = {}
    for run in runs:
        for entry in run.data["entries"] if run.kind == "backup" else ():
            if entry["outcome"] in GOOD:
                found[entry["uuid"]] = max(run.ended, found.get(entry["uuid"], run.ended))
    return found


def _repository(
    folder: RepositoryFolder, entry: JsonObject | None, confirmed: datetime | None, damage: list[str]
) -> RepositoryStatus:
    taken: list[Snapshot] = []
    try:
        taken = folder.metadata.snapshots(lambda one: damage.append(f"{one.file}: {one.problem}"))
    except (StoreDamaged, OSError) as error:
        damage.append(f"{folder.metadata.file}: {error}")
    last = taken[-1] if taken else None
    complete = next((one for one in reversed(taken) if one.is_complete), None)
    missing = {
        name: f"{part.state}: {part.reason}" if part.reason else str(part.state)
        for name, part in (last.parts.items() if last is not None else ())
        # Of a part of many kinds, some may be out of reach for good: complete, with more to say.
        if part.state not in ("complete", "skipped") or part.reason
    }
    changes = entry["ref_changes"] if entry is not None else []
    state = str(entry["outcome"]) if entry is not None else "unknown"
    if folder.gone_since is not None:
        state = f"gone since {time_text(folder.gone_since)}"
    elif folder.missing is not None:
        state = "absent"
    return RepositoryStatus(
        name=folder.full_name,
        folder=folder.folder,
        state=state,
        last_snapshot=last.id if last is not None else None,
        last_complete=complete.id if complete is not None else None,
        last_confirmed=confirmed,
        snapshots=len(taken),
        bytes=_size(folder.root / folder.place),
        missing=missing,
        problems=tuple(problem["text"] for problem in (entry["problems"] if entry is not None else ())),
        rewritten=tuple(
            f"{change['name']} {change['kind']}"
            for change in changes
            if change["kind"] in ("rewritten", "removed")
        ),
    )


def _size(folder: Path) -> int:
    """Bytes on disk below a folder."""
    total = 0
    for base, _folders, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # a writer may be at work
                total += Path(base, name).lstat().st_size
    return total
