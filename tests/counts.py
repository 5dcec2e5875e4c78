"""How much was tried: told at the end of a test run, and kept where MIRROR_COUNTS names a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

COUNTS = "MIRROR_COUNTS"


def told(suite: str, **numbers: int) -> None:
    """Tell how much a suite has tried."""
    row = json.dumps({"suite": suite, **numbers})
    print(row)
    if path := os.environ.get(COUNTS):
        with Path(path).open("a") as stream:
            stream.write(row + "\n")
