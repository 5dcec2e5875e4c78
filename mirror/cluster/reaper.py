"""Jobs that nobody does any more: those of a host that died, or was stopped.

procrastinate's recipe tries each again, and ends at the first whose lock another waits with: that one is
refused, and the rest stay as they are for ever. Here each is judged by itself, and one whose sibling waits
is ended: the sibling does its work."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from procrastinate.manager import JobManager
from psycopg import errors

from mirror.cluster.database import Connection, Database
from mirror.cluster.jobs import BACKUP
from mirror.cluster.shards import SILENCE_SECONDS
from mirror.logs import get_logger

# Workers that were silent for so many seconds are forgotten.
FORGET_SECONDS = 86400.0

_log = get_logger("cluster")


async def reap(database: Database, manager: JobManager) -> int:
    """Put back the jobs of every worker that has been silent for too long; returns how many there were."""
    found = await manager.get_stalled_jobs(seconds_since_heartbeat=SILENCE_SECONDS)
    stalled = [job.id for job in found if job.id is not None]
    await put_back(database, stalled)
    await manager.prune_stalled_workers(FORGET_SECONDS)
    return len(stalled)


async def reap_own(database: Database, queue: str, running: Collection[int], workers: Collection[int]) -> int:
    """Put back the jobs of a queue that is this process's alone, and of workers that it was before, which it
    does not do (`running` are those that it does): an earlier process was killed, or an answer of the
    database was lost. Returns how many there were."""
    async with database.session() as connection:
        rows = await connection.execute(
            "SELECT id FROM procrastinate_jobs WHERE status = 'doing' AND NOT id = ANY (%s)"
            " AND (queue_name = %s OR worker_id = ANY (%s))",
            [list(running), queue, list(workers)],
        )
        found = [row[0] for row in await rows.fetchall()]
    await put_back(database, found)
    return len(found)


async def put_back(database: Database, jobs: Iterable[int]) -> None:
    """Have these jobs done again, in the queue where they are. Where a sibling waits, the job ends, and the
    sibling does all that both were to do."""
    for job in jobs:
        async with database.transaction() as connection:
            rows = await connection.execute(
                "SELECT task_name, queue_name FROM procrastinate_jobs WHERE id = %s AND status = 'doing'"
                " FOR UPDATE",
                [job],
            )
            found = await rows.fetchone()
            if found is None:
                continue  # done meanwhile, or somebody else was faster
            is_back = await _try_again(connection, job)
            if not is_back:
                await _end(connection, job, found[0])
        _log.info("cluster.job_put_back", job=job, task=found[0], queue=found[1], joined=not is_back)


async def _try_again(connection: Connection, job: int) -> bool:
    try:
        async with connection.transaction():
            # By the database's clock, and at once.
            await connection.execute("SELECT procrastinate_retry_job_v2(%s, now(), NULL, NULL, NULL)", [job])
    except errors.UniqueViolation:
        return False
    return True


async def _end(connection: Connection, job: int, task: str) -> None:
    if task == BACKUP:
        await connection.execute(
            "UPDATE procrastinate_jobs AS s SET args = s.args || jsonb_build_object("
            "'git_only', (s.args->>'git_only')::boolean AND (j.args->>'git_only')::boolean,"
            "'is_news', (s.args->>'is_news')::boolean OR (j.args->>'is_news')::boolean)"
            " FROM procrastinate_jobs AS j"
            " WHERE j.id = %s AND s.queueing_lock = j.queueing_lock AND s.status = 'todo'",
            [job],
        )
    await connection.execute("SELECT procrastinate_finish_job_v1(%s, 'aborted', true)", [job])
