"""Workers share their places fairly."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mirror.git.mirrors.fetch import FetchJob
from mirror.git.pack.limits import DEFAULT_LIMITS, MEMORY, PackLimits
from mirror.git.workers.pool import WorkerPool
from tests.git.backend import GitBackend, git, need_git

pytestmark = [pytest.mark.git, pytest.mark.usefixtures("started_workers")]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    need_git()
    root = tmp_path / "root"
    git("init", "-q", "--bare", "-b", "main", str(root / "up.git"))
    tree = git("mktree", cwd=root / "up.git", stdin=b"").strip()
    commit = git("commit-tree", "-m", "one", tree, cwd=root / "up.git").strip()
    git("update-ref", "refs/heads/main", commit, cwd=root / "up.git")
    return root


async def test_giants_do_not_hold_up_dwarfs(repository: Path, tmp_path: Path) -> None:
    """Transfers that stand still take every place; the others get their turn all the same."""
    with GitBackend(repository) as slow, GitBackend(repository) as quick:
        slow.stall = 100
        async with WorkerPool(2, environment=os.environ, long_after=0.2) as pool:
            giants = [
                asyncio.create_task(
                    pool.run(
                        FetchJob(str(tmp_path / f"giant-{n}.git"), f"{slow.url}/up.git", silence_timeout=60)
                    )
                )
                for n in range(3)
            ]
            await asyncio.sleep(0.05)
            dwarfs = [
                pool.run(FetchJob(str(tmp_path / f"dwarf-{n}.git"), f"{quick.url}/up.git")) for n in range(6)
            ]
            done = await asyncio.gather(*dwarfs)
            assert [one.received_objects for one in done] == [2] * 6
            assert not any(giant.done() for giant in giants[:2])
            for giant in giants:
                giant.cancel()
            await asyncio.gather(*giants, return_exceptions=True)


def test_memory_bounds_what_is_held() -> None:
    """With less memory, more goes through files, in every place that buffers."""

    def bounds(limits: PackLimits) -> list[int]:
        return [limits.cache_bytes, limits.spill_bytes, limits.column_bytes, limits.names_per_pass]

    assert PackLimits.for_memory(MEMORY) == DEFAULT_LIMITS
    assert bounds(PackLimits.for_memory(MEMORY // 4)) == [one // 4 for one in bounds(DEFAULT_LIMITS)]
