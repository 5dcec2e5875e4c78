"""How each repository stands: its last good snapshot, when it was last confirmed, what is missing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.model import JsonObject, Part, Selector, Snapshot, time_from_text, time_text
from mirror.store.reading.reader import RepositoryFolder, Store, StoreDamaged, WorkspaceFolder
from mirror.store.reading.run_history import FailureStreak, FolderHistory, LostRefs, RunHistory
from mirror.store.reading.snapshots import Overview

_HEADS = "pull_request_heads"
# Outcomes of a backup after which no more is expected of a repository.
SETTLED = ("erased", "excluded")
# So far may the clock of the host that asks be behind that of the host that wrote a record.
CLOCKS_DIFFER = timedelta(minutes=10)


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
    # By part: what could be had and is not there; and what nobody can have this way.
    missing: dict[str, str] = field(default_factory=dict)
    out_of_reach: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()
    lost_refs: LostRefs = field(default_factory=LostRefs)
    failing: FailureStreak | None = None
    # Pinned, patched, lost and unknown, as far as the last snapshot says; empty where it does not.
    heads: dict[str, int] = field(default_factory=dict)
    # Nothing more is expected of it: it is gone upstream, erased, or left out by the configuration.
    is_settled: bool = False

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        data: dict[str, Any] = dict(self.__dict__)
        data["lost_refs"] = self.lost_refs.to_json()
        data["failing"] = self.failing.to_json() if self.failing is not None else None
        data["last_confirmed"] = time_text(self.last_confirmed) if self.last_confirmed else None
        data["problems"], data["rewritten"] = list(self.problems), list(self.rewritten)
        return data


@dataclass(frozen=True)
class WorkspaceStatus:
    """What belongs to a workspace and to no repository."""

    name: str
    last_snapshot: str | None
    missing: dict[str, str]
    out_of_reach: dict[str, str]
    last_confirmed: datetime | None = None
    # Whether a selector means the workspace itself, not only repositories in it.
    is_selected: bool = True

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        confirmed = time_text(self.last_confirmed) if self.last_confirmed else None
        return {**self.__dict__, "last_confirmed": confirmed}


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
    workspaces: tuple[WorkspaceStatus, ...] = ()
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
            "workspaces": [one.to_json() for one in self.workspaces],
            "repositories": [one.to_json() for one in self.repositories],
        }


def out_of_reach(parts: Mapping[str, Part]) -> dict[str, str]:
    """Of a snapshot or a run: what is settled although it is not there, by part. That is no failure."""
    return {name: part.told for name, part in parts.items() if part.is_settled and part.told}


def summed(several: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """What is out of reach, of several repositories and workspaces (by name): a line for each thing, and
    of how many it is said."""
    names: dict[tuple[str, str], list[str]] = {}
    for name, beyond in several:
        for part, text in beyond.items():
            # An error of the API begins with what was asked for, which is often the part itself.
            names.setdefault((part, text.replace(f": {part}: ", ": ", 1)), []).append(name)
    return [
        f"{part}: {text} ({found[0] if len(found) == 1 else f'in {len(found)} repositories'})"
        for (part, text), found in names.items()
    ]


def status(path: Path, selectors: Sequence[Selector] = ()) -> Status:
    """How the repositories that `selectors` mean (or all) stand. Raises NoStore and UsageError."""
    damage: list[str] = []

    def note(one: StoreDamaged) -> None:
        damage.append(f"{one.file}: {one.problem}")

    with Store.open(path) as store:
        past = store.history(note)
        rows = tuple(_repository(one, past, damage) for one in store.repositories(selectors, note))
        return Status(
            store=str(store.path),
            repositories=rows,
            last_backup=past.last.get("backup"),
            last_good_backup=None if past.last_good is None else time_from_text(past.last_good),
            last_verify=past.last.get("verify"),
            last_prune=past.last.get("prune"),
            workspaces=tuple(
                _workspace(one, past, selectors, damage) for one in store.workspaces(selectors, note)
            ),
            losses=_losses([*store.workspaces((), note), *store.repositories((), note)], note),
            damage=tuple(dict.fromkeys(damage)),
        )


def _losses(
    folders: Sequence[WorkspaceFolder | RepositoryFolder], note: Callable[[StoreDamaged], None]
) -> tuple[str, ...]:
    found = []
    for one in folders:
        try:
            found += [str(loss) for loss in one.brake().losses]
        except StoreDamaged as damage:
            note(damage)
    return tuple(found)


def _workspace(
    folder: WorkspaceFolder, past: RunHistory, selectors: Sequence[Selector], damage: list[str]
) -> WorkspaceStatus:
    last: Snapshot | None = None
    try:
        last = folder.metadata.overview(lambda one: damage.append(f"{one.file}: {one.problem}")).latest
    except (StoreDamaged, OSError) as error:
        damage.append(f"{folder.metadata.file}: {error}")
    parts = last.parts if last is not None else {}
    told = past.find("workspace", folder.uuid)
    return WorkspaceStatus(
        name=folder.slug,
        last_snapshot=last.id if last is not None else None,
        missing={name: str(part.told) for name, part in parts.items() if not part.is_settled},
        out_of_reach=out_of_reach(parts),
        last_confirmed=told.confirmed if told is not None else None,
        is_selected=not selectors or any(one.repository is None for one in selectors),
    )


def _repository(folder: RepositoryFolder, past: RunHistory, damage: list[str]) -> RepositoryStatus:
    told = past.find("repository", folder.uuid)
    entry = told.entry if told is not None else None
    taken = Overview(None, None, 0)
    try:
        taken = folder.metadata.overview(lambda one: damage.append(f"{one.file}: {one.problem}"))
    except (StoreDamaged, OSError) as error:
        damage.append(f"{folder.metadata.file}: {error}")
    last = taken.latest
    parts = last.parts if last is not None else {}
    changes = entry.get("ref_changes", []) if entry is not None else []
    return RepositoryStatus(
        name=folder.full_name,
        folder=folder.folder,
        state=_state(folder, told),
        last_snapshot=last.id if last is not None else None,
        last_complete=taken.complete,
        last_confirmed=told.confirmed if told is not None else None,
        snapshots=taken.count,
        bytes=_size(folder.root / folder.place),
        missing={name: str(part.told) for name, part in parts.items() if not part.is_settled},
        out_of_reach=out_of_reach(parts),
        problems=_problems(entry) if entry is not None else (),
        rewritten=tuple(
            f"{change['name']} {change['kind']}"
            for change in changes
            if change["kind"] in ("rewritten", "removed")
        ),
        lost_refs=told.lost_refs() if told is not None else LostRefs(),
        failing=told.failing() if told is not None else None,
        heads=_heads(last),
        is_settled=folder.gone_since is not None or (told is not None and told.outcome in SETTLED),
    )


def _state(folder: RepositoryFolder, told: FolderHistory | None) -> str:
    if folder.gone_since is not None:
        return f"gone since {time_text(folder.gone_since)}"
    if folder.missing is not None:
        return "absent"
    return (told.outcome if told is not None else None) or "unknown"


def stale(found: Status, *, most: timedelta, now: datetime) -> list[str]:
    """The repositories and workspaces of `found` that were not whole within the time `most` before `now`,
    each with when it last was.

    What is gone upstream, erased or left out on purpose does not change any more, and is not among them. A
    time after `now` is a wrong clock's, and proves nothing.
    """
    things = [(one.name, one.last_confirmed) for one in found.workspaces if one.is_selected]
    things += [(one.name, one.last_confirmed) for one in found.repositories if not one.is_settled]
    if not things and not found.repositories:
        return ["nothing was backed up yet"]
    late = []
    for name, whole in things:
        if whole is None:
            late.append(f"{name} was never whole, as far as run records tell")
        elif whole - now > CLOCKS_DIFFER:
            late.append(f"{name} was last whole at {time_text(whole)}, which is yet to come: a wrong clock")
        elif now - whole > most:
            late.append(f"{name} was last whole at {time_text(whole)}")
    return late


def _heads(last: Snapshot | None) -> dict[str, int]:
    """What became of the heads of pull requests; nothing where a snapshot of an older version has it."""
    code = last.parts.get("code") if last is not None else None
    if code is None or f"{_HEADS}_lost" not in code.counts:
        return {}
    names = {"pinned": _HEADS, **{name: f"{_HEADS}_{name}" for name in ("patched", "lost", "unknown")}}
    return {name: code.counts.get(key, 0) for name, key in names.items()}


def _problems(entry: JsonObject) -> tuple[str, ...]:
    """What the last backup's entry of a repository tells, that of upkeep too, which fails no run."""
    found = [problem["text"] for problem in entry.get("problems", [])]
    upkeep = entry.get("facts", {}).get("upkeep", {})
    found += [f"upkeep of {name}: {one['problem']}" for name, one in upkeep.items() if "problem" in one]
    return tuple(found)


def _size(folder: Path) -> int:
    """Bytes on disk below a folder."""
    total = 0
    for base, _folders, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # a writer may be at work
                total += Path(base, name).lstat().st_size
    return total
