"""Accepting a loss: the brake of a workspace lets go, and it is recorded who said so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mirror.model import Clock, Outcome, Run, RunEntry, Selector
from mirror.prune.common import entry_of, finish, guarded, start
from mirror.store.brake import write_brake
from mirror.store.layout import BRAKE_FILE
from mirror.store.reader import WorkspaceFolder
from mirror.store.writer import StoreWriter, open_store


async def accept_loss(
    store_path: Path, selector: Selector, *, by: str, clock: Clock, lock_wait: float = 0.0
) -> Run:
    """Accept the losses that tripped the brake of a workspace, or of one of its repositories.

    `by` is who accepts them. What shrank counts from now on as it is. Raises NoStore, and UsageError
    where `selector` means nothing that the store holds.
    """
    with open_store(store_path, command="mirror accept-loss") as store:
        begun = start(store, "accept-loss", clock.now())
        entries = []
        for workspace, uuids in _meant(store, selector):
            one = _Acceptance(store, workspace, uuids, by, clock, lock_wait)
            entries.append(await guarded(workspace, one.accept))
        return finish(store, begun, clock, entries)


def _meant(store: StoreWriter, selector: Selector) -> list[tuple[WorkspaceFolder, frozenset[str] | None]]:
    """The workspaces, and of each the repositories (by uuid) that are meant; None: all and itself."""
    if selector.repository is None:
        return [(one, None) for one in store.reader.workspaces([selector])]
    by_folder: dict[str, set[str]] = {}
    for one in store.reader.repositories([selector]):
        by_folder.setdefault(one.workspace_folder, set()).add(one.uuid)
    return [
        (one, frozenset(by_folder[one.folder]))
        for one in store.reader.workspaces()
        if one.folder in by_folder
    ]


@dataclass(frozen=True)
class _Acceptance:
    store: StoreWriter
    workspace: WorkspaceFolder
    uuids: frozenset[str] | None
    by: str
    clock: Clock
    lock_wait: float

    async def accept(self) -> RunEntry:
        """Accept, under the workspace's lock; returns its entry."""
        writer = self.store.writer_of(self.workspace)
        async with writer.lock(self.lock_wait, self.clock):
            brake = self.workspace.brake()
            chosen = [one for one in brake.losses if self.uuids is None or one.key[0] in self.uuids]
            if chosen:
                keys = frozenset(one.key for one in chosen)
                write_brake(writer.path, brake.accept(keys, by=self.by, now=self.clock.now()))
        facts = {"by": self.by, "accepted": [str(one) for one in chosen]}
        outcome = Outcome.ACCEPTED if chosen else Outcome.KEPT
        return entry_of(self.workspace, outcome, facts={**facts, "files": [BRAKE_FILE] if chosen else []})
