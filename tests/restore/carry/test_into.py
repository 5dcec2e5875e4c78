"""A workspace is restored into an empty one: everything once, nothing twice, and what exists stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.restore.carry.report import Outcome, Report
from mirror.store.reading.reader import Store
from tests.restore.carry.target import Upstream, upstream


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Upstream]:
    with upstream(tmp_path) as found:
        yield found


async def test_a_workspace_comes_back(target: Upstream, stored: Store) -> None:
    report = await target.restore(stored.path)
    assert isinstance(report, Report)

    assert report.exit_code == 0
    made = [one for one in report.entries if one.outcome is Outcome.MADE]
    assert report.requests <= 1.2 * len(made)
