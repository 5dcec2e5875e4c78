"""Random histories upstream, a backup after each change, random retention, and `git gc` by hand in between:
every kept snapshot restores exactly.

A history is a list of numbers; each selects the next step. MIRROR_SEED selects other histories. hypothesis
shrinks one that fails (0 is an hour without changes) and prints it. MIRROR_SOAK=1 tries many more, and longer
ones.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.counts import told
from tests.crash.points import SEED, SOAK
from tests.git.backend import need_git
from tests.histories.keeper import Keeper

EXAMPLES, LENGTH = (200, 60) if SOAK else (4, 16)


def live(history: Sequence[int], folder: Path) -> Counter[str]:
    """Run a history; returns its counts."""

    async def through() -> Counter[str]:
        with Keeper(folder) as keeper:
            await keeper.backup()
            for number in history:
                await keeper.step(random.Random(number) if number else None)
            await keeper.restore_all()
            return keeper.counts

    return asyncio.run(through())


@pytest.mark.git
@pytest.mark.timeout(6 * 3600 if SOAK else 900)
def test_every_kept_state_restores_exactly() -> None:
    need_git()
    counts: Counter[str] = Counter()

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.integers(0, 2**32), min_size=LENGTH, max_size=LENGTH))
    def lived(history: list[int]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            counts.update(live(history, Path(folder).resolve()))
            counts["histories"] += 1

    lived()
    told("histories", **counts, seed=SEED)
