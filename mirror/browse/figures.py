"""The metrics of a store, from its status."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mirror import __version__
from mirror.browse.lateness import counted_from
from mirror.browse.status import RepositoryStatus, Status, status
from mirror.config import Config, Expiry
from mirror.config.settings import KINDS
from mirror.metrics import definitions
from mirror.metrics.definitions import Metric, Sample
from mirror.model import EVERYTHING, JsonObject, Scope, time_from_text
from mirror.model.scope import covering

Scopes = Callable[[str], Sequence[Scope]]


def figures(config: Config) -> Iterator[Sample]:
    """Every sample of the configured store. Raises NoStore."""
    return figures_of(config.store, config.expiries, config.scopes)


def figures_of(
    store: Path, expiries: Sequence[Expiry] = (), scopes: Scopes = lambda _: (EVERYTHING,)
) -> Iterator[Sample]:
    """Every sample of a store, and of credentials that expire; `scopes` are those of the jobs of a kind.
    Raises NoStore."""
    found = status(store)
    yield Sample(definitions.VERSION, 1, (__version__,))
    yield from _of_runs(found, scopes)
    counted = counted_from(found)
    for workspace in found.workspaces:
        complete = _seconds(workspace.last_confirmed)
        yield Sample(definitions.WORKSPACE_COMPLETE, complete, (workspace.name,))
        yield Sample(definitions.WORKSPACE_COUNTED, _seconds(counted[workspace.name]), (workspace.name,))
    # Where a repository that is gone and a new one share a name, the new one comes last and counts.
    for repository in sorted(found.repositories, key=lambda one: not one.is_settled):
        yield from _of_repository(repository, counted)
    yield Sample(definitions.LOSSES, len(found.losses))
    yield Sample(definitions.DAMAGE, len(found.damage))
    yield Sample(definitions.FREE, shutil.disk_usage(store).free)
    for one in expiries:
        expires = datetime(one.expires.year, one.expires.month, one.expires.day, tzinfo=UTC)
        yield Sample(definitions.EXPIRES, expires.timestamp(), (one.key.removesuffix(".expires"),))


def _of_runs(found: Status, scopes: Scopes) -> Iterator[Sample]:
    """The last run of each job: of each kind, and of a workspace with a schedule of its own. A run of some
    repositories only says nothing about a job."""
    for kind in KINDS:
        for scope in scopes(kind):
            run = max(covering(found.jobs, kind, scope), key=_ended, default=None)
            if run is not None:
                labels = (kind, scope.only or "")
                seconds = (_ended(run) - time_from_text(run["started"])).total_seconds()
                yield Sample(definitions.RUN_ENDED, _ended(run).timestamp(), labels)
                yield Sample(definitions.RUN_SECONDS, seconds, labels)
                yield Sample(definitions.RUN_EXIT_CODE, run["exit_code"], labels)
    # Of several jobs, the one that was not good for the longest time.
    good = [max(covering(found.good, "backup", scope), default=None) for scope in scopes("backup")]
    known = [one for one in good if one is not None]
    yield Sample(definitions.BACKUP_GOOD, _seconds(min(known) if len(known) == len(good) and good else None))


def _ended(run: JsonObject) -> datetime:
    return time_from_text(run["ended"])


def _of_repository(one: RepositoryStatus, counted: Mapping[str, datetime | None]) -> Iterator[Sample]:
    workspace, _, slug = one.name.partition("/")
    numbers: dict[Metric, float] = {
        definitions.REPOSITORY_FAILED_RUNS: one.failing.runs if one.failing is not None else 0,
        definitions.REPOSITORY_MISSING: len(one.missing),
        definitions.REPOSITORY_SNAPSHOTS: one.snapshots,
        definitions.REPOSITORY_BYTES: one.bytes,
    }
    if not one.is_settled:
        numbers[definitions.REPOSITORY_COMPLETE] = _seconds(one.last_confirmed)
        numbers[definitions.REPOSITORY_COUNTED] = _seconds(counted[one.name])
    for metric, value in numbers.items():
        yield Sample(metric, value, (workspace, slug))


def _seconds(time: datetime | None) -> float:
    return 0.0 if time is None else time.timestamp()
