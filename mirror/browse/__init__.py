"""Browsing a store: its status, snapshots, single documents, differences, and exports. Only reads the
store."""

from mirror.browse.documents import Change, Difference, Shown, diff, show, show_file, snapshots
from mirror.browse.export import Exported, export
from mirror.browse.status import RepositoryStatus, Status, out_of_reach, stale, status, summed

__all__ = [
    "Change", "Difference", "Exported", "RepositoryStatus", "Shown", "Status", "diff", "export",
    "out_of_reach", "show", "show_file", "snapshots", "stale", "status", "summed",
]  # fmt: skip
