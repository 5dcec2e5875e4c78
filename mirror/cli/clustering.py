"""The options of `mirror cluster`."""

from __future__ import annotations

from pathlib import Path

from mirror.cli.arguments import Commands


def add_cluster(commands: Commands) -> None:
    """Declare the command and its actions."""
    cluster = commands.add(
        "cluster",
        "share the work among several hosts: see its state, move repositories",
        "cluster init",
        "cluster status",
        "cluster move acme/website --to backup-2",
        "cluster move --from backup-1   # its host is dead",
        "cluster adopt /mnt/rescued/website~1a2b3c4d",
    )
    actions = cluster.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = [commands.common]
    actions.add_parser(
        "init",
        parents=common,
        help="make the schema in the database, or bring it up to date, and register this host's shard",
    )
    actions.add_parser(
        "status",
        parents=common,
        help="the shards, their work, the budget, and what stands in the way",
    )
    move = actions.add_parser(
        "move",
        parents=common,
        help="carry repositories to another shard, through the copy of the one that has them",
    )
    move.add_argument(
        "selector", metavar="SELECTOR", nargs="?", help="which: workspace or workspace/repository"
    )
    move.add_argument("--to", metavar="SHARD", help="where to (with --from: default, those with the fewest)")
    move.add_argument(
        "--from", metavar="SHARD", dest="source",
        help="the host of this shard is dead for good: everything that it had, as its copy has it",
    )  # fmt: skip
    move.add_argument(
        "--afresh", action="store_true",
        help="with --from: what no copy has is mirrored anew, without its old snapshots",
    )  # fmt: skip
    move.add_argument("--no-wait", action="store_true", help="do not wait until it has moved")
    move.add_argument("-y", "--yes", action="store_true", help="do not ask")
    adopt = actions.add_parser(
        "adopt",
        parents=common,
        help="take the folder of a repository, which you brought here, into this shard's store",
    )
    adopt.add_argument(
        "folder", metavar="FOLDER", type=Path, help="workspaces/…/repositories/NAME of a store"
    )
