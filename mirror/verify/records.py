"""What the run records say should be there, and whether they themselves are whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mirror.store.reading.reader import Store, StoreDamaged
from mirror.store.reading.run_history import FolderHistory

# Of the records so many checkpoints' worth is read where not all is to be.
CHECKPOINTS = 2


@dataclass
class Expected:
    """What run records say of one folder: the sha256 of its ledger, and the small files that it must have.

    Records of versions before the ledger hold the snapshots themselves, and their trees.
    """

    full_name: str
    ledger: str | None = None
    snapshots: set[str] = field(default_factory=set)
    trees: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, told: FolderHistory) -> Expected:
        """What a folder must hold, by what the records say."""
        return cls(told.full_name, told.ledger, told.snapshots or set(), told.trees, told.files)

    @property
    def tells_of_content(self) -> bool:
        """Whether any record says that the folder held something: others hold failures alone."""
        return self.ledger is not None or bool(self.snapshots or self.files)


def check_runs(
    store: Store, on_damage: Callable[[StoreDamaged], None], *, everything: bool
) -> tuple[dict[str, Expected], int]:
    """Check the run records, their chain and the lists they name; returns what they say, by folder, and how
    many small files of the store were read.

    All that are there are read, or, without `everything`, those back to the last checkpoint but one.
    """
    past = store.history(on_damage)
    read: list[str] = []
    lists: set[str] = set()
    checkpoints = 0
    for record in store.newest_runs(on_damage, past.records_from):
        read.append(record.id)
        lists.update(one for one in (record.list_sha256, record.checkpoint) if one is not None)
        checkpoints += record.checkpoint is not None
        if checkpoints == CHECKPOINTS and not everything:
            break
    store.check_lists(lists, on_damage)
    count = store.check_small_files(on_damage, None if everything else read)
    return {place: Expected.of(told) for place, told in past.by_folder().items()}, count
