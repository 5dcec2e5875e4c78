"""The mass-loss brake: judging what was lost upstream.

Only what a run read reliably counts: advertised refs, pull requests of a whole listing, a whole list of
repositories. Everything is kept and saved all the same. A tripped brake stops prune, and every run ends with
5 until somebody accepts the loss or all of it is back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirror.backup.context import WorkspaceContext, ignore_damage
from mirror.collect.kinds.pull_requests import PULL_REQUESTS as KIND
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Part, PartState, Problem, Refs, Snapshot, name_from_json, name_to_json
from mirror.model.elsewhere import Others, Tally
from mirror.store.format.brake import (
    ACCEPTED_AFTER,
    PULL_REQUESTS,
    REFS,
    REPOSITORIES,
    Brake,
    Count,
    Loss,
    Lost,
    Rules,
)
from mirror.store.format.layout import BRAKE_FILE
from mirror.store.reading.reader import RepositoryFolder, StoreDamaged, WorkspaceFolder, current_workspace
from mirror.store.writing.small_files import write_brake
from mirror.store.writing.writer import RepositoryWriter, WorkspaceWriter

_log = get_logger("backup")
_KEPT = "all is kept, and nothing is pruned until it is back or somebody runs: mirror accept-loss"


def rules_of(workspace: WorkspaceContext) -> Rules:
    """From which loss on the brake trips, by the configuration."""
    return Rules(workspace.config.brake.share, workspace.config.brake.at_least)


@dataclass
class FolderJudge:
    """Judges one repository's folder, under its lock and before its next snapshot is tagged.

    `refs` are those that upstream advertised, without the `erased` ones (None: they could not be read);
    `gone` are the numbers of the pull requests that upstream does not have any more (None: unknown).
    """

    workspace: WorkspaceContext
    writer: RepositoryWriter
    parts: Mapping[str, Part]
    refs: Refs | None
    erased: frozenset[bytes]
    gone: frozenset[int] | None
    is_done: bool = field(default=False, init=False)

    def __call__(self, last: Snapshot | None) -> None:
        """Compare with the snapshot `last`, and record durably what was lost since."""
        self.is_done = True
        if last is None:
            return
        folder, workspace = self.writer.folder, self.workspace
        try:
            before = folder.brake()
        except StoreDamaged:
            return  # prune treats it as tripped; the entry names it
        brake, now = before, workspace.clock.now()
        for count in (self._refs(last), self._pull_requests(last)):
            if count is not None:
                brake = brake.seen(
                    count,
                    rules_of(workspace),
                    name=folder.full_name,
                    now=now,
                    hold=workspace.holds_losses,
                    since=workspace.lost_since,
                )
        if before == Brake() and not brake.lost:
            return
        if brake != before:
            workspace.before_loss()
            write_brake(self.writer.path, brake)
            _log_change(before, brake)

    def finish(self, last: Snapshot) -> None:
        """Judge where no snapshot was taken, if something was missing: it may be back."""
        if not self.is_done and self.writer.folder.has(BRAKE_FILE):
            self(last)

    def _refs(self, last: Snapshot) -> Count | None:
        if self.refs is None:
            return None
        known = self.writer.folder.metadata.code_refs(last)
        erased, there = self.erased, self.refs.refs
        last_refs = {} if known is None else known[0].refs
        before = {name: value for name, value in last_refs.items() if name not in erased}
        lost: dict[str, str | None] = {
            name_to_json(name): value for name, value in before.items() if name not in there
        }

        def is_back(one: Lost) -> bool:
            name = name_from_json(one.name)
            return there.get(name) == one.value or name in erased

        return Count(REFS, len(before), len(there), lost, is_back)

    def _pull_requests(self, last: Snapshot) -> Count | None:
        now = _pull_requests_in(self.parts)
        if now is None or self.gone is None:
            return None
        before = _pull_requests_in(last.parts)
        read = self.writer.folder.metadata.read
        lost: dict[str, str | None] = {
            str(number): None
            for number in sorted(self.gone)
            if not KIND.is_marked_gone(read(last, KIND.path(number)))
        }
        gone = self.gone

        def is_back(one: Lost) -> bool:
            return int(one.name) not in gone

        return Count(PULL_REQUESTS, now if before is None else before, now, lost, is_back)


def _pull_requests_in(parts: Mapping[str, Part]) -> int | None:
    """How many pull requests upstream has, by a snapshot's parts; None where they were not read reliably."""
    part = parts.get("pull_requests")
    if part is None or not (part.state is PartState.COMPLETE or "pull_requests_to_ask" in part.counts):
        return None
    return part.counts.get("pull_requests", 0) - part.counts.get("pull_requests_gone", 0)


