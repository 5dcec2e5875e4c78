"""`mirror drill`."""

from __future__ import annotations

from pathlib import Path

from mirror.cli.commands.notices import config_about, notices
from mirror.cli.context import Context
from mirror.cli.owner import become_owner
from mirror.cli.terminal.progress import Work
from mirror.config.settings import Limits
from mirror.drill import Drilled
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model.words import counted
from mirror.store.writing.writer import open_store

# How many findings are listed.
SHOWN_MAX = 100
_log = get_logger("cli")


async def run_drill(context: Context) -> int:
    """`mirror drill`."""
    store = context.store()
    become_owner(store, "drill")
    async with notices(context, config_about(context, store), "drill") as ended:
        done, unrecorded = await _drill(context, store)
        ended(done.run)
        record = {**done.run.to_json(previous=None), "schema": 1}
        context.out.document({**record, **done.result.to_json(), "recorded": unrecorded is None})
        _show(context, done, unrecorded)
    return done.run.exit_code


async def _drill(context: Context, store: Path) -> tuple[Drilled, str | None]:
    """Drill, and record the run in the store; returns why it could not be recorded, or None."""
    from mirror import drill

    config = context.config_if_any()
    with context.progress(Work("drill", "Rehearsing a restore", unit="steps")) as progress:
        done = await drill.run(
            store,
            context.selectors(),
            clock=context.clock,
            environment=context.environment,
            limits=config.limits if config is not None else Limits(),
            progress=progress,
        )
    if context.copied is not None:
        return done, "a copy is only read"
    try:
        with open_store(store, command="mirror drill") as writer:
            writer.write_run(done.run)
    except (MirrorError, OSError) as error:  # a read-only copy can be rehearsed, too
        _log.warning("drill.not_recorded", reason=str(error))
        return done, str(error)
    return done, None


def _show(context: Context, done: Drilled, unrecorded: str | None) -> None:
    out, result, seconds = context.out, done.result, done.result.seconds
    lines = result.lines()
    for line in lines[:SHOWN_MAX]:
        out.line(f"finding: {line}", style="red")
    if len(lines) > SHOWN_MAX:
        out.line(f"and {len(lines) - SHOWN_MAX} more findings; --json lists all")
    for problem in done.run.problems:
        out.line(f"problem: {problem.text}", style="yellow")
    reasons: dict[str, list[str]] = {}
    for (why, kind), count in sorted(result.losses.items()):
        reasons.setdefault(why, []).append(f"{kind} ({count})")
    for why, kinds in reasons.items():
        out.line(f"does not come back ({why}): {', '.join(kinds)}")
    compared = ", ".join(counted(number, name) for name, number in result.comparison.counts.items())
    verdict = (
        "everything that can come back came back" if done.run.exit_code == 0 else f"{len(lines)} finding(s)"
    )
    out.line(f"Rehearsed: {compared}: {verdict}.")
    out.line(
        f"The restore took {seconds.restore:.0f} s here; into Bitbucket, within its limits, it would take"
        f" {_time(seconds.real)} with {counted(seconds.requests, 'requests')}."
    )
    if unrecorded is not None:
        out.line(f"This drill was not recorded: {unrecorded}", style="yellow")


def _time(seconds: float) -> str:
    """A time for people."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"about {minutes} min"
