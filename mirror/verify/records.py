"""Verifying run records, and the content that they expect in each folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mirror.store.reading.reader import Store, StoreDamaged
from mirror.store.reading.run_history import FolderHistory

# Without `everything`, records are read back to this checkpoint.
CHECKPOINTS = 2


@dataclass
class Expected:
    """What run records expect of a folder: the sha256 of its ledger, and the small files that it must have.

    Records of versions without a ledger hold the snapshots and their trees instead.
    """

    full_name: str
    ledger: str | None = None
    snapshots: set[str] = field(default_factory=set)
    trees: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, known: FolderHistory) -> Expected:
        """What the records expect of a folder."""
        return cls(known.full_name, known.ledger, known.snapshots or set(), known.trees, known.files)

    @property
    def has_content(self) -> bool:
        """Whether the records expect any content in the folder."""
        return self.ledger is not None or bool(self.snapshots or self.files)


def check_runs(
    store: Store, on_damage: Callable[[StoreDamaged], None], *, everything: bool
) -> tuple[dict[str, Expected], int]:
    """Check the run records, their chain and their lists; returns what they expect of each folder, and the
    number of small files read.

    Without `everything`, records before the last checkpoint but one are not read.
    """
    history = store.history(on_damage)
    read: list[str] = []
    lists: set[str] = set()
    checkpoints = 0
    for record in store.newest_runs(on_damage, history.records_from):
        read.append(record.id)
        lists.update(one for one in (record.list_sha256, record.checkpoint) if one is not None)
        checkpoints += record.checkpoint is not None
        if checkpoints == CHECKPOINTS and not everything:
            break
    store.check_lists(lists, on_damage)
    count = store.check_small_files(on_damage, None if everything else read)
    return {place: Expected.of(one) for place, one in history.by_folder().items()}, count
