"""Accepting a loss: release a tripped brake, and record who accepted it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mirror.model import Clock, Outcome, Run, RunEntry, Selector
from mirror.prune.common import entry_of, finish, guarded, start
from mirror.store.format.brake import PULL_REQUESTS, REFS, REPOSITORIES, Brake
from mirror.store.format.layout import BRAKE_FILE
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder, StoreDamaged, WorkspaceFolder, current_workspace
from mirror.store.writing.small_files import write_brake
from mirror.store.writing.writer import StoreWriter, open_store

_OF_REPOSITORIES = frozenset({REFS, PULL_REQUESTS})
_ALL = _OF_REPOSITORIES | {REPOSITORIES}


async def accept_loss(
    store_path: Path,
    selector: Selector,
    *,
    by: str,
    clock: Clock,
    lock_wait: float = 0.0,
    shared: bool = False,
) -> Run:
    """Accept the losses of a workspace and all its repositories, or of some of its repositories.

    `by` is the person who accepts them. Later losses are measured from the present counts. A damaged brake is
    replaced. Where the workspace is `shared` with other hosts, some repositories say nothing of the loss in
    the sum, which only the whole workspace releases. Raises NoStore, and UsageError where `selector` matches
    nothing.
    """
    with open_store(store_path, command="mirror accept-loss") as store:
        begun = start(store, "accept-loss", clock.now())
        acceptance = _Acceptance(store, by, clock, lock_wait, shared)
        selected = [one for one in _repositories(store, selector) if one.has(BRAKE_FILE)]
        entries = [await guarded(one, partial(acceptance.repository, one)) for one in selected]
        for workspace, uuids in _workspaces(store, selector):
            entry = await guarded(workspace, partial(acceptance.workspace, workspace, uuids))
            if uuids is None or entry.outcome is not Outcome.KEPT or not entries:
                entries.append(entry)
        return finish(store, begun, clock, entries)


def _repositories(store: StoreWriter, selector: Selector) -> list[RepositoryFolder]:
    """The selected repositories: for a workspace, those that belong to it now."""
    if selector.repository is not None:
        return store.reader.repositories([selector])
    workspaces = store.reader.workspaces(on_damage=_pass_over)
    chosen = {one.place for one in store.reader.workspaces([selector])}
    return [
        one
        for one in store.reader.repositories(on_damage=_pass_over)
        if (home := current_workspace(one, workspaces)) is not None and home.place in chosen
    ]


def _pass_over(damage: StoreDamaged) -> None:
    """Skip a damaged folder: it has no losses to accept."""


def _workspaces(
    store: StoreWriter, selector: Selector
) -> list[tuple[WorkspaceFolder, frozenset[str] | None]]:
    """The workspaces, each with the uuids of its selected repositories; None: all, and itself."""
    if selector.repository is None:
        return [(one, None) for one in store.reader.workspaces([selector])]
    workspaces = store.reader.workspaces(on_damage=_pass_over)
    found: dict[str, set[str]] = {}
    for one in store.reader.repositories([selector]):
        home = current_workspace(one, workspaces)
        if home is not None:
            found.setdefault(home.folder, set()).add(one.uuid)
    return [(one, frozenset(found[one.folder])) for one in workspaces if one.folder in found]


@dataclass(frozen=True)
class _Acceptance:
    store: StoreWriter
    by: str
    clock: Clock
    lock_wait: float
    shared: bool

    async def repository(self, folder: RepositoryFolder) -> RunEntry:
        """Accept the losses of a repository, under its folder's lock; returns its entry."""
        writer = self.store.writer_of(folder)
        async with writer.lock(self.lock_wait, self.clock):
            try:
                brake = folder.brake()
            except StoreDamaged as damage:
                write_brake(writer.path, Brake())
                return self._entry(folder, [f"{damage.file} was damaged and is replaced"])
            losses = [str(one) for one in brake.losses]
            for what in sorted(_OF_REPOSITORIES):
                lost = brake.lost_of(what)
                if lost and brake.loss_of(what) is None:
                    losses.append(f"{folder.full_name}: {len(lost)} missing {what.replace('_', ' ')}")
            if losses:
                accepted = brake.released(_OF_REPOSITORIES, by=self.by, now=self.clock.now())
                write_brake(writer.path, accepted)
        return self._entry(folder, losses)

    async def workspace(self, folder: WorkspaceFolder, uuids: frozenset[str] | None) -> RunEntry:
        """Accept the losses of a workspace, under its folder's lock; returns its entry.

        With `uuids` only some of its repositories are selected. The loss in the sum over all repositories is
        then accepted too, for each kind of which no repository lacks any more.
        """
        writer, now = self.store.writer_of(folder), self.clock.now()
        async with writer.lock(self.lock_wait, self.clock):
            try:
                before = brake = folder.brake()
            except StoreDamaged as damage:
                if uuids is not None:
                    raise
                write_brake(writer.path, Brake())
                return self._entry(folder, [f"{damage.file} was damaged and is replaced"])
            for loss in before.losses:
                if loss.repository and (uuids is None or loss.repository in uuids):
                    brake = brake.without(loss, by=self.by, now=now)
            kinds = _ALL
            if uuids is not None:
                kinds = frozenset(() if self.shared else _OF_REPOSITORIES - self._missing_in(folder))
            if any(brake.loss_of(what) for what in kinds):
                brake = brake.released(kinds, by=self.by, now=now)
            if brake != before:
                write_brake(writer.path, brake)
        return self._entry(folder, [str(one) for one in before.losses if one not in brake.losses])

    def _missing_in(self, workspace: WorkspaceFolder) -> set[str]:
        """The kinds of which a repository of the workspace lacks any."""
        workspaces = self.store.reader.workspaces(on_damage=_pass_over)
        return {
            lost.what
            for one in self.store.reader.repositories(on_damage=_pass_over)
            if current_workspace(one, workspaces) == workspace
            for lost in one.brake().lost
        }

    def _entry(self, folder: AnyFolder, losses: Sequence[str]) -> RunEntry:
        facts = {"by": self.by, "accepted": list(losses), "files": [BRAKE_FILE] if losses else []}
        return entry_of(folder, Outcome.ACCEPTED if losses else Outcome.KEPT, facts=facts)
