"""Every metric, with its labels. A label has as many values as there are workspaces, repositories, kinds of
runs or credentials."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A gauge. Times are in seconds since 1970; 0 means never."""

    name: str
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """The value of a metric for the values of its labels."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


_WORKSPACE = ("workspace",)
_REPOSITORY = ("workspace", "repository")

VERSION = Metric("mirror_info", "The version of Mirror that wrote the metrics.", ("version",))
RUN_ENDED = Metric("mirror_run_end_timestamp_seconds", "When the last run of a kind ended.", ("kind",))
RUN_SECONDS = Metric("mirror_run_duration_seconds", "How long the last run of a kind took.", ("kind",))
RUN_EXIT_CODE = Metric("mirror_run_exit_code", "The exit code of the last run of a kind.", ("kind",))
BACKUP_GOOD = Metric(
    "mirror_backup_success_timestamp_seconds", "When the last backup that ended with 0 ended."
)
WORKSPACE_COMPLETE = Metric(
    "mirror_workspace_complete_timestamp_seconds",
    "When a backup last found the workspace itself complete.",
    _WORKSPACE,
)
REPOSITORY_COMPLETE = Metric(
    "mirror_repository_complete_timestamp_seconds",
    "When a backup last found the repository complete; without those that are gone, erased or excluded.",
    _REPOSITORY,
)
REPOSITORY_FAILED_RUNS = Metric(
    "mirror_repository_failed_runs", "How many runs in a row failed for the repository.", _REPOSITORY
)
REPOSITORY_MISSING = Metric(
    "mirror_repository_missing_parts", "How many parts the last snapshot lacks.", _REPOSITORY
)
REPOSITORY_SNAPSHOTS = Metric(
    "mirror_repository_snapshots", "How many snapshots the repository has.", _REPOSITORY
)
REPOSITORY_BYTES = Metric("mirror_repository_bytes", "The size of the repository's folder.", _REPOSITORY)
LOSSES = Metric("mirror_brake_losses", "Losses that tripped the mass-loss brake and are not accepted.")
DAMAGE = Metric("mirror_store_damage", "Damaged files that reading the store's status met.")
FREE = Metric("mirror_store_free_bytes", "Free bytes on the disk of the store.")
EXPIRES = Metric(
    "mirror_credential_expiry_timestamp_seconds",
    "When a credential expires, by its place in the configuration.",
    ("credential",),
)

METRICS = (
    VERSION, RUN_ENDED, RUN_SECONDS, RUN_EXIT_CODE, BACKUP_GOOD, WORKSPACE_COMPLETE, REPOSITORY_COMPLETE,
    REPOSITORY_FAILED_RUNS, REPOSITORY_MISSING, REPOSITORY_SNAPSHOTS, REPOSITORY_BYTES, LOSSES, DAMAGE, FREE,
    EXPIRES,
)  # fmt: skip
