"""The options of `mirror copy`."""

from __future__ import annotations

from pathlib import Path

import shtab

from mirror.cli import arguments
from mirror.cli.arguments import Commands

LOCK_WAIT_SECONDS = 600.0


def add_copy(commands: Commands) -> None:
    """Declare the command."""
    copy = commands.add(
        "copy",
        "bring the copies of the store in object storage up to date",
        "copy --dry-run",
        "copy",
        "copy --to s3://acme-backup/mirror",
        "copy --check --read",
        "copy --from s3://acme-backup/mirror --to ./store --identity key.txt",
        "copy --prune --credentials prune.yaml --dry-run",
    )
    copy.add_argument(
        "--to", metavar="ADDRESS|DIR", type=arguments.store,
        help="s3://bucket/prefix, gs:// or az://: this copy alone; where it is not configured, with what"
        " AWS_ACCESS_KEY_ID and its like say (default: every copy of the configuration);"
        " with --from: the folder of the new store",
    )  # fmt: skip
    copy.add_argument(
        "--plain", action="store_true",
        help="with --to: send to an address that is not configured, though others are, without encryption",
    )  # fmt: skip
    what = copy.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true",
        help="send nothing: compare what stands there with the manifests, and with the store if it is here",
    )  # fmt: skip
    what.add_argument(
        "--from", metavar="ADDRESS", dest="source", type=arguments.store,
        help="make the store again from this copy, in the empty folder that --to names",
    )  # fmt: skip
    what.add_argument("--prune", action="store_true", help="delete from the copy what no kept manifest needs")
    copy.add_argument(
        "--read", action="store_true", help="with --check: download and hash everything, not only sizes"
    )
    credentials = copy.add_argument(
        "--credentials", metavar="FILE", type=Path,
        help="with --prune: YAML with the sources of access_key_id and secret_access_key of who may delete",
    )  # fmt: skip
    credentials.complete = shtab.FILE  # type: ignore[attr-defined]
    copy.add_argument(
        "--keep", metavar="TIME", type=arguments.seconds, default=0.0,
        help="with --prune: keep manifests of this time (30d; at least 7d), and what they name",
    )  # fmt: skip
    copy.add_argument("-y", "--yes", action="store_true", help="with --prune: do not ask")
    copy.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be sent or deleted, and how many bytes; change nothing",
    )
    copy.add_argument(
        "--lock-wait", metavar="TIME", type=arguments.seconds, default=LOCK_WAIT_SECONDS,
        help="how long to wait for a folder's lock (10m)",
    )  # fmt: skip
    copy.set_defaults(selectors=())
