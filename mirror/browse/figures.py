"""The metrics of a store, from its status."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mirror import __version__
from mirror.browse.lateness import counted_from
from mirror.browse.status import RepositoryStatus, Status, status
from mirror.config import Config, Expiry
from mirror.metrics import definitions
from mirror.metrics.definitions import Metric, Sample
from mirror.model import JsonObject, time_from_text


def figures(config: Config) -> Iterator[Sample]:
    """Every sample of the configured store. Raises NoStore."""
    return figures_of(config.store, config.expiries)


def figures_of(store: Path, expiries: Sequence[Expiry] = ()) -> Iterator[Sample]:
    """Every sample of a store, and those of credentials that expire. Raises NoStore."""
    found = status(store)
    yield Sample(definitions.VERSION, 1, (__version__,))
    yield from _of_runs(found)
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


def _of_runs(found: Status) -> Iterator[Sample]:
    runs: dict[str, JsonObject | None] = {
        "backup": found.last_backup, "verify": found.last_verify, "prune": found.last_prune,
        "drill": found.last_drill,
    }  # fmt: skip
    for kind, run in runs.items():
        if run is not None:
            started, ended = time_from_text(run["started"]), time_from_text(run["ended"])
            yield Sample(definitions.RUN_ENDED, ended.timestamp(), (kind,))
            yield Sample(definitions.RUN_SECONDS, (ended - started).total_seconds(), (kind,))
            yield Sample(definitions.RUN_EXIT_CODE, run["exit_code"], (kind,))
    yield Sample(definitions.BACKUP_GOOD, _seconds(found.last_good_backup))


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
