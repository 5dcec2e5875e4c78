"""The command line: every command, its options, and what its exit codes mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import shtab

from mirror import __version__
from mirror.cli import arguments, clustering, copying, serving, shells
from mirror.cli.shells import offered
from mirror.errors import UsageError

EXIT_STATUS = """\
exit status:
  0    done
  1    failed
  2    usage or configuration
  3    incomplete: what was available is stored, the rest is listed
  4    damage was found
  5    the mass-loss brake is tripped
  10   no store there
  11   locked by another process
  12   a credential was refused
  75   try again later (rate limit, network)
  130  stopped
"""
SELECTOR = (
    "workspace, workspace/repository, or a glob of either (quoted); where two share a name, the folder name"
)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of examples."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise UsageError where argparse would exit, so that it is reported like every other error."""
        self.print_usage(sys.stderr)
        raise UsageError(message, hint=f"see {self.prog} --help")


def _selectors(parser: argparse.ArgumentParser, number: str) -> None:
    if number == "1":
        found = parser.add_argument("selector", metavar="SELECTOR", help=SELECTOR)
    else:
        text = SELECTOR + " (default: all)"
        found = parser.add_argument("selectors", metavar="SELECTOR", nargs="*", help=text)
    offered(found, "selectors")


def _lock_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lock-wait",
        metavar="TIME",
        type=arguments.seconds,
        default=0.0,
        help="how long to wait for a lock (10m)",
    )


def _globals() -> argparse.ArgumentParser:
    """Options that may be given before or after the command."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("global options")
    config = group.add_argument(
        "-c", "--config", metavar="FILE", type=Path,
        help="configuration (default: $MIRROR_CONFIG, ./config.yaml, /etc/mirror/config.yaml)",
    )  # fmt: skip
    store = group.add_argument(
        "--store", metavar="DIR", type=arguments.store,
        help="the store, instead of the configured one; to read, also a copy: s3://bucket/prefix",
    )  # fmt: skip
    identity = group.add_argument(
        "--identity", metavar="FILE", type=Path, action="append",
        help="to read an encrypted copy: a file with the private key (age, OpenSSH); may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--as-of", metavar="TIME", type=arguments.time,
        help="to read a copy: believe nothing that the bucket took later (2026-11-01T12:00Z)",
    )  # fmt: skip
    group.add_argument("--json", action="store_true", help="print one JSON document")
    group.add_argument("-q", "--quiet", action="store_true", help="log only warnings, show no progress")
    group.add_argument("-v", "--verbose", action="store_true", help="log more")
    group.add_argument(
        "--log-format", choices=("auto", "console", "json"), help="the format of logs on stderr"
    )
    config.complete = identity.complete = shtab.FILE  # type: ignore[attr-defined]
    store.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return parser


class _Commands:
    """Adds commands, each with the global options and its examples."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._sub = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
        self.common = _globals()

    def add(self, name: str, text: str, *examples: str) -> argparse.ArgumentParser:
        """A command; `text` begins its help."""
        lines = "".join(f"  mirror {example}\n" for example in examples)
        return self._sub.add_parser(
            name,
            help=text,
            description=text[:1].upper() + text[1:] + ".",
            epilog=("examples:\n" + lines + "\n" if lines else "") + EXIT_STATUS,
            formatter_class=_Formatter,
            parents=[self.common],
        )


def build() -> argparse.ArgumentParser:
    """The whole parser."""
    parser = _Parser(
        prog="mirror",
        description="Backs up and restores a whole Bitbucket Cloud workspace.",
        epilog=EXIT_STATUS,
        formatter_class=_Formatter,
        parents=[_globals()],
    )
    parser.add_argument("--version", action="version", version=f"mirror {__version__}")
    commands = _Commands(parser)
    commands.add("init", "create a store, once, before the first backup", "init", "init --store ./backup")
    _add_backup(commands)
    _add_reading(commands)
    _add_restore(commands)
    _add_removal(commands)
    copying.add_copy(commands)
    clustering.add_cluster(commands)
    serving.add_service(commands)
    return parser


def _add_backup(commands: _Commands) -> None:
    backup = commands.add(
        "backup",
        "back up everything that is configured, once",
        "backup",
        "backup acme/website",
        "backup --dry-run",
        "backup --workspace acme --store ./backup --init   # with BITBUCKET_TOKEN set, no configuration",
    )
    _selectors(backup, "*")
    backup.add_argument("--dry-run", action="store_true", help="list what would be backed up; write nothing")
    backup.add_argument("--init", action="store_true", help="create the store first if there is none")
    backup.add_argument("--full", action="store_true", help="check everything again, not only what changed")
    _lock_wait(backup)
    workspace = backup.add_argument(
        "--workspace",
        metavar="NAME",
        action="append",
        default=[],
        help="without a configuration: the workspace to back up",
    )
    offered(workspace, "workspaces")
    verify = commands.add(
        "verify",
        "read the store offline and list what is damaged; works on any copy",
        "verify",
        "verify acme/website --level refs",
        "verify --store /mnt/copy",
        "verify --share 1/30   # every day: the whole store in a month",
    )
    _selectors(verify, "*")
    verify.add_argument(
        "--level", choices=("refs", "objects"), default="objects",
        help="refs: snapshots, refs and records; objects: every byte too (default)",
    )  # fmt: skip
    verify.add_argument(
        "--share", metavar="1/N", type=arguments.share, default=Fraction(1),
        help="verify only this share of the store, the part verified longest ago (1/30)",
    )  # fmt: skip
    verify.add_argument("--resume", action="store_true", help="continue a verification that was interrupted")
    drill = commands.add(
        "drill",
        "rehearse a restore: into a simulated Bitbucket, backed up again and compared",
        "drill",
        "drill acme/website",
        "drill --store /mnt/copy   # any copy, even on a read-only disk",
    )
    _selectors(drill, "*")


