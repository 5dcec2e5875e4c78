"""The cluster's jobs as procrastinate keeps them: their queues, locks and order.

`lock` is the same as `queueing_lock` for each: one runs and one waits. procrastinate reckons delays by the
host's clock; here the database's counts, so times are made there."""

from __future__ import annotations

from typing import Any

from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

from mirror.cluster.database import Connection

# No shard can have this name. A shard's queue is called as the shard: a longer name would not fit into that
# of the channel on which procrastinate tells of new jobs.
DISCOVER_QUEUE = "_discover"
BACKUP, PART, DISCOVER = "backup", "part", "discover"
# Hooks go first.
HOOK_PRIORITY = 10


def backup_lock(uuid: str) -> str:
    """What may run once, and wait once: the backup of a repository."""
    return f"backup {uuid}"


def part_lock(shard: str, job: str) -> str:
    """The same of a shard's part of a job of the schedule."""
    return f"part {shard} {job}"


def discover_lock(job: str) -> str:
    """The same of the discovery for a job of the schedule."""
    return f"discover {job}"


async def defer(
    manager: JobManager,
    connection: Connection,
    *,
    queue: str,
    task: str,
    lock: str,
    arguments: dict[str, Any],
    after: float = 0.0,
    priority: int = 0,
) -> bool:
    """Have a job done in `after` seconds, within the caller's transaction. Returns False where one waits
    already, whose time moves forward where this is sooner; its arguments stay."""
    rows = await connection.execute("SELECT now() + make_interval(secs => %s)", [after])
    row = await rows.fetchone()
    assert row is not None
    job = Job(
        queue=queue, task_name=task, lock=lock, queueing_lock=lock, priority=priority, task_kwargs=arguments,
        scheduled_at=row[0] if after > 0 else None,
    )  # fmt: skip
    try:
        await manager.defer_job_async(job, connection=connection)
    except AlreadyEnqueued:
        await connection.execute(
            "UPDATE procrastinate_jobs SET scheduled_at = %s"
            " WHERE queueing_lock = %s AND status = 'todo' AND scheduled_at > %s",
            [row[0], lock, row[0]],
        )
        return False
    return True
