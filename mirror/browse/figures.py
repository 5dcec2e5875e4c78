"""The metrics of a store, from its status."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mirror import __version__
from mirror.browse.cluster import with_others
from mirror.browse.copied import CopyStatus
from mirror.browse.freshness import copies_in
from mirror.browse.lateness import counted_from
from mirror.browse.status import RepositoryStatus, Status, status
from mirror.config import Config
from mirror.config.settings import KINDS
from mirror.errors import worst
from mirror.metrics import definitions
from mirror.metrics.definitions import Metric, Sample
from mirror.model import EVERYTHING, JsonObject, Scope, time_from_text
from mirror.model.scope import covering

# The counts of the last run of a copy, by their names in its facts.
_COPY_COUNTS = {"bytes": definitions.COPY_BYTES, "requests": definitions.COPY_REQUESTS}


def figures(store: Path, config: Config | None) -> Iterator[Sample]:
    """Every sample of a store; with its configuration, if it has one, of each of its jobs and copies, and of
    credentials that expire. Raises NoStore."""
    found = status(store)
    if config is not None and config.cluster is not None:
        found = with_others(found, ())
    copies = copies_in(found, config)
    yield Sample(definitions.VERSION, 1, (__version__,))
    yield from _of_runs(found, copies, config)
    yield from _of_copies(copies)
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
    for one in config.expiries if config is not None else ():
        expires = datetime(one.expires.year, one.expires.month, one.expires.day, tzinfo=UTC)
        yield Sample(definitions.EXPIRES, expires.timestamp(), (one.key.removesuffix(".expires"),))


def _of_runs(found: Status, copies: Sequence[CopyStatus], config: Config | None) -> Iterator[Sample]:
    """The last run of each job: of each kind, and of a workspace with a schedule of its own. A run of some
    repositories only says nothing about a job."""

    def scopes(kind: str) -> Sequence[Scope]:
        return (EVERYTHING,) if config is None else config.scopes(kind)

    # One job brings all copies up to date, and each has a record of its own.
    codes = {"copy": worst(one.last["exit_code"] for one in copies if one.last is not None)}
    for kind in KINDS:
        for scope in scopes(kind):
            run = max(covering(found.jobs, kind, scope), key=_ended, default=None)
            if run is not None:
                labels = (kind, scope.only or "")
                seconds = (_ended(run) - time_from_text(run["started"])).total_seconds()
                yield Sample(definitions.RUN_ENDED, _ended(run).timestamp(), labels)
                yield Sample(definitions.RUN_SECONDS, seconds, labels)
                code = codes[kind] if kind in codes else run["exit_code"]
                yield Sample(definitions.RUN_EXIT_CODE, code, labels)
    # Of several jobs, the one that was not good for the longest time.
    good = [max(covering(found.good, "backup", scope), default=None) for scope in scopes("backup")]
    known = [one for one in good if one is not None]
    yield Sample(definitions.BACKUP_GOOD, _seconds(min(known) if len(known) == len(good) and good else None))


def _of_copies(copies: Sequence[CopyStatus]) -> Iterator[Sample]:
    """The copies that are configured, or where that is unknown, those that were made."""
    for one in copies:
        if one.is_configured is False:
            continue
        labels = (one.to,)
        yield Sample(definitions.COPY_GOOD, _seconds(one.last_good), labels)
        yield Sample(definitions.COPY_BEHIND, one.behind, labels)
        yield Sample(definitions.COPY_CHECKED, _seconds(one.checked), labels)
        if one.check is not None:
            yield Sample(definitions.COPY_FAULTS, one.check["facts"].get("faults", 0), labels)
        if one.last is not None:
            yield Sample(definitions.COPY_EXIT_CODE, one.last["exit_code"], labels)
            for name, count in one.last["facts"].items():
                if name in _COPY_COUNTS:
                    yield Sample(_COPY_COUNTS[name], count, labels)


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
