"""An archive to read: a snapshot as a site that opens from a disk, or as pages of Markdown.

Only reads the store. `documents` makes plain views of what the store holds, the templates show them, and
`writer` puts the pages into a folder. Whatever anybody wrote upstream stays text.
"""

from mirror.archive.writer import Archived, archive

__all__ = ["Archived", "archive"]
