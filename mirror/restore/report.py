"""The result of a restore, repository by repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mirror.errors import MirrorError, Result
from mirror.extract import problem_of
from mirror.extract import unreadable as unreadable_folder
from mirror.model import JsonObject, Snapshot, time_text
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, StoreDamaged


@dataclass(frozen=True)
class Item:
    """The result for one repository, or what a dry run would restore."""

    repository: str
    snapshot: str
    taken: str
    last_confirmed: str | None
    next_different: str | None
    target: str
    refs: int = 0
    # How many of these refs `--with-archive` took along.
    archived: int = 0
    # The other mirrors (`wiki`, `snippets/…`), each with how many refs.
    mirrors: Mapping[str, int] = field(default_factory=dict)
    documents: int = 0
    # Step logs of the snapshot that retention has removed since.
    logs_let_go: int = 0
    # LFS objects that were restored, and those that the store never had.
    lfs_objects: int = 0
    lfs_absent: int = 0
    # Whether the target has content of it.
    is_there: bool = False
    # Incomplete parts of the snapshot, each with the reason.
    not_whole: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[tuple[int, str], ...] = ()
    # What the user must do at the target.
    advice: tuple[str, ...] = ()
    push: JsonObject | None = None

    def to_json(self) -> JsonObject:
        """The JSON in results."""
        data: dict[str, Any] = dict(self.__dict__)
        data["not_whole"], data["mirrors"] = dict(self.not_whole), dict(self.mirrors)
        data["advice"] = list(self.advice)
        data["problems"] = [{"code": code, "text": text} for code, text in self.problems]
        return data


@dataclass(frozen=True)
class Report(Result):
    """The result of a restore."""

    items: tuple[Item, ...]
    dry_run: bool

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies."""
        return tuple(sorted({code for item in self.items for code, _ in item.problems}))

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "dry_run": self.dry_run,
            **self.codes_to_json(),
            "items": [item.to_json() for item in self.items],
        }


def item_of(folder: AnyFolder, when: At, target: str, **more: Any) -> Item:
    """The result for `folder` at a snapshot; `more` are further fields of Item."""
    snapshot = when.snapshot
    return Item(
        repository=folder.full_name,
        snapshot=snapshot.id,
        taken=time_text(when.taken),
        last_confirmed=time_text(when.last_confirmed) if when.last_confirmed else None,
        next_different=time_text(when.next_different) if when.next_different else None,
        target=target,
        not_whole={
            name: f"{part.state}: {part.reason or 'no reason given'}"
            for name, part in snapshot.parts.items()
            if not part.is_settled
        },
        **more,
    )


def lacking(folder: AnyFolder, target: str, error: MirrorError) -> Item:
    """The result for one of several that could not be restored, because of `error`."""
    return Item(folder.full_name, "", "", None, None, target, problems=(problem_of(error),))


def lacks_mirror(folder: AnyFolder, snapshot: Snapshot, mirror: str) -> MirrorError:
    """The error for a snapshot without the refs of a mirror."""
    return MirrorError(
        f"{folder.full_name}: the snapshot {snapshot.id} has no {mirror}, which could not be read then",
        hint="choose another snapshot with --at; mirror snapshots lists them",
    )


def unreadable(damage: StoreDamaged) -> Item:
    """The result for a folder that cannot be identified."""
    name, problems = unreadable_folder(damage)
    return Item(name, "", "", None, None, "", problems=problems)