def _add_reading(commands: _Commands) -> None:
    status = commands.add(
        "status",
        "show how the store is: what needs attention first, and the state of each repository",
        "status",
        "status --all",
        "status --max-age 26h",
    )
    _selectors(status, "*")
    status.add_argument(
        "--all",
        action="store_true",
        help="on a terminal too, list each repository, not only what needs attention",
    )
    status.add_argument(
        "--max-age", metavar="TIME", type=arguments.seconds,
        help="exit with 3 unless each has a complete snapshot this recent (26h); for health checks",
    )  # fmt: skip
    snapshots = commands.add(
        "snapshots", "list the snapshots of one; of several, how many each has", "snapshots",
        "snapshots acme/website",
    )  # fmt: skip
    _selectors(snapshots, "*")
    show = commands.add(
        "show",
        "print one document or one file of a snapshot",
        "show acme/website pull-requests/12",
        "show acme/website settings/variables",
        "show acme/website main:src/app.py --at 2026-11-01 > app.py",
        "show acme/website /",
    )
    _selectors(show, "1")
    path = show.add_argument(
        "path",
        metavar="PATH",
        help="a document, such as pull-requests/12, or a folder of them; or REF:PATH in the code",
    )
    offered(path, "documents")
    _at(show)
    _add_find(commands)
    diff = commands.add(
        "diff",
        "list what changed between two snapshots, or between one and upstream",
        "diff acme/website 2026-11-01 latest",
        "diff acme/website latest upstream",
    )
    _selectors(diff, "1")
    old = diff.add_argument(
        "old", metavar="A", help="a snapshot id, an ISO time, latest, or upstream: what is there now"
    )
    offered(old, "sides")
    offered(diff.add_argument("new", metavar="B", help="the same"), "sides")
    export = commands.add(
        "export",
        "write plain files: the JSON documents and a git clone of a snapshot, or pages to read",
        "export acme/website --to ./website",
        "export acme --to ./archive --format html   # then open archive/index.html",
    )
    _selectors(export, "1")
    export.add_argument("--to", metavar="DIR", type=Path, required=True, help="an empty or new folder")
    export.add_argument(
        "--format", choices=("files", "html", "markdown"), default="files",
        help="files: JSON and clones (default); html: a site to open from a disk; markdown: the same pages",
    )  # fmt: skip
    _at(export)


def _add_find(commands: _Commands) -> None:
    find = commands.add(
        "find",
        "find a text in all snapshots: in pull requests, issues, comments and the names of files",
        "find 'payment failed'",
        "find invoice acme/website --in files,comments",
        "find 'JIRA-[0-9]+' --regex --at 2026-11-01",
    )
    find.add_argument("text", metavar="TEXT", help="what to look for; upper and lower case are the same")
    _selectors(find, "*")
    at = find.add_argument(
        "--at", metavar="WHEN", help="only in this snapshot of each: an id, an ISO time, latest"
    )
    kinds = find.add_argument(
        "--in", metavar="KINDS", dest="kinds", type=arguments.kinds, default=arguments.ALL_PARTS,
        help="only in these, by commas: pull-requests, issues, comments, files (default: all)",
    )  # fmt: skip
    offered(at, "snapshots")
    offered(kinds, "kinds")
    find.add_argument("--regex", action="store_true", help="TEXT is a regular expression of Python")
    find.add_argument(
        "--limit", metavar="N", type=arguments.number, default=100, help="stop at so many (default: 100)"
    )


def _at(parser: argparse.ArgumentParser) -> None:
    at = parser.add_argument(
        "--at", metavar="WHEN", default="latest", help="a snapshot id, an ISO time, or latest (default)"
    )
    offered(at, "snapshots")


