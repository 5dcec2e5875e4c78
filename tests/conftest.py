"""At the end of a run it is told how much was tried to break the store's promise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.counts import COUNTS


def pytest_configure(config: pytest.Config) -> None:
    """All processes of a run tell into one file."""
    if not hasattr(config, "workerinput") and COUNTS not in os.environ:
        descriptor, os.environ[COUNTS] = tempfile.mkstemp(prefix="mirror-counts-")
        os.close(descriptor)
        config.add_cleanup(lambda: Path(os.environ.pop(COUNTS)).unlink(missing_ok=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The counts of this run."""
    path = Path(os.environ[COUNTS])
    rows = path.read_text().splitlines() if path.exists() else []
    if rows:
        terminalreporter.section("what was tried")
        for row in sorted(rows):
            terminalreporter.line(row)
