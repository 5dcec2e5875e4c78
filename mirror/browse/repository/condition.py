"""How a repository or a workspace is: what a person must know before they look any closer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from mirror.browse.copied import lacking
from mirror.model import JsonObject, time_from_text
from mirror.store.format import layout
from mirror.store.format.identity import FormerName
from mirror.store.reading.change_marks import contents_mark
from mirror.store.reading.folders import AnyFolder, RepositoryFolder
from mirror.store.reading.reader import RunHistory, Store, StoreDamaged
from mirror.store.reading.run_history import FolderHistory
from mirror.store.reading.troubles import FailureStreak, LostRefs

# More files than these are not counted.
_FILES_MAX = 20_000


@dataclass(frozen=True)
class Size:
    """The bytes of a folder's files; `is_more`: there are more files than were counted."""

    bytes: int
    is_more: bool = False


@dataclass(frozen=True)
class InCopy:
    """Whether the copy at the address `to` has a folder as it is now (`has_it`), and when it was last
    good."""

    to: str
    has_it: bool
    last_good: datetime | None


@dataclass(frozen=True)
class Condition:
    """How a folder is. `missing_since` is when listings first lacked the repository, `gone_since` the same
    once that is confirmed. `confirmed` is when a run last found all of it, None where no run record says.
    `losses` hold the brake. `copies` are those in object storage. `damage` is what cannot be read of all
    this."""

    size: Size
    former_names: tuple[FormerName, ...] = ()
    missing_since: datetime | None = None
    gone_since: datetime | None = None
    confirmed: datetime | None = None
    outcome: str | None = None
    failing: FailureStreak | None = None
    problems: tuple[str, ...] = ()
    lost: LostRefs = field(default_factory=LostRefs)
    losses: tuple[str, ...] = ()
    erasures: tuple[tuple[datetime, str], ...] = ()
    copies: tuple[InCopy, ...] = ()
    damage: tuple[str, ...] = ()


def condition(store: Store, folder: AnyFolder, copies: Sequence[str] = ()) -> Condition:
    """The condition of a folder. Whatever is damaged is in its `damage`. `copies` are the addresses that the
    configuration has, whether any copy was made there or not."""
    damage = [] if folder.identity_damage is None else [folder.identity_damage.message]
    losses: tuple[str, ...] = ()
    erasures: tuple[tuple[datetime, str], ...] = ()
    try:
        losses = tuple(str(one) for one in folder.brake().losses)
        erasures = tuple((one.at, one.reason) for one in folder.erasures())
    except StoreDamaged as error:
        damage.append(error.message)
    known = _history_of(store, folder)
    entry: JsonObject = known.entry or {} if known is not None else {}
    missing = folder.missing if isinstance(folder, RepositoryFolder) else None
    return Condition(
        size_of(folder.root / folder.place), folder.former_names,
        missing.first if missing is not None else None,
        folder.gone_since if isinstance(folder, RepositoryFolder) else None,
        known.confirmed if known is not None else None,
        known.outcome if known is not None else None,
        known.failing() if known is not None else None,
        tuple(str(one["text"]) for one in entry.get("problems", ())),
        known.lost_refs() if known is not None else LostRefs(),
        losses, erasures, _copies(store, folder, copies), tuple(damage),
    )  # fmt: skip


def _copies(store: Store, folder: AnyFolder, configured: Sequence[str]) -> tuple[InCopy, ...]:
    history = _history(store)
    lacks = lacking(history, folder)
    found = []
    for address in configured or sorted(history.copies):
        known = history.copies.get(address)
        good = time_from_text(known.good) if known is not None and known.good is not None else None
        found.append(InCopy(address, known is not None and address not in lacks, good))
    return tuple(found)


def last_confirmed(store: Store, folder: AnyFolder, identifier: str) -> datetime | None:
    """When a run last found a folder to be as its snapshot of this id; None where no run record says."""
    known = _history_of(store, folder)
    return known.confirmed if known is not None and known.confirmed_as == identifier else None


def _history_of(store: Store, folder: AnyFolder) -> FolderHistory | None:
    kind = "repository" if isinstance(folder, RepositoryFolder) else "workspace"
    return _history(store).find(kind, folder.uuid)


def _history(store: Store) -> RunHistory:
    """The history in the run records, read again once there is a new record."""
    try:
        changed = (store.path / layout.RUNS).stat().st_mtime_ns
    except OSError:
        changed = 0
    return _history_read(store.path, changed)


@lru_cache(maxsize=4)
def _history_read(path: Path, _changed: int) -> RunHistory:
    with Store.open(path) as store:
        return store.history()


def size_of(folder: Path) -> Size:
    """The size of what is below a folder of the store, counted anew once its bytes changed."""
    return _size(str(folder), contents_mark(str(folder)))


@lru_cache(maxsize=1024)
def _size(folder: str, _mark: object) -> Size:
    total = count = 0
    for base, _folders, files in os.walk(folder):
        for name in files:
            with suppress(OSError):  # a writer may remove it
                total += Path(base, name).lstat().st_size
            count += 1
        if count > _FILES_MAX:
            return Size(total, is_more=True)
    return Size(total)
