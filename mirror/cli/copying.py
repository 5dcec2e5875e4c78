"""The options of `mirror copy`."""

from __future__ import annotations

import argparse
from typing import Protocol

from mirror.cli import arguments

LOCK_WAIT_SECONDS = 600.0


class Commands(Protocol):
    """Adds commands to the parser."""

    def add(self, name: str, text: str, *examples: str) -> argparse.ArgumentParser:
        """A command; `text` begins its help."""
        ...


def add_copy(commands: Commands) -> None:
    """Declare the command."""
    copy = commands.add(
        "copy",
        "bring the copies of the store in object storage up to date",
        "copy --dry-run",
        "copy",
        "copy --to s3://acme-backup/mirror",
    )
    copy.add_argument(
        "--to", metavar="ADDRESS", type=arguments.store,
        help="s3://bucket/prefix, gs:// or az://: this copy alone; where it is not configured, with what"
        " AWS_ACCESS_KEY_ID and its like say (default: every copy of the configuration)",
    )  # fmt: skip
    copy.add_argument(
        "--dry-run", action="store_true", help="print what would be sent, and how many bytes; send nothing"
    )
    copy.add_argument(
        "--lock-wait", metavar="TIME", type=arguments.seconds, default=LOCK_WAIT_SECONDS,
        help="how long to wait for a folder's lock (10m)",
    )  # fmt: skip
    copy.set_defaults(selectors=())
