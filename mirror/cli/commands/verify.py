"""`mirror verify`."""

from __future__ import annotations

from pathlib import Path

from mirror.cli.commands.notices import config_about, notices
from mirror.cli.context import Context
from mirror.cli.owner import become_owner
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.progress import Work
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Run
from mirror.model.words import counted
from mirror.store.reading.reader import Store
from mirror.store.writing.verify_journal import VerifyJournal
from mirror.store.writing.writer import open_store

_log = get_logger("cli")


async def run_verify(context: Context) -> int:
    """`mirror verify`."""
    store = context.store()
    become_owner(store, "verify")
    async with notices(context, config_about(context, store), "verify") as ended:
        run = await _verify(context, store)
        ended(run)
        context.out.document({**run.to_json(previous=None), "schema": 1})
        _show(context.out, run)
    return run.exit_code


async def _verify(context: Context, store: Path) -> Run:
    """Verify, and record the run in the store if it can be written."""
    from mirror import verify

    options = context.options
    journal = _journal(context, store) if context.copied is None else None
    with context.progress(Work("verify", "Verifying", got="read")) as progress:
        run = await verify.run(
            store,
            context.selectors(),
            level=options.level,
            share=options.share,
            journal=journal,
            source=context.copied.lending if context.copied is not None else None,
            clock=context.clock,
            progress=progress,
            environment=context.environment,
        )
    if context.copied is not None:
        return run  # the store is a temporary one
    try:
        with open_store(store, command="mirror verify") as writer:
            writer.write_run(run)
        if journal is not None:
            journal.finish()
    except (MirrorError, OSError) as error:
        _log.warning("verify.not_recorded", reason=str(error))
    return run


def _journal(context: Context, store: Path) -> VerifyJournal | None:
    """The journal of this verification; None for a store on a read-only disk, which needs none."""
    options = context.options
    key = f"{options.level} {options.share} {' '.join(options.selectors)}"
    try:
        Store.open(store).close()
        return VerifyJournal(store, key, resume=options.resume, now=context.clock.now())
    except OSError as error:
        _log.info("verify.no_journal", reason=error.strerror)
        return None


def _show(out: Output, run: Run) -> None:
    findings = run.facts["findings"]
    for finding in findings:
        where = f" ({finding['repository']})" if finding["repository"] else ""
        what = f" {finding['object']}" if finding["object"] else ""
        touched = f"; touches {', '.join(finding['snapshots'])}" if finding["snapshots"] else ""
        out.line(f"{finding['severity']}: {finding['file']}{where}:{what} {finding['problem']}{touched}")
    checked = ", ".join(counted(number, name) for name, number in run.facts["checked"].items())
    seconds = (run.ended - run.started).total_seconds()
    verdict = "no damage found" if run.exit_code == 0 else f"{len(findings)} finding(s)"
    share = f" {run.facts['share']}" if "share" in run.facts else ""
    out.line(f"Verified{share} at level {run.facts['level']}: {checked}, {seconds:.1f} s: {verdict}.")
