"""Browsing a store: its status, snapshots, single documents, differences, and exports. Only reads the
store."""

from mirror.browse.attention import Concern, Urgency, concerns, freshness, verdict, well
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
    "Change", "Concern", "Difference", "Exported", "Kept", "RepositoryStatus", "Shown", "Status", "Urgency",
    "concerns", "diff", "export", "freshness", "kept", "late", "out_of_reach", "show", "show_file",
    "snapshots", "stale", "status", "summed", "verdict", "well",
]  # fmt: skip
