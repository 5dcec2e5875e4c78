"""Maintenance of mirrors after a fetch: few packs, fast readers. See mirror.git.mirrors.maintenance.

Nothing depends on it: a failure is logged, fails no run, and the next run tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from mirror.backup.context import WorkspaceContext
from mirror.errors import MirrorError
from mirror.git.mirrors.maintenance import MaintenanceJob, is_due
from mirror.logs import get_logger
from mirror.model import JsonObject

_log = get_logger("backup")
# How long the maintenance of one mirror may take; the rest is done another time.
SECONDS_MAX = 600


async def run_maintenance(
    workspace: WorkspaceContext, mirrors: Mapping[str, Path], *, name: str, lock: int
) -> JsonObject:
    """Do what is due for the `mirrors` of a folder whose `lock` is held; returns facts for the run record.

    `name` is the repository or workspace. Never raises for what disk and packs do.
    """
    found: JsonObject = {}
    for mirror, path in mirrors.items():
        facts: JsonObject = {}
        try:
            job = MaintenanceJob(str(path), workspace.clock.now().timestamp(), workspace.maintenance_limits)
            if not is_due(job, with_git=workspace.workers.has_git):
                continue
            async with asyncio.timeout(SECONDS_MAX):
                result = await workspace.workers.run(
                    job, lock_fd=lock, progress=workspace.report_progress(name, "maintenance")
                )
            facts = {"joined": result.merged, "removed": result.removed, "graph": result.graph}
        except TimeoutError:
            facts = {"problem": f"it took longer than {SECONDS_MAX} s and was stopped"}
        except MirrorError as error:
            facts = {"problem": error.message}
        except OSError as error:
            facts = {"problem": f"{error.strerror or type(error).__name__}: {error.filename or path}"}
        found[mirror] = facts
        if "problem" in facts:
            _log.warning("backup.upkeep_failed", repository=name, mirror=mirror, reason=facts["problem"])
        else:
            _log.info("backup.upkeep_done", repository=name, mirror=mirror, **facts)
    return {"upkeep": found} if found else {}