def problems_of_folder(folder: RepositoryFolder) -> tuple[Problem, ...]:
    """The problems that a repository's brake adds to its entry."""
    try:
        losses = folder.brake().losses
    except StoreDamaged as damage:
        return (Problem(4, _unreadable(folder, damage)),)
    return tuple(Problem(5, f"{loss}; {_KEPT} {folder.full_name}") for loss in losses)


def _unreadable(folder: RepositoryFolder | WorkspaceFolder, damage: StoreDamaged) -> str:
    return (
        f"{damage.file} is damaged: {damage.problem}; nothing is pruned until the file is brought back or"
        f" somebody runs: mirror accept-loss {folder.full_name}"
    )


def _log_change(before: Brake, brake: Brake) -> None:
    """Log what tripped a brake, and what released it."""
    for loss in brake.losses:
        if loss not in before.losses:
            _log.error("backup.mass_loss", loss=str(loss))
    for release in brake.releases[len(before.releases) :]:
        _log.warning("backup.mass_loss_is_back", loss=str(release.loss))


# -- the sum over a workspace


async def judge_workspace(
    workspace: WorkspaceContext, home: WorkspaceWriter, *, whole: bool, listed: frozenset[str]
) -> list[Problem]:
    """Judge what all repositories of a workspace lost together; returns the run's problems.

    `whole`: the list of the workspace was whole, so that what no list has is missing; `listed` are the uuids
    that this run saw in any workspace. What other hosts of a cluster lost of it counts too. Raises what
    locking and writing raise: the backup of the workspace does not count as finished then, and prune removes
    nothing of it.
    """
    folder = home.folder
    async with home.lock(workspace.lock_wait, workspace.clock):
        try:
            before = folder.brake()
        except StoreDamaged as damage:
            return [Problem(4, f"{folder.slug}: {_unreadable(folder, damage)}")]
        sum_ = _Sum.of(workspace, folder)
        brake = before
        others, elsewhere = Others(), workspace.run.request.others
        if elsewhere is not None:
            others = await elsewhere.exchange(folder.uuid, sum_.tallies(brake, listed if whole else None))
        for what in (REFS, PULL_REQUESTS):
            brake = sum_.judge(brake, what, others)
        if whole:
            brake = sum_.judge_repositories(brake, listed, others)
        if brake != before:
            write_brake(home.path, brake)
            _log_change(before, brake)
    return [Problem(5, f"{loss}; {_KEPT} {folder.slug}") for loss in brake.losses]


