"""Bringing it back: from the store to a folder, or to another git server.

Reads the store alone, so that any copy of it will do. Nothing is overwritten unless asked, and
what is restored is read again before it is called restored.
"""

from mirror.restore.restore import CODE, PARTS, Item, Report, run

__all__ = ["CODE", "PARTS", "Item", "Report", "run"]
