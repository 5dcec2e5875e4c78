"""Upkeep of mirrors after a fetch: few packs, quick readers. See mirror.git.mirrors.maintenance.

Nothing depends on it: what fails is told, fails no run, and is tried again by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from mirror.errors import MirrorError
from mirror.git.mirrors.maintenance import MaintenanceJob, is_due
from mirror.git.workers.pool import WorkerPool
from mirror.logs import get_logger
from mirror.model import Clock, JsonObject, Progress

_log = get_logger("backup")
# How long it may take for one mirror; what is not done by then is done another time.
SECONDS_MAX = 600


async def keep_up(
    mirrors: Mapping[str, Path],
    *,
    repository: str,
    lock: int,
    workers: WorkerPool,
    clock: Clock,
    progress: Progress,
) -> JsonObject:
    """Do what is due for `mirrors` of a `repository` whose `lock` is held; returns what came of it, for
    the run's record. Never raises for what disk and packs do."""
    found: JsonObject = {}
    for name, path in mirrors.items():
        facts: JsonObject = {}
        try:
            job = MaintenanceJob(str(path), clock.now().timestamp())
            if not is_due(job, with_git=workers.has_git):
                continue
            async with asyncio.timeout(SECONDS_MAX):
                result = await workers.run(
                    job, lock_fd=lock, progress=lambda text: progress.report(repository, f"upkeep: {text}")
                )
            facts = {"joined": result.merged, "removed": result.removed, "graph": result.graph}
        except TimeoutError:
            facts = {"problem": f"it took longer than {SECONDS_MAX} s and was stopped"}
        except MirrorError as error:
            facts = {"problem": error.message}
        except OSError as error:
            facts = {"problem": f"{error.strerror or type(error).__name__}: {error.filename or path}"}
        found[name] = facts
        if "problem" in facts:
            _log.warning("backup.upkeep_failed", repository=repository, mirror=name, reason=facts["problem"])
        else:
            _log.info("backup.upkeep_done", repository=repository, mirror=name, **facts)
    return {"upkeep": found} if found else {}
