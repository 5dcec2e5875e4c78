"""Every metric, with its labels. A label has as many values as there are workspaces, repositories, kinds of
runs, copies, shards or credentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A gauge, or a counter of what happened since the service started. Times are in seconds since 1970; 0
    means never."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


@dataclass(frozen=True)
class Sample:
    """The value of a metric for the values of its labels."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


_WORKSPACE = ("workspace",)
# The workspace is empty but for one that has a schedule of its own.
_JOB = ("kind", "workspace")
_REPOSITORY = ("workspace", "repository")
# The address, as the configuration has it.
_COPY = ("copy",)

VERSION = Metric("mirror_info", "The version of Mirror that wrote the metrics.", ("version",))
RUN_ENDED = Metric("mirror_run_end_timestamp_seconds", "When the last run of a job ended.", _JOB)
RUN_SECONDS = Metric("mirror_run_duration_seconds", "How long the last run of a job took.", _JOB)
RUN_EXIT_CODE = Metric("mirror_run_exit_code", "The exit code of the last run of a job.", _JOB)
BACKUP_GOOD = Metric(
    "mirror_backup_success_timestamp_seconds", "When the last backup of everything that ended with 0 ended."
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
REPOSITORY_COUNTED = Metric(
    "mirror_repository_counted_from_timestamp_seconds",
    "From when the age of the repository's backup counts: as complete, but in a first export when the last "
    "part of it came, and while lists lack the repository when it counts as gone at the latest.",
    _REPOSITORY,
)
WORKSPACE_COUNTED = Metric(
    "mirror_workspace_counted_from_timestamp_seconds",
    "From when the age of the workspace's backup counts: as complete, but in a first export as of the newest "
    "of its repositories.",
    _WORKSPACE,
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
COPY_GOOD = Metric(
    "mirror_copy_success_timestamp_seconds",
    "When the last run of the copy at this address that ended with 0 ended.",
    _COPY,
)
COPY_EXIT_CODE = Metric("mirror_copy_exit_code", "The exit code of the last run of the copy.", _COPY)
COPY_BEHIND = Metric(
    "mirror_copy_folders_behind",
    "How many repositories and workspaces the copy lacks, or has only as they were earlier.",
    _COPY,
)
COPY_CHECKED = Metric(
    "mirror_copy_check_timestamp_seconds", "When a check of the copy that is recorded here last ended.", _COPY
)
COPY_FAULTS = Metric("mirror_copy_check_faults", "How many faults the last check of the copy found.", _COPY)
COPY_BYTES = Metric("mirror_copy_sent_bytes", "How many bytes the last run of the copy sent.", _COPY)
COPY_REQUESTS = Metric("mirror_copy_requests", "How many requests the last run of the copy made.", _COPY)
LOSSES = Metric("mirror_brake_losses", "Losses that tripped the mass-loss brake and are not accepted.")
DAMAGE = Metric("mirror_store_damage", "Damaged files that reading the store's status met.")
FREE = Metric("mirror_store_free_bytes", "Free bytes on the disk of the store.")
EXPIRES = Metric(
    "mirror_credential_expiry_timestamp_seconds",
    "When a credential expires, by its place in the configuration.",
    ("credential",),
)

# What reading the store tells.
STORE_METRICS = (
    VERSION, RUN_ENDED, RUN_SECONDS, RUN_EXIT_CODE, BACKUP_GOOD, WORKSPACE_COMPLETE, REPOSITORY_COMPLETE,
    WORKSPACE_COUNTED, REPOSITORY_COUNTED, REPOSITORY_FAILED_RUNS, REPOSITORY_MISSING, REPOSITORY_SNAPSHOTS,
    REPOSITORY_BYTES, COPY_GOOD, COPY_EXIT_CODE, COPY_BEHIND, COPY_CHECKED, COPY_FAULTS, COPY_BYTES,
    COPY_REQUESTS, LOSSES, DAMAGE, FREE, EXPIRES,
)  # fmt: skip

# The workspace is empty for a job of all that have no schedule of their own.
_JOB = ("kind", "workspace")
_BUDGET = ("credential", "group")

READY = Metric("mirror_ready", "1 where the service is ready, else 0.")
JOB_RUNNING = Metric("mirror_job_running", "1 while a job runs.", _JOB)
JOB_NEXT = Metric("mirror_job_next_timestamp_seconds", "When a job of the schedule runs next.", _JOB)
JOB_OVERDUE = Metric(
    "mirror_job_overdue", "1 where no job has ended for two intervals of its schedule, else 0.", _JOB
)
REQUESTS_USED = Metric(
    "mirror_requests_used", "The requests of the last hour, by credential and group of resources.", _BUDGET
)
REQUESTS_LIMIT = Metric(
    "mirror_requests_limit", "The requests that Bitbucket allows in an hour, as far as known.", _BUDGET
)
HOOKS_RECEIVED = Metric("mirror_hooks_received_total", "True webhooks that arrived.", kind="counter")
HOOKS_REFUSED = Metric(
    "mirror_hooks_refused_total", "Requests to the webhooks' door that were refused.", kind="counter"
)
HOOKS_ANNOUNCED = Metric(
    "mirror_hooks_announced_total", "Webhooks that announced a repository of the store.", kind="counter"
)
HOOK_LAST = Metric("mirror_hook_last_timestamp_seconds", "When the last true webhook arrived.")
HOOKS_TRUSTED = Metric(
    "mirror_hooks_trusted", "1 where webhooks announced every change in the last whole backups, else 0."
)
UNANNOUNCED = Metric(
    "mirror_unannounced_changes_total", "Changes that backups found and no webhook announced.", kind="counter"
)

# Every host of a cluster tells the same of it: take the maximum, and no sum.
_SHARD = ("shard",)
CLUSTER_KNOWN = Metric(
    "mirror_cluster_known", "1 where the cluster's database could be asked, else 0: then the rest is missing."
)
SHARD_SEEN = Metric(
    "mirror_shard_seen_timestamp_seconds", "When a shard of the cluster last reported.", _SHARD
)
SHARD_REPOSITORIES = Metric(
    "mirror_shard_repositories", "How many repositories belong to a shard of the cluster.", _SHARD
)
SHARD_WAITING = Metric("mirror_shard_jobs_waiting", "How many jobs wait for a shard of the cluster.", _SHARD)
DISCOVERED = Metric(
    "mirror_cluster_discovery_timestamp_seconds", "When a host of the cluster last listed what there is."
)

# What the page of a host of a cluster tells.
CLUSTER_METRICS = (CLUSTER_KNOWN, SHARD_SEEN, SHARD_REPOSITORIES, SHARD_WAITING, DISCOVERED)

# What a running service tells.
LIVE_METRICS = (
    READY, JOB_RUNNING, JOB_NEXT, JOB_OVERDUE, REQUESTS_USED, REQUESTS_LIMIT, HOOKS_RECEIVED, HOOKS_REFUSED,
    HOOKS_ANNOUNCED, HOOK_LAST, HOOKS_TRUSTED, UNANNOUNCED,
)  # fmt: skip

METRICS = (*STORE_METRICS, *CLUSTER_METRICS, *LIVE_METRICS)
