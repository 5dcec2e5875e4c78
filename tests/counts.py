"""How much the suites tried: printed at the end of a test run, and appended to the file that MIRROR_COUNTS
names."""

from __future__ import annotations

import json
import os
from pathlib import Path

COUNTS = "MIRROR_COUNTS"


def told(suite: str, **numbers: int) -> None:
    """Record how much a suite tried."""
    row = json.dumps({"suite": suite, **numbers})
    print(row)
    if path := os.environ.get(COUNTS):
        with Path(path).open("a") as stream:
            stream.write(row + "\n")
