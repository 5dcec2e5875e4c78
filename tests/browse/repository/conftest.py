"""An empty folder for a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extract.made import Made
from tests.git.backend import need_git
from tests.store.helpers import MovedClock


@pytest.fixture
def made(tmp_path: Path) -> Made:
    need_git()
    return Made(tmp_path / "store", MovedClock())
