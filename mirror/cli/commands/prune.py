"""`mirror prune`, `mirror accept-loss` and `mirror erase`: the commands of `mirror.prune`."""

from __future__ import annotations

from collections.abc import Sequence

from mirror import prune
from mirror.browse.documents import document_path
from mirror.cli.commands.elsewhere import elsewhere
from mirror.cli.commands.erase_copies import copies_hold
from mirror.cli.commands.notices import notices
from mirror.cli.context import Context
from mirror.cli.owner import become_owner
from mirror.cli.system import person
from mirror.cli.terminal.confirm import confirm
from mirror.cli.terminal.progress import Work
from mirror.cli.terminal.table import Column, Fit
from mirror.model import Outcome, Run, RunEntry
from mirror.model.words import meaning_of, size, state_label


async def run_prune(context: Context) -> int:
    """`mirror prune`."""
    options = context.options
    config = context.config()
    become_owner(config.store, "prune")
    async with notices(context, config, "prune") as ended, elsewhere(context, config) as others:
        with context.progress(Work("prune", "Pruning")) as progress:
            try:
                run = await prune.prune(
                    config,
                    context.selectors(),
                    clock=context.clock,
                    environment=context.environment,
                    dry_run=options.dry_run,
                    lock_wait=options.lock_wait,
                    progress=progress,
                    elsewhere=others,
                )
                ended(run)
            except prune.RunCancelled as cancelled:
                run = cancelled.run
        context.out.document({**run.to_json(previous=None), "schema": 1})
        _show_prune(context, run)
    return run.exit_code


def _show_prune(context: Context, run: Run) -> None:
    out = context.out
    for entry in run.entries:
        dropped = list(entry.facts.get("dropped", ()))
        if entry.outcome not in (Outcome.PRUNED, Outcome.KEPT):
            out.line(f"{entry.full_name}: {state_label(entry.outcome)}", style="yellow")
            continue
        if "reason" in entry.facts:
            out.line(f"{entry.full_name}: nothing is removed: {entry.facts['reason']}", style="yellow")
            continue
        out.line(f"{entry.full_name}: {_result(run, entry)}", style="bold" if dropped else "")
        out.table(
            (Column("SNAPSHOT"), Column(""), Column("BECAUSE", Fit.WRAP)),
            [
                (one["snapshot"], "keep" if one["keep"] else "drop", ", ".join(one["reasons"]))
                for one in entry.facts["decisions"]
            ],
            indent=2,
        )
    _show_problems(context, run)
    done = "would be removed" if run.facts.get("dry_run") else "removed"
    out.line()
    if run.facts.get("records"):
        out.line(f"{run.facts['records']} run records {done}: they are older than runs.keep.")
    out.line(
        f"{run.facts['dropped']} snapshots {done}, {size(run.facts['freed'])} freed: "
        f"{meaning_of(run.exit_code)}.",
        style="green" if run.exit_code == 0 else "yellow",
    )


def _result(run: Run, entry: RunEntry) -> str:
    facts = entry.facts
    kept = sum(1 for one in facts["decisions"] if one["keep"])
    freed = facts["freed"]
    parts = [f"{kept} kept, {len(facts['dropped'])} {'to drop' if run.facts.get('dry_run') else 'dropped'}"]
    if facts["logs"]:
        parts.append(f"{facts['logs']} old step logs")
    parts.append(f"{size(freed['total'])} of disk")
    if freed["code"] is None:
        parts.append("the size of code stays, because C git is not installed")
    return ", ".join(parts)


def _show_problems(context: Context, run: Run) -> None:
    texts: Sequence[str] = [problem.text for problem in run.problems]
    texts = [*texts, *(f"{one.full_name}: {problem.text}" for one in run.entries for problem in one.problems)]
    for text in texts:
        context.out.line(f"  problem: {text}", style="yellow")
    for hint in dict.fromkeys(problem.hint for problem in run.all_problems if problem.hint):
        context.out.line(f"  → {hint}")


async def run_accept_loss(context: Context) -> int:
    """`mirror accept-loss`."""
    store, by = context.store(), person(context.environment)
    become_owner(store, "accept-loss")
    run = await prune.accept_loss(
        store,
        context.selector(),
        by=by,
        clock=context.clock,
        lock_wait=context.options.lock_wait,
        shared=(config := context.config_if_any()) is not None and config.cluster is not None,
    )
    context.out.document({**run.to_json(previous=None), "schema": 1})
    for entry in run.entries:
        accepted = entry.facts.get("accepted", ())
        for text in accepted:
            context.out.line(f"accepted: {text}", style="green")
        if not accepted and not entry.problems:
            context.out.line(f"{entry.full_name}: there is no loss to accept")
    _show_problems(context, run)
    return run.exit_code


async def run_erase(context: Context) -> int:
    """`mirror erase`."""
    options = context.options
    document = None
    if options.document is not None:
        document = document_path(options.document)
        document = document if document.endswith(".json") else f"{document}.json"
    what = prune.ErasureTarget(document, options.ref, options.person)
    store, by = context.store(), person(context.environment)
    copies = await copies_hold(context, store)
    for text in copies:
        context.out.line(f"copy {text}", style="yellow")
    if not options.yes:
        named = "everything" if what.is_everything else str(what)
        confirm(f"Erase {named} from all snapshots of {options.selector}? It cannot be undone.")
    become_owner(store, "erase")
    with context.progress(Work("erase", "Erasing")) as progress:
        run = await prune.erase(
            store,
            context.selector(),
            what,
            reason=options.reason,
            by=by,
            clock=context.clock,
            environment=context.environment,
            lock_wait=options.lock_wait,
            progress=progress,
        )
    context.out.document({**run.to_json(previous=None), "schema": 1, "copies": copies})
    for entry in run.entries:
        if entry.outcome is Outcome.ERASED:
            changed, freed = len(entry.trees), entry.facts["freed"]["total"]
            erased = "everything" if what.is_everything else f"{what} from {changed} snapshots"
            context.out.line(f"{entry.full_name}: erased {erased}; {size(freed)} freed", style="green")
    _show_problems(context, run)
    for text in copies:
        context.out.line(f"copy {text}", style="yellow")
    others = "other copies" if copies else "copies"
    context.out.line(f"Erase it from {others} of this store, and from Bitbucket, yourself.")
    return run.exit_code
