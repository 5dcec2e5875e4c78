"""Browsing a store: its status, snapshots, single documents, differences, and exports. Only reads the
store."""

from mirror.browse.attention import (
    Concern,
    Shared,
    Urgency,
    concerns,
    shared,
    verdict,
    well,
    when_confirmed,
)
from mirror.browse.copied import CopyStatus
from mirror.browse.documents import (
    Change,
    Difference,
    Kept,
    Shown,
    diff,
    kept,
    show,
    show_file,
    snapshots,
)
from mirror.browse.export import Exported, export
from mirror.browse.lateness import late, stale
from mirror.browse.status import RepositoryStatus, Status, out_of_reach, status, summed

__all__ = [
    "Change", "Concern", "CopyStatus", "Difference", "Exported", "Kept", "RepositoryStatus", "Shared",
    "Shown", "Status", "Urgency", "concerns", "diff", "export", "kept", "late", "out_of_reach", "shared",
    "show", "show_file", "snapshots", "stale", "status", "summed", "verdict", "well", "when_confirmed",
]  # fmt: skip