def _add_restore(commands: _Commands) -> None:
    restore = commands.add(
        "restore",
        "restore to a folder, into Bitbucket or Forgejo, or to another git server",
        "restore acme/website --to ./website",
        "restore acme --to bitbucket:acme-restored --dry-run",
        "restore acme/website --to bitbucket:acme --only pull-requests/12,settings/variables/REGION",
        "restore acme --to forgejo:https://git.example.org/acme",
        "restore acme --to ./everything --at 2026-11-01",
        "restore acme/website --to ./website --refs refs/heads/main",
        "restore acme/website --to https://git.example.org/website.git --with-archive refs/heads/archive",
        "restore acme --to https://git.example.org/acme/{repository}.git",
    )
    _selectors(restore, "1")
    restore.add_argument(
        "--to",
        metavar="DIR|GIT-URL|bitbucket:WORKSPACE[/REPOSITORY]|forgejo:URL/OWNER[/REPOSITORY]",
        required=True,
        help="an empty folder; the URL of a git repository, where {repository} stands for each one's name;"
        " a workspace of Bitbucket, or an organisation or user of a Forgejo, with a new name for one"
        " repository",
    )
    _at(restore)
    only = restore.add_argument(
        "--only", metavar="PARTS", type=arguments.parts, default=arguments.ALL_PARTS,
        help="any of code, metadata, wiki, snippets (default: all); to a forge also settings, downloads,"
        " issues, pull-requests, commit-comments, or one thing: settings/variables, pull-requests/12",
    )  # fmt: skip
    offered(only, "parts")
    restore.add_argument(
        "--refs", metavar="GLOB", action="append", default=[],
        help="only these refs of the code, by full name ('refs/heads/*'); may be repeated",
    )  # fmt: skip
    restore.add_argument(
        "--with-archive", metavar="PREFIX",
        help="to a git server: push heads of pull requests and former values of refs, too, below this prefix"
        " (refs/heads/archive)",
    )  # fmt: skip
    restore.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what the target has; in a folder, what an earlier restore wrote",
    )
    _add_restore_to_forge(restore)
    restore.add_argument("--dry-run", action="store_true", help="print what would be restored; write nothing")
    restore.add_argument("-y", "--yes", action="store_true", help="do not ask before overwriting")


def _add_restore_to_forge(restore: argparse.ArgumentParser) -> None:
    restore.add_argument(
        "--activate-hooks", action="store_true", help="to a forge: webhooks are as active as they were"
    )
    secrets = restore.add_argument(
        "--secrets", metavar="FILE", type=Path,
        help="to a forge: YAML with the source of each secret, by the keys that --dry-run lists",
    )  # fmt: skip
    people = restore.add_argument(
        "--people", metavar="FILE", type=Path,
        help="to a forge: YAML with the uuid of now (to Forgejo: the user name) for the uuid of then",
    )  # fmt: skip
    secrets.complete = people.complete = shtab.FILE  # type: ignore[attr-defined]
    restore.add_argument(
        "--archive", metavar="BRANCH", nargs="?", const="mirror-archive",
        help="into Bitbucket: push pages of what cannot be made anew to this branch (mirror-archive)",
    )  # fmt: skip
    restore.add_argument(
        "--check", action="store_true",
        help="into Bitbucket: change nothing; compare the target with the backup (0: equal, 4: not)",
    )  # fmt: skip


def _add_removal(commands: _Commands) -> None:
    prune = commands.add(
        "prune", "remove what retention no longer keeps", "prune --dry-run", "prune acme/website"
    )
    _selectors(prune, "*")
    prune.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be removed, why, and how many bytes; change nothing",
    )
    _lock_wait(prune)
    accept = commands.add(
        "accept-loss",
        "accept what is gone upstream: releases the mass-loss brake",
        "accept-loss acme",
        "accept-loss acme/website",
    )
    _selectors(accept, "1")
    _lock_wait(accept)
    erase = commands.add(
        "erase",
        "remove something from every snapshot for good, and keep it out of later ones",
        "erase acme/website --document pull-requests/12 --reason 'contains a password'",
        "erase acme --person '{9f1d...}' --reason 'asked to be forgotten'",
        "erase acme/website --ref refs/heads/leak --reason 'contains a key'",
        "erase acme/website --reason 'not ours to keep'   # the whole repository",
    )
    _selectors(erase, "1")
    document = erase.add_argument("--document", metavar="PATH", help="a document, such as pull-requests/12")
    offered(document, "documents")
    erase.add_argument("--person", metavar="UUID", help="a person, by uuid or account id, in all documents")
    erase.add_argument(
        "--ref",
        metavar="NAME",
        help="a ref by its full name: refs/heads/leak, wiki:refs/heads/leak",
    )
    erase.add_argument("--reason", metavar="TEXT", required=True, help="why; kept with the tombstone")
    erase.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _lock_wait(erase)


def completion(shell: str) -> str:
    """The completion script for `shell`."""
    script = shtab.complete(build(), shell=shell, preamble=shells.PREAMBLES.get(shell, ""))
    return f"{script}{shells.ENDS.get(shell, '')}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command line with the defaults of global options. Raises UsageError."""
    defaults: dict[str, object] = {
        "config": None, "store": None, "json": False, "quiet": False, "verbose": False, "log_format": "auto",
        "identity": [], "as_of": None,
    }  # fmt: skip
    found = build().parse_args(argv)
    for name, value in defaults.items():
        if not hasattr(found, name):
            setattr(found, name, value)
    return found
