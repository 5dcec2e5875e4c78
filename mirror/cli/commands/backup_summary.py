"""What `mirror backup` says at its end: what was saved, what is missing and why, and what it took.

On a terminal that is at most a screen, whatever the number of repositories; elsewhere everything is listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mirror import browse
from mirror.cli.commands.status import show_out_of_reach
from mirror.cli.context import Context
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.table import Column, Fit
from mirror.model import Outcome, Run, RunEntry, name_to_json
from mirror.model.live import Picture
from mirror.model.words import amounts, counted, label_first_word, lasted, meaning_of, state_label

if TYPE_CHECKING:
    from mirror.config import Config

# How many repositories with the same problem are named; and, on a terminal, how many repositories and
# problems are listed.
NAMES_MAX = 5
ROWS_MAX = 12
PROBLEMS_MAX = 8
_COLUMNS = (
    Column("REPOSITORY", Fit.SHORTEN), Column("OUTCOME"), Column("SNAPSHOT"), Column("WHAT CHANGED", Fit.WRAP)
)  # fmt: skip
# What is listed first: what people should look at, then what was saved, then what needs nobody.
_ORDER = (
    Outcome.FAILED, Outcome.LOCKED, Outcome.PARTIAL, Outcome.PENDING, Outcome.UNREACHED, Outcome.ABSENT,
    Outcome.SAVED, Outcome.GONE, Outcome.EXCLUDED, Outcome.ERASED, Outcome.CONFIRMED,
)  # fmt: skip
_SUMMED = (Outcome.SAVED, Outcome.CONFIRMED, *(one for one in _ORDER if one not in ("saved", "confirmed")))


def show(context: Context, run: Run, config: Config, seen: Picture) -> None:
    """Print the result of a run; `seen` is the last picture of its progress."""
    out = context.out
    warnings = context.expiring(config)
    out.document({**run.to_json(previous=None), "warnings": warnings, "schema": 1})
    repositories = sorted((e for e in run.entries if e.kind == "repository"), key=lambda e: e.full_name)
    if run.facts.get("dry_run"):
        out.line(f"Would back up {len(repositories)} repositories to {config.store}:")
        for entry in repositories:
            out.line(f"  {entry.full_name}")
        if others := run.facts.get("elsewhere"):
            out.line(f"{sum(others.values())} more belong to other shards: {_homes(others)}")
    elif repositories:
        _show_repositories(out, repositories)
    _show_problems(out, run)
    for now, name in run.facts.get("renamed", {}).items():
        out.line(f"The workspace {name} is called {now} now: correct its name in the configuration.")
    beyond = [(entry.full_name, browse.out_of_reach(entry.parts)) for entry in run.entries]
    if not out.is_terminal:
        show_out_of_reach(out, beyond)
    elif any(parts for _, parts in beyond):
        out.line("Some parts are not available, which is no failure; mirror status lists them.")
    out.warnings(warnings)
    _show_summary(out, run, repositories, seen)


def _homes(others: Mapping[str, int]) -> str:
    """How many repositories each other shard has; "": none, as they are on their way."""
    return ", ".join(
        f"{number} to {shard or 'none at the moment'}" for shard, number in sorted(others.items())
    )


def _show_repositories(out: Output, repositories: Sequence[RunEntry]) -> None:
    """The table. On a terminal with many repositories, only those of which there is something to say."""
    listed = list(repositories)
    if out.is_terminal and len(listed) > ROWS_MAX:
        listed = [one for one in listed if one.outcome is not Outcome.CONFIRMED]
        listed = sorted(listed, key=lambda one: _ORDER.index(one.outcome))
    rows = [
        (one.full_name, state_label(one.outcome), one.snapshot or "-", _changes(one))
        for one in (listed[:ROWS_MAX] if out.is_terminal else listed)
    ]
    if rows:
        out.table(_COLUMNS, rows)
    if len(listed) > len(rows):
        out.line(f"and {len(listed) - len(rows)} more; mirror status lists what needs attention")


def _show_summary(out: Output, run: Run, repositories: Sequence[RunEntry], seen: Picture) -> None:
    """How many repositories ended how, what the run received and sent, how long it took, and the verdict."""
    out.line()
    if not run.facts.get("dry_run"):
        count = Counter(one.outcome for one in repositories)
        ended = [f"{count[one]} {state_label(one)}" for one in _SUMMED if count[one]]
        out.line(f"{counted(len(repositories), 'repositories')}: {', '.join(ended) or 'nothing to do'}")
    out.line(f"{lasted(run.ended - run.started)}: {amounts(seen, 'received') or 'nothing received'}")
    text = meaning_of(run.exit_code)
    out.line(f"{text[0].upper()}{text[1:]}.", style="green" if run.exit_code == 0 else "yellow")


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
    shown = texts[:PROBLEMS_MAX] if out.is_terminal else texts
    for text in shown:
        out.line(f"  {text}")
    if len(texts) > len(shown):
        out.line(f"  and {len(texts) - len(shown)} more; mirror status lists them")
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
