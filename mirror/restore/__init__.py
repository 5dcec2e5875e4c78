"""Restoring from a store to a folder, or to a git server.

Reads only the store, so any copy of it works. Overwrites nothing without `--overwrite`, and reads back what
it restored.
"""

from mirror.restore.report import Item, Report
from mirror.restore.restore import CODE, PARTS, run

__all__ = ["CODE", "PARTS", "Item", "Report", "run"]
