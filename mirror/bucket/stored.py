"""What stands in a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Stored:
    """One object, or one version of it. `is_deleted`: a delete marker, which has no content."""

    key: str
    size: int
    modified: datetime
    version: str | None = None
    is_latest: bool = True
    is_deleted: bool = False
