"""`mirror restore`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from urllib.parse import urlsplit

from mirror import restore
from mirror.cli.context import Context
from mirror.cli.terminal.confirm import confirm
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.progress import Work
from mirror.errors import UsageError
from mirror.git.wire.client import GitLogin
from mirror.http.origins import is_loopback, origin
from mirror.logs import register_secret
from mirror.model.words import counted, label
from mirror.restore import Item, Report
from mirror.restore.restore import BITBUCKET, FORGEJO, is_url

_INTO_BITBUCKET = "name it with --to bitbucket:WORKSPACE"
_FORGES = f"{_INTO_BITBUCKET}, or --to forgejo:URL/OWNER"
# What is for Bitbucket and no other forge.
_BITBUCKET_ONLY = frozenset({"archive", "check"})


async def run_restore(context: Context) -> int:
    """`mirror restore`."""
    options = context.options
    if options.to.startswith(BITBUCKET):
        if options.check:
            from mirror.cli.commands.restore_check import run_check

            return await run_check(context)
        from mirror.cli.commands.restore_into import run_into

        return await run_into(context)
    if options.to.startswith(FORGEJO):
        from mirror.cli.commands.restore_forgejo import run_forgejo

        return await run_forgejo(context)
    _check_options(options)
    store = context.store()
    url = is_url(options.to)
    if options.overwrite and not options.dry_run and not options.yes:
        confirm(f"Replace what an earlier restore wrote to {options.to}?")
    login = await _login(context, options.to) if url else None
    network = await context.network() if url else None
    with context.progress(Work("restore", "Restoring", got="read")) as progress:
        report = await restore.run(
            store,
            context.selector(),
            target=options.to,
            at=options.at,
            only=options.only,
            overwrite=options.overwrite,
            dry_run=options.dry_run,
            login=login,
            network=network,
            refs=options.refs,
            archive=options.with_archive,
            progress=progress,
            environment=context.environment,
        )
    context.out.document(report.to_json())
    _show_restore(context, report)
    return report.exit_code


def _check_options(options: argparse.Namespace) -> None:
    """Raise UsageError for what only a restore to a forge takes."""
    lost = sorted(options.only - restore.PARTS)
    if lost:
        raise UsageError(
            f"--only {','.join(lost)} is for a restore to a forge",
            hint=f"{_FORGES}; in a folder, --only metadata has it",
        )
    for name in ("activate_hooks", "archive", "check", "secrets", "people"):
        if getattr(options, name):
            word = f"--{name.replace('_', '-')}"
            if name in _BITBUCKET_ONLY:
                raise UsageError(f"{word} is for a restore into Bitbucket", hint=_INTO_BITBUCKET)
            raise UsageError(f"{word} is for a restore to a forge", hint=_FORGES)


def _verb(report: Report, item: Item) -> str:
    """The headline for one repository's result."""
    if report.dry_run:
        return "Would restore"
    if not item.problems:
        return "Restored"
    return "Restored in part" if item.is_there else "Could not restore"


def _show_restore(context: Context, report: Report) -> None:
    out = context.out
    for item in report.items:
        _show_item(out, report, item)
    first = report.items[0] if report.items and not report.dry_run and report.exit_code == 0 else None
    if first is not None and first.refs and first.push is None:
        out.line(f"Work with it: git clone {first.target}/{restore.CODE}")


def _show_item(out: Output, report: Report, item: Item) -> None:
    failed = bool(item.problems)
    out.line(
        f"{_verb(report, item)} {item.repository} to {item.target}", style="yellow" if failed else "green"
    )
    if item.snapshot and (item.is_there or not failed):
        _show_content(out, item)
    for text in _lacks(item):
        out.line(f"  {text}", style="yellow")
    reasons: dict[str, list[str]] = {}
    for part, reason in item.not_whole.items():
        reasons.setdefault(reason, []).append(label(part))
    for reason, parts in reasons.items():
        out.line(f"  not whole in that snapshot: {', '.join(parts)}: {reason}")
    for _, text in item.problems:
        out.line(f"  problem: {text}", style="yellow")
    for text in item.advice:
        out.line(f"  to do: {text}", style="yellow")
    if item.push is not None and not report.dry_run and (item.is_there or not failed):
        out.line(f"  {len(item.push['pushed'])} pushed, {len(item.push['unchanged'])} already there")


def _show_content(out: Output, item: Item) -> None:
    confirmed = f", last confirmed {item.last_confirmed}" if item.last_confirmed else ""
    different = f", next different {item.next_different}" if item.next_different else ""
    out.line(f"  as of snapshot {item.snapshot} (taken {item.taken}{confirmed}{different})")
    others = "".join(f", {counted(count, 'refs')} of {name}" for name, count in item.mirrors.items())
    objects = f", {counted(item.lfs_objects, 'LFS objects')}" if item.lfs_objects else ""
    # A push sends no documents.
    documents = f", {counted(item.documents, 'documents')}" if item.push is None else ""
    out.line(f"  {counted(item.refs, 'refs')}{documents}{others}{objects}")
    if item.archived:
        out.line(f"  of these refs, {item.archived} are heads of pull requests and former values")


def _lacks(item: Item) -> list[str]:
    """What the backup itself does not have."""
    texts = []
    if item.logs_let_go:
        texts.append(f"{item.logs_let_go} step logs are missing: retention removed them")
    if item.lfs_absent:
        texts.append(f"{item.lfs_absent} LFS objects are missing: no backup could fetch them")
    return texts


async def _login(context: Context, url: str) -> GitLogin | None:
    """The login for the target: MIRROR_GIT_USERNAME and MIRROR_GIT_PASSWORD, else the configured credential
    where the target has the origin of Bitbucket; None for any other."""
    environment: Mapping[str, str] = context.environment
    username, password = environment.get("MIRROR_GIT_USERNAME"), environment.get("MIRROR_GIT_PASSWORD")
    if username and password:
        register_secret(password)
        try:
            (username + password).encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError("MIRROR_GIT_USERNAME or MIRROR_GIT_PASSWORD is not UTF-8 text") from None
        if urlsplit(url).scheme == "http" and not is_loopback(origin(url)):
            raise UsageError(
                "over plain http the password can be read on its way",
                hint="use https; plain http is accepted for loopback only",
            )
        return GitLogin(username, password)
    path = context.config_path()
    if path is None or urlsplit(url).scheme == "file":
        return None
    config = context.config()
    try:
        if origin(url) != origin(config.bitbucket.git_url):
            return None
    except ValueError:
        return None
    name = urlsplit(url).path.strip("/").partition("/")[0]
    entry = next((one for one in config.workspaces if one.workspace == name), config.workspaces[0])
    from mirror.connect import git_login

    return await git_login(config, entry, clock=context.clock, environment=context.environment)
