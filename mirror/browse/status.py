"""The status of each repository: its last snapshots, when it was last confirmed, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mirror.browse.copied import CopyStatus, copies_of, lacking
from mirror.browse.folder_facts import FolderFacts
from mirror.errors import TryLater
from mirror.model import JsonObject, Part, Scope, Selector, Snapshot, time_from_text, time_text
from mirror.model.scope import covering
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder, Store, StoreDamaged, WorkspaceFolder
from mirror.store.reading.run_history import FolderHistory, RunHistory
from mirror.store.reading.snapshots import Overview
from mirror.store.reading.troubles import FailureStreak, LostRefs

_HEADS = "pull_request_heads"
# Begins the state of what another shard has, where that shard was not heard of for too long.
UNKNOWN = "unknown since "
# Outcomes of a backup after which no further snapshots are expected.
SETTLED = ("erased", "excluded")


@dataclass(frozen=True)
class RepositoryStatus:
    """The status of one repository. Unknown times are None."""

    name: str
    folder: str
    state: str
    last_snapshot: str | None
    last_complete: str | None
    last_confirmed: datetime | None
    snapshots: int
    bytes: int
    # By part: what is missing; and what this kind of credential can never read.
    missing: dict[str, str] = field(default_factory=dict)
    out_of_reach: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()
    lost_refs: LostRefs = field(default_factory=LostRefs)
    failing: FailureStreak | None = None
    # The pull request heads that are pinned, patched, lost and unknown; empty if the snapshot has no counts.
    heads: dict[str, int] = field(default_factory=dict)
    # No further snapshots are expected: it is gone upstream, erased, or excluded by the configuration.
    is_settled: bool = False
    # It was never complete, and only lacks what the next run can get; or its first run has not ended.
    is_first_export: bool = False
    # When something was last written into its folder.
    written: datetime | None = None
    # Since when complete lists lack it, where it does not count as gone yet.
    absent_since: datetime | None = None
    # The addresses of the copies that lack it as it is now.
    not_copied_to: tuple[str, ...] = ()

    @property
    def is_unknown(self) -> bool:
        """Whether the shard that has it was not heard of for too long."""
        return self.state.startswith(UNKNOWN)

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        data: dict[str, Any] = dict(self.__dict__)
        data["lost_refs"] = self.lost_refs.to_json()
        data["failing"] = self.failing.to_json() if self.failing is not None else None
        for name in ("last_confirmed", "written", "absent_since"):
            data[name] = time_text(data[name]) if data[name] is not None else None
        for name in ("problems", "rewritten", "not_copied_to"):
            data[name] = list(data[name])
        return data

    @classmethod
    def from_json(cls, data: JsonObject) -> RepositoryStatus:
        """Read what `to_json` wrote; what a later version adds is left out."""
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        lost, failing = data["lost_refs"], data["failing"]
        known["lost_refs"] = LostRefs(**{**lost, "latest": tuple(lost["latest"])})
        known["failing"] = FailureStreak(**failing) if failing is not None else None
        for name in ("last_confirmed", "written", "absent_since"):
            known[name] = time_from_text(data[name]) if data[name] is not None else None
        for name in ("problems", "rewritten", "not_copied_to"):
            known[name] = tuple(data[name])
        return cls(**known)


@dataclass(frozen=True)
class WorkspaceStatus:
    """The status of a workspace itself."""

    name: str
    last_snapshot: str | None
    missing: dict[str, str]
    out_of_reach: dict[str, str]
    last_confirmed: datetime | None = None
    # Whether a selector matches the workspace itself, not only repositories in it.
    is_selected: bool = True
    last_complete: str | None = None
    # As for a repository.
    is_first_export: bool = False
    # Whether any run of this store tried to back it up: in a cluster, one shard alone does.
    is_tried: bool = True

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        confirmed = time_text(self.last_confirmed) if self.last_confirmed else None
        return {**self.__dict__, "last_confirmed": confirmed}


@dataclass(frozen=True)
class Status:
    """The status of the store. `last_good_backup` is when the last backup of everything that exited with 0
    ended. By job (`Scope.job`): `jobs` are the last runs, and `good` is when the last one that exited with 0
    ended. `copies` are those in object storage that run records know."""

    store: str
    repositories: tuple[RepositoryStatus, ...]
    last_backup: JsonObject | None
    last_good_backup: datetime | None
    last_verify: JsonObject | None
    damage: tuple[str, ...] = ()
    last_prune: JsonObject | None = None
    last_drill: JsonObject | None = None
    workspaces: tuple[WorkspaceStatus, ...] = ()
    # Losses that tripped a mass-loss brake and are not accepted yet.
    losses: tuple[str, ...] = ()
    # When the store was made.
    created: datetime | None = None
    jobs: Mapping[str, JsonObject] = field(default_factory=dict)
    good: Mapping[str, datetime] = field(default_factory=dict)
    copies: tuple[CopyStatus, ...] = ()
    # How many repositories and workspaces there are, selected or not.
    folders: int = 0

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "store": self.store,
            "created": time_text(self.created) if self.created else None,
            "last_backup": self.last_backup,
            "last_good_backup": time_text(self.last_good_backup) if self.last_good_backup else None,
            "last_verify": self.last_verify,
            "last_prune": self.last_prune,
            "last_drill": self.last_drill,
            "copies": [one.to_json() for one in self.copies],
            "losses": list(self.losses),
            "damage": list(self.damage),
            "workspaces": [one.to_json() for one in self.workspaces],
            "repositories": [one.to_json() for one in self.repositories],
        }


def out_of_reach(parts: Mapping[str, Part]) -> dict[str, str]:
    """The parts that are settled although something is missing, with the reason. That is no failure."""
    return {name: part.summary for name, part in parts.items() if part.is_settled and part.summary}


def summed(several: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """A line for each part and reason out of reach, with the number of repositories and workspaces."""
    names: dict[tuple[str, str], list[str]] = {}
    for name, beyond in several:
        for part, text in beyond.items():
            # An API error begins with the resource, which often is the part itself.
            names.setdefault((part, text.replace(f": {part}: ", ": ", 1)), []).append(name)
    return [
        f"{part}: {text} ({found[0] if len(found) == 1 else f'in {len(found)} repositories'})"
        for (part, text), found in names.items()
    ]


def status(path: Path, selectors: Sequence[Selector] = (), facts: FolderFacts | None = None) -> Status:
    """The status of the repositories that `selectors` match, or of all. Raises NoStore and UsageError.

    `facts` reads the folders, and may remember them.
    """
    facts = facts or FolderFacts()
    damage: list[str] = []

    def note(one: StoreDamaged) -> None:
        damage.append(f"{one.file}: {one.problem}")

    with Store.open(path) as store:
        history = store.history(note)
        good = {job: time_from_text(when) for job, when in history.good.items()}
        workspaces, repositories = store.workspaces((), note), store.repositories((), note)
        folders: list[AnyFolder] = [*workspaces, *repositories]
        if selectors:
            workspaces = store.workspaces(selectors, note)
            repositories = store.repositories(selectors, note)
        return Status(
            store=str(store.path),
            repositories=tuple(_repository(one, history, damage, facts) for one in repositories),
            last_backup=history.last.get("backup"),
            last_good_backup=_last_good(good),
            jobs=history.scoped,
            good=good,
            last_verify=history.last.get("verify"),
            last_prune=history.last.get("prune"),
            last_drill=history.last.get("drill"),
            workspaces=tuple(_workspace(one, history, selectors, damage, facts) for one in workspaces),
            losses=_losses(folders, note),
            copies=copies_of(history, folders),
            folders=len(folders),
            damage=tuple(dict.fromkeys(damage)),
            created=store.created,
        )


def _last_good(good: Mapping[str, datetime]) -> datetime | None:
    """When the last good backup of everything ended. Of one workspace and all others, the earlier counts."""
    found = [good["backup"]] if "backup" in good else []
    for job in good:
        kind, scope = Scope.of_job(job)
        if kind == "backup" and scope.but:
            apart = [max(covering(good, kind, Scope(only=one)), default=None) for one in scope.but]
            times = [good[job], *(one for one in apart if one is not None)]
            found += [min(times)] if len(times) == 1 + len(apart) else []
    return max(found, default=None)


def _losses(folders: Sequence[AnyFolder], note: Callable[[StoreDamaged], None]) -> tuple[str, ...]:
    found = []
    for one in folders:
        try:
            found += [str(loss) for loss in one.brake().losses]
        except StoreDamaged as damage:
            note(damage)
    return tuple(found)


def _workspace(
    folder: WorkspaceFolder,
    history: RunHistory,
    selectors: Sequence[Selector],
    damage: list[str],
    facts: FolderFacts,
) -> WorkspaceStatus:
    taken = Overview(None, None, 0)
    try:
        taken = facts.overview(folder, lambda one: damage.append(f"{one.file}: {one.problem}"))
    except (StoreDamaged, OSError) as error:
        damage.append(f"{folder.metadata.file}: {error}")
    last = taken.latest
    parts = last.parts if last is not None else {}
    known = history.find("workspace", folder.uuid)
    return WorkspaceStatus(
        name=folder.slug,
        last_snapshot=last.id if last is not None else None,
        missing={name: str(part.summary) for name, part in parts.items() if not part.is_settled},
        out_of_reach=out_of_reach(parts),
        last_confirmed=known.confirmed if known is not None else None,
        is_selected=not selectors or any(one.repository is None for one in selectors),
        last_complete=taken.complete,
        is_first_export=_is_first_export(taken, known),
        is_tried=known is not None or last is not None,
    )


def _repository(
    folder: RepositoryFolder, history: RunHistory, damage: list[str], facts: FolderFacts
) -> RepositoryStatus:
    known = history.find("repository", folder.uuid)
    entry = known.entry if known is not None else None
    taken = Overview(None, None, 0)
    try:
        taken = facts.overview(folder, lambda one: damage.append(f"{one.file}: {one.problem}"))
    except (StoreDamaged, OSError) as error:
        damage.append(f"{folder.metadata.file}: {error}")
    last = taken.latest
    parts = last.parts if last is not None else {}
    changes = entry.get("ref_changes", []) if entry is not None else []
    usage = facts.usage(folder)
    return RepositoryStatus(
        name=folder.full_name,
        folder=folder.folder,
        state=_state(folder, known),
        last_snapshot=last.id if last is not None else None,
        last_complete=taken.complete,
        last_confirmed=known.confirmed if known is not None else None,
        snapshots=taken.count,
        bytes=usage.bytes,
        written=usage.written,
        missing={name: str(part.summary) for name, part in parts.items() if not part.is_settled},
        out_of_reach=out_of_reach(parts),
        problems=_problems(entry) if entry is not None else (),
        rewritten=tuple(
            f"{change['name']} {change['kind']}"
            for change in changes
            if change["kind"] in ("rewritten", "removed")
        ),
        lost_refs=known.lost_refs() if known is not None else LostRefs(),
        failing=known.failing() if known is not None else None,
        heads=_heads(last),
        is_settled=folder.gone_since is not None or (known is not None and known.outcome in SETTLED),
        is_first_export=_is_first_export(taken, known),
        absent_since=folder.missing.first if folder.missing is not None else None,
        not_copied_to=lacking(history, folder),
    )


def _state(folder: RepositoryFolder, known: FolderHistory | None) -> str:
    if folder.gone_since is not None:
        return f"gone since {time_text(folder.gone_since)}"
    if folder.missing is not None:
        return "absent"
    return (known.outcome if known is not None else None) or "unknown"


def _is_first_export(taken: Overview, known: FolderHistory | None) -> bool:
    """Whether it was never complete, and only lacks what the next run can get."""
    if taken.complete is not None or (known is not None and known.confirmed is not None):
        return False
    problems = known.entry.get("problems", ()) if known is not None and known.entry is not None else ()
    return all(one["code"] == TryLater.exit_code for one in problems)


def _heads(last: Snapshot | None) -> dict[str, int]:
    """The counts of pull request heads; empty for snapshots of older versions."""
    code = last.parts.get("code") if last is not None else None
    if code is None or f"{_HEADS}_lost" not in code.counts:
        return {}
    names = {"pinned": _HEADS, **{name: f"{_HEADS}_{name}" for name in ("patched", "lost", "unknown")}}
    return {name: code.counts.get(key, 0) for name, key in names.items()}


def _problems(entry: JsonObject) -> tuple[str, ...]:
    """The problems in the last backup's entry, including those of maintenance, which fail no run."""
    found = [problem["text"] for problem in entry.get("problems", [])]
    upkeep = entry.get("facts", {}).get("upkeep", {})
    found += [f"upkeep of {name}: {one['problem']}" for name, one in upkeep.items() if "problem" in one]
    return tuple(found)
