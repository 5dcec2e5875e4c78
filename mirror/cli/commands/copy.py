"""`mirror copy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mirror.cli.commands.notices import notices
from mirror.cli.context import Context
from mirror.cli.owner import become_owner, secret_files
from mirror.cli.terminal.progress import Work
from mirror.cli.terminal.table import Column
from mirror.errors import Cancelled, UsageError, worst
from mirror.model import Run
from mirror.model.words import counted, meaning_of, size

if TYPE_CHECKING:
    from mirror.config import Config
    from mirror.config.copies import CopyConfig


async def run_copy(context: Context) -> int:
    """`mirror copy`."""
    for name in ("check", "source", "prune"):
        if getattr(context.options, name):
            return await _about_one(context, name)
    config = _config(context)
    copies = _copies(context, config)
    become_owner(config.store, "copy", needed=secret_files(config))
    runs = await _copy_all(context, config, copies)
    codes = {run.exit_code for run in runs}
    context.out.document(
        {
            "schema": 1,
            "exit_code": worst(codes),
            "copies": [{**run.to_json(previous=None), "schema": 1} for run in runs],
        }
    )
    return worst(codes)


async def _about_one(context: Context, name: str) -> int:
    """What is done with a copy that is there."""
    from mirror.cli.commands import copy_read

    runs = {"check": copy_read.run_check, "source": copy_read.run_from, "prune": copy_read.run_prune}
    return await runs[name](context)


def _config(context: Context) -> Config:
    """The configuration; without a file, one of the store alone."""
    from mirror.config.settings import BitbucketUrls, Config

    if context.config_path() is not None:
        return context.config()
    return Config(context.store(), BitbucketUrls(), ())


def _copies(context: Context, config: Config) -> list[CopyConfig]:
    """The copies to make. Raises UsageError where there is none."""
    from mirror.bucket.address import Address
    from mirror.connect.copies import copy_of

    to = context.options.to
    if to is not None and not isinstance(to, Address):
        raise UsageError(f"{to} is no address of a copy", hint="write it as s3://bucket/prefix")
    if to is not None:
        one = copy_of(config, to, context.environment)
        _check_plain(context, config, one)
        return [one]
    if context.options.plain:
        raise UsageError("--plain is for an address that --to names", hint="leave it out")
    if not config.copies:
        raise UsageError(
            "no copy is configured",
            hint='add `copies: [{to: "s3://bucket/prefix"}]` to the configuration, or give --to ADDRESS',
        )
    return list(config.copies)


def _check_plain(context: Context, config: Config, copy: CopyConfig) -> None:
    """Raise UsageError where the store would go in plain text to an address that nobody configured, beside
    others that somebody did: a slip of the hand."""
    addresses = [one.to for one in config.copies]
    if copy.to in addresses and context.options.plain and copy.recipients:
        raise UsageError(f"the copy to {copy.to} is encrypted, and --plain says not so", hint="leave it out")
    if not addresses or copy.to in addresses or context.options.plain:
        return
    raise UsageError(
        f"{copy.to} is none of the configured copies, and what is sent there would not be encrypted",
        hint=f"name one of {', '.join(addresses)}; add it to `copies`; or say --plain",
    )


async def _copy_all(context: Context, config: Config, copies: Sequence[CopyConfig]) -> list[Run]:
    """Make the copies, one after the other, until one is stopped. Notices are about all of them together, as
    the daemon's are: one of several says nothing about the others, and has none."""
    from mirror.copy.together import together

    started, runs = context.clock.now(), []
    about = config if len(copies) == len(config.copies) else None
    async with notices(context, about, "copy") as ended:
        for copy in copies:
            runs.append(await _copy(context, config, copy))
            if runs[-1].exit_code == Cancelled.exit_code:
                break
        ended(together(runs, started, context.clock.now()))
    return runs


async def _copy(context: Context, config: Config, copy: CopyConfig) -> Run:
    """Make one copy, and say what was done."""
    from mirror.copy import sending

    options = context.options
    with context.progress(Work("copy", "Copying", unit="folders", got="sent")) as progress:
        try:
            run = await sending.run(
                config,
                copy,
                clock=context.clock,
                environment=context.environment,
                progress=progress,
                dry_run=options.dry_run,
                lock_wait=options.lock_wait,
            )
        except sending.CopyCancelled as cancelled:
            run = cancelled.run
    _show(context, run)
    return run


def _show(context: Context, run: Run) -> None:
    out, facts = context.out, run.facts
    out.line(facts["to"], style="bold")
    if facts.get("dry_run") and run.entries:
        rows = [
            (one.full_name, str(one.facts["files"]), size(one.facts["bytes"]))
            for one in run.entries
            if "bytes" in one.facts
        ]
        out.table((Column("FOLDER"), Column("FILES"), Column("AT MOST")), rows, indent=2)
    for problem in run.problems:
        out.line(f"  problem: {problem.text}", style="yellow")
    for entry in run.entries:
        for problem in entry.problems:
            out.line(f"  problem: {entry.full_name}: {problem.text}", style="yellow")
    for hint in dict.fromkeys(problem.hint for problem in run.all_problems if problem.hint):
        out.line(f"  → {hint}")
    out.line(
        f"  {_summary(run)}: {meaning_of(run.exit_code)}.", style="green" if not run.exit_code else "yellow"
    )


def _summary(run: Run) -> str:
    facts = run.facts
    folders = facts.get("folders")
    if folders is None:
        return "nothing was copied"
    if facts.get("dry_run"):
        return (
            f"{folders['untried']} folders would be sent, at most {size(facts['bytes_to_send'])};"
            f" {folders['unchanged']} are unchanged"
        )
    parts = [f"{counted(folders['copied'], 'folders')} copied, {folders['unchanged']} unchanged"]
    parts += [f"{folders[name]} {name}" for name in ("failed", "untried") if folders.get(name)]
    parts.append(
        f"{counted(facts['objects'], 'objects')}, {size(facts['bytes'])} sent in "
        f"{counted(facts['requests'], 'requests')}"
    )
    if facts.get("protected", {}).get("objects"):
        parts.append(f"{facts['protected']['objects']} objects retained until {facts['protected']['until']}")
    if facts.get("protected", {}).get("newest_only"):
        why = facts["protected"]["newest_only"]
        parts.append(
            f"of what was overwritten only the newest was retained; older versions are unknown: {why}"
        )
    if facts.get("vanished"):
        parts.append(f"{facts['vanished']} folders that this store no longer has stay in the copy")
    return ", ".join(parts)