@dataclass(frozen=True)
class _Sum:
    """The folders of all repositories that are in a workspace now, and their brakes."""

    folder: WorkspaceFolder
    repositories: Sequence[RepositoryFolder]
    brakes: Mapping[str, Brake]  # by place
    is_unreadable: bool
    rules: Rules
    began: datetime
    now: datetime
    hold: bool

    @classmethod
    def of(cls, workspace: WorkspaceContext, folder: WorkspaceFolder) -> _Sum:
        store = workspace.store.reader
        workspaces = store.workspaces(on_damage=ignore_damage)
        repositories = [
            one for one in store.repositories(on_damage=ignore_damage)
            if (home := current_workspace(one, workspaces)) is not None and home.folder == folder.folder
        ]  # fmt: skip
        brakes, is_unreadable = {}, False
        for one in repositories:
            if one.has(BRAKE_FILE):
                try:
                    brakes[one.place] = one.brake()
                except StoreDamaged:  # the repository's own entry names it
                    is_unreadable = True
        return cls(
            folder, repositories, brakes, is_unreadable, rules_of(workspace),
            workspace.lost_since or workspace.run.results.started, workspace.clock.now(),
            workspace.holds_losses,
        )  # fmt: skip

    def tallies(self, brake: Brake, listed: frozenset[str] | None) -> dict[str, Tally]:
        """What this store tells other hosts; of repositories only after a whole list, `listed`."""
        found = {
            what: Tally(
                self._was(what), self._lost(what), self._vanished(what), is_missing=self._is_missing(what)
            )
            for what in (REFS, PULL_REQUESTS)
        }
        if listed is not None:
            lost = len(self._lost_repositories(brake, listed))
            found[REPOSITORIES] = Tally(self._present + lost, lost, is_missing=lost > 0)
        return found

    @property
    def _there(self) -> list[RepositoryFolder]:
        return [one for one in self.repositories if one.missing is None]

    @property
    def _present(self) -> int:
        return len(self._there)

    def _lost(self, what: str) -> int:
        there = (self.brakes[one.place] for one in self._there if one.place in self.brakes)
        return sum(one.shrunk_by(what, self.now, hold=self.hold) for one in there)

    def _vanished(self, what: str) -> int:
        there = (self.brakes[one.place] for one in self._there if one.place in self.brakes)
        return sum(one.vanished(what, self.began, hold=self.hold) for one in there)

    def _was(self, what: str) -> int:
        return sum(self._count(one, what) for one in self._there)

    def _is_missing(self, what: str) -> bool:
        return any(one.lost_of(what) for one in self.brakes.values()) or self.is_unreadable

    def judge(self, brake: Brake, what: str, others: Others) -> Brake:
        """The workspace's brake after the losses of one kind were summed, with those of other hosts."""
        other = others.of(what)
        lost = self._lost(what) + other.lost
        tripped = brake.loss_of(what)
        if tripped is not None:
            if others.is_whole and not (self._is_missing(what) or other.is_missing):
                return brake.released(frozenset({what}), by=None, now=self.now)
            return brake.trip(replace(tripped, now=max(0, tripped.was - lost)))
        gone = self._vanished(what) + other.vanished
        if max(lost, gone) < self.rules.at_least:
            return brake
        was = self._was(what) + other.was
        if self.rules.are_exceeded(lost, was):
            return brake.trip(Loss(what, self.folder.slug, was, was - lost, self.now))
        if self.rules.are_exceeded_at_once(gone, was):
            return brake.trip(Loss(what, self.folder.slug, was, was - lost, self.now, replaced=gone))
        return brake

    def _count(self, one: RepositoryFolder, what: str) -> int:
        """How many things of a kind a repository had before it lost any."""
        brake = self.brakes.get(one.place)
        if brake is not None and what in brake.accepted:
            count = brake.accepted[what].count
            return count if brake.lost_of(what) else max(count, brake.counted.get(what, 0))
        latest = one.metadata.latest()
        if latest is None:
            return 0
        if what == PULL_REQUESTS:
            return _pull_requests_in(latest.parts) or 0
        code = latest.parts.get("code")
        return code.counts.get("refs", 0) if code is not None else 0

    def _lost_repositories(self, brake: Brake, listed: frozenset[str]) -> dict[str, Lost]:
        """The repositories that a whole list lacks and nobody accepted as lost, by uuid."""
        accepted = brake.accepted.get(REPOSITORIES)
        missing = {
            one.uuid: one.missing.first
            for one in self.repositories
            if one.missing is not None and one.uuid not in listed
        }
        names = {one.uuid: one.full_name for one in self.repositories}
        tripped = brake.loss_of(REPOSITORIES)
        lost = {one.value: one for one in brake.lost_of(REPOSITORIES) if one.value in missing}
        for uuid, first in missing.items():
            # A time that is yet to come is from a wrong clock, and accepts nothing.
            is_accepted = accepted is not None and first <= accepted.at <= self.now
            is_old = tripped is None and not self.hold and self.now - first >= ACCEPTED_AFTER
            if not (is_accepted or is_old):
                lost.setdefault(uuid, Lost(REPOSITORIES, names[uuid], uuid, first))
        return lost

    def judge_repositories(self, brake: Brake, listed: frozenset[str], others: Others) -> Brake:
        """The workspace's brake after a whole list of it; see `judge_workspace`."""
        other, there = others.of(REPOSITORIES), self._present
        lost, tripped = self._lost_repositories(brake, listed), brake.loss_of(REPOSITORIES)
        missing = len(lost) + other.lost
        if tripped is None:
            was = there + len(lost) + other.was
            if not self.rules.are_exceeded(missing, was):
                return brake
            tripped = Loss(REPOSITORIES, self.folder.slug, was, was - missing, self.now)
        elif others.is_whole and not lost and not other.is_missing:
            return brake.released(frozenset({REPOSITORIES}), by=None, now=self.now)
        loss = Loss(REPOSITORIES, tripped.name, tripped.was, max(0, tripped.was - missing), tripped.at)
        rest = tuple(one for one in brake.lost if one.what != REPOSITORIES)
        return Brake(
            brake.accepted, {**brake.counted, REPOSITORIES: there}, (*rest, *lost.values()),
            brake.losses, brake.releases,
        ).trip(loss)  # fmt: skip


def failed_to_judge(workspace: str, error: MirrorError | OSError) -> Problem:
    """The problem of a workspace whose brake could not be judged."""
    text = error.message if isinstance(error, MirrorError) else f"{error.strerror}: {error.filename}"
    code = error.exit_code if isinstance(error, MirrorError) else 1
    return Problem(code, f"{workspace}: the mass-loss brake could not be set: {text}")
