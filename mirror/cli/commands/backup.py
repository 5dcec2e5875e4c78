"""`mirror backup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirror import browse
from mirror.cli.commands.notices import notices
from mirror.cli.commands.status import show_out_of_reach
from mirror.cli.context import Context
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.progress import Work
from mirror.cli.terminal.table import Column, Fit
from mirror.model import Outcome, Run, RunEntry, name_to_json
from mirror.model.words import label_first_word, meaning_of, state_label
from mirror.store.reading.reader import Store

if TYPE_CHECKING:
    from mirror.config import Config

# How many repositories with the same problem are named.
NAMES_MAX = 5


async def run_backup(context: Context) -> int:
    """`mirror backup`."""
    from mirror import backup
    from mirror.cli.commands.init import make_store
    from mirror.cli.owner import become_owner, secret_files

    options = context.options
    config = context.config()
    if options.init and not options.dry_run:
        make_store(context, config.store)
    if not options.dry_run:
        become_owner(config.store, "backup", needed=secret_files(config))
    async with notices(context, config, "backup") as ended:
        if not options.init:
            Store.open(config.store).close()
        with context.progress(Work("backup", "Backing up")) as progress:
            try:
                run = await backup.run(
                    config,
                    context.selectors(),
                    clock=context.clock,
                    environment=context.environment,
                    full=options.full,
                    dry_run=options.dry_run,
                    lock_wait=options.lock_wait,
                    progress=progress,
                )
                ended(run)
            except backup.RunCancelled as cancelled:
                run = cancelled.run
        _show(context, run, config)
    return run.exit_code


def _show(context: Context, run: Run, config: Config) -> None:
    out = context.out
    warnings = context.expiring(config)
    out.document({**run.to_json(previous=None), "warnings": warnings, "schema": 1})
    repositories = sorted((e for e in run.entries if e.kind == "repository"), key=lambda e: e.full_name)
    if run.facts.get("dry_run"):
        out.line(f"Would back up {len(repositories)} repositories to {config.store}:")
        for entry in repositories:
            out.line(f"  {entry.full_name}")
    elif repositories:
        out.table(
            (Column("REPOSITORY", Fit.SHORTEN), Column("OUTCOME"), Column("SNAPSHOT"),
             Column("WHAT CHANGED", Fit.WRAP)),
            [(e.full_name, state_label(e.outcome), e.snapshot or "-", _changes(e)) for e in repositories],
        )  # fmt: skip
    _show_problems(out, run)
    for now, name in run.facts.get("renamed", {}).items():
        out.line(f"The workspace {name} is called {now} now: correct its name in the configuration.")
    show_out_of_reach(out, [(entry.full_name, browse.out_of_reach(entry.parts)) for entry in run.entries])
    out.warnings(warnings)
    out.line()
    seconds = (run.ended - run.started).total_seconds()
    facts = f"{len(repositories)} repositories, {run.facts.get('requests', 0)} requests, {seconds:.1f} s"
    out.line(f"{facts}: {meaning_of(run.exit_code)}.", style="green" if run.exit_code == 0 else "yellow")


def _show_problems(out: Output, run: Run) -> None:
    """Every problem of a run, then the hints; each of them once."""
    shared: dict[str, list[str]] = {}
    for entry in run.entries:
        for problem in entry.problems:
            shared.setdefault(problem.text, []).append(entry.full_name)
    texts = [problem.text for problem in run.problems]
    for text, names in shared.items():
        more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
        texts.append(f"{', '.join(sorted(names)[:NAMES_MAX])}{more}: {label_first_word(text)}")
    if not texts:
        return
    out.line()
    out.line(f"{len(texts)} problem{'' if len(texts) == 1 else 's'}:", style="bold")
    for text in texts:
        out.line(f"  {text}")
    for hint in dict.fromkeys(problem.hint for problem in run.all_problems if problem.hint):
        out.line(f"  → {hint}")


def _changes(entry: RunEntry) -> str:
    if entry.outcome == Outcome.CONFIRMED:
        return "nothing"
    count: dict[str, int] = {}
    for change in entry.ref_changes:
        count[change.kind] = count.get(change.kind, 0) + 1
    loud = [
        f"{name_to_json(change.name)} {change.kind}"
        for change in entry.ref_changes
        if change.kind in ("rewritten", "removed")
    ]
    quiet = [f"{count[kind]} refs {kind}" for kind in ("created", "forwarded") if kind in count]
    if len(loud) > 3:
        loud = [*loud[:3], f"{len(loud) - 3} more"]
    return ", ".join([*loud, *quiet]) or ("documents" if entry.outcome == Outcome.SAVED else "-")
