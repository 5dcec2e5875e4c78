"""`mirror restore --to bitbucket:… --check`."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.cli.commands.budget import borrowing
from mirror.cli.context import Context
from mirror.cli.terminal.progress import Work
from mirror.drill.check import Checked, Target, check
from mirror.errors import UsageError
from mirror.model.words import counted
from mirror.restore import PARTS, people
from mirror.restore.comparison.differences import Difference
from mirror.restore.into import Place
from mirror.restore.restore import BITBUCKET

# How many differences are listed.
SHOWN_MAX = 200
# How many things of each known reason are named.
KNOWN_MAX = 5


async def run_check(context: Context) -> int:
    """Compare a workspace of Bitbucket, or one repository, with what was backed up; change nothing."""
    options = context.options
    if options.refs or options.only != PARTS or options.overwrite:
        raise UsageError(
            "--check compares everything and changes nothing",
            hint="leave out --only, --refs and --overwrite",
        )
    place = Place.parse(options.to)
    known = people.load(options.people) if options.people is not None else {}
    target = Target(
        place.workspace, place.repository, known, options.secrets is not None, options.activate_hooks
    )
    config = context.config_for(place.workspace)
    with context.progress(Work("drill", "Comparing")) as progress:
        async with borrowing(context, config) as budget:
            found = await check(
                context.store(), context.selector(), target, config, at=options.at, clock=context.clock,
                environment=context.environment, budget=budget, progress=progress,
            )  # fmt: skip
    context.out.document(found.to_json())
    _show(context, found)
    return found.exit_code


def _show(context: Context, found: Checked) -> None:
    out, result = context.out, found.comparison
    out.lines((one.line for one in result.found[:SHOWN_MAX]), style="red")
    if len(result.found) > SHOWN_MAX:
        out.line(f"and {len(result.found) - SHOWN_MAX} more differences; --json lists all")
    out.lines((f"problem: {problem.text}" for problem in found.problems), style="yellow")
    for line in _known(result.lost):
        out.line(line)
    compared = ", ".join(counted(number, name) for name, number in result.counts.items())
    verdict = "equal" if result.is_equal else counted(len(result.found), "differences")
    out.line(f"Compared {context.options.selector} with {BITBUCKET}{found.target}: {compared}: {verdict}.")


def _known(lost: Sequence[Difference]) -> list[str]:
    """What differs for a known reason: by reason, and of many the first ones."""
    reasons: dict[str, list[str]] = {}
    for one in lost:
        name = f": {one.thing} {one.name}" if one.name else ""
        what = f"  {one.place} {one.document}".rstrip() + name
        reasons.setdefault(f"{one.how.removeprefix('is ')} ({one.why}):", []).append(what)
    lines = []
    for reason, several in sorted(reasons.items()):
        lines += [reason, *several[:KNOWN_MAX]]
        if len(several) > KNOWN_MAX:
            lines.append(f"  and {len(several) - KNOWN_MAX} more; --json lists all")
    return lines
