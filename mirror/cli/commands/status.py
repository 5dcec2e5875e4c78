"""`mirror status`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mirror import browse
from mirror.browse import Concern, CopyStatus, RepositoryStatus, Shared, Status, Urgency
from mirror.cli.commands.merged import status_of
from mirror.cli.context import Context
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.table import Column, Fit
from mirror.errors import worst
from mirror.model import JsonObject, time_from_text, time_text
from mirror.model.words import age, label, label_first_word, meaning_of, size, state_label

if TYPE_CHECKING:
    from mirror.config import Config

# How many rewritten or removed refs are listed.
REFS_MAX = 5
# How many things that need attention a terminal lists, and how many repositories that are well.
CONCERNS_MAX = 20
WELL_MAX = 20
# Of several that share a reason so many are named.
NAMES_MAX = 5
# What works with a configuration only.
_CONFIGURED = ("backup", "copy", "doctor")
_STYLES = {Urgency.MISSING: "yellow", Urgency.NOTED: "yellow"}
_COLUMNS = (
    Column("REPOSITORY", Fit.SHORTEN), Column("STATE"), Column("LAST SNAPSHOT"),
    Column("LAST CONFIRMED", drop=1), Column("SNAPSHOTS", drop=3, is_number=True),
    Column("SIZE", drop=2, is_number=True), Column("MISSING", Fit.WRAP, drop=4),
)  # fmt: skip


async def run_status(context: Context) -> int:
    """`mirror status`."""
    found, unknown = await status_of(context)
    out, now = context.out, context.clock.now()
    late = _late(context, found, now)
    config = context.config_if_any()
    copies = _copies(found, config, now)
    several = browse.concerns(found, late, copies)
    codes = ([4] if found.damage else []) + ([3] if late or unknown else [])
    stale = {}
    if context.options.max_age is not None:
        stale = {"stale": [f"{name} {text}".lstrip() for name, text in late.items()]}
    warnings = [*unknown, *context.expiring(config)]
    verdict = browse.verdict(found, several)
    attention = {"verdict": verdict, "attention": [one.to_json() for one in several]}
    exit_code = {"exit_code": worst(codes), "warnings": warnings}
    told = {**found.to_json(), "copies": [one.to_json() for one in copies]}
    if context.copied is not None:  # the store is a temporary one
        told["store"] = str(context.copied.copy.bucket.address)
    out.document({**told, **attention, **stale, **exit_code})
    out.line(verdict, style="red" if several and several[0].urgency < Urgency.MISSING else "")
    is_summed = out.is_terminal and not context.options.all
    groups = browse.shared(several)
    _show_concerns(context, groups[:CONCERNS_MAX] if is_summed else groups)
    if is_summed and len(groups) > CONCERNS_MAX:
        out.line(f"  and {len(groups) - CONCERNS_MAX} more; --all lists them")
    out.line()
    _show_repositories(out, found, several, now, is_summed=is_summed)
    _show_last_runs(out, found, now)
    for one in copies:
        out.line(_copy(one, now))
    out.warnings(warnings)
    return worst(codes)


def _late(context: Context, found: Status, now: datetime) -> Mapping[str, str]:
    """What has no complete snapshot within `--max-age`."""
    most = context.options.max_age
    return {} if most is None else browse.late(found, most=timedelta(seconds=most), now=now)


def _copies(found: Status, config: Config | None, now: datetime) -> Sequence[CopyStatus]:
    """The copies as the configuration judges them, where it is that of this store."""
    from mirror.browse.freshness import copies_in

    is_its_own = config is not None and config.store.absolute() == Path(found.store).absolute()
    return copies_in(found, config if is_its_own else None, now)


def _show_concerns(context: Context, several: Sequence[Shared]) -> None:
    """What needs attention, each reason once; below the last one of several alike, what to type next."""
    for number, one in enumerate(several):
        more = f" and {len(one.names) - NAMES_MAX} more" if len(one.names) > NAMES_MAX else ""
        names = ", ".join(name for name in one.names[:NAMES_MAX] if name)
        text = f"  {names}{more}{': ' if names else ''}{one.urgency.words}: {one.reason}"
        context.out.line(text, style=_STYLES.get(one.urgency, "red"))
        command = _command(context, one.command)
        following = [_command(context, after.command) for after in several[number + 1 : number + 2]]
        if command and following != [command]:
            context.out.command(f"    → {command}")


def _command(context: Context, command: str) -> str:
    """The command to type, for the store and the configuration that this call is about; empty for none."""
    options = context.options
    if not command or (command.startswith(_CONFIGURED) and context.config_path() is None):
        return ""
    words = ["mirror", *command.split(" ")]
    words += ["-c", str(options.config)] if options.config is not None else []
    words += context.store_words()
    return shlex.join(words)


def _show_repositories(
    out: Output, found: Status, several: Sequence[Concern], now: datetime, *, is_summed: bool
) -> None:
    """The table, the repositories that need attention first, and the lines about them below it."""
    place = {one.name: number for number, one in reversed(list(enumerate(several)))}
    ordered = sorted(found.repositories, key=lambda one: (place.get(one.name, len(several)), one.name))
    well = browse.well(found, several)
    if is_summed and len(well) > WELL_MAX:
        ordered = [one for one in ordered if one.name in place]
    else:
        well = []
    if ordered:
        out.table(_COLUMNS, [_row(one) for one in ordered])
    for one in ordered:
        _show_details(out, one)
    if well:
        when = browse.when_confirmed(well, now)
        out.line(f"{len(well)} repositories are well{f' ({when})' if when else ''}; --all lists them")
    beyond = [(one.name, one.out_of_reach) for one in found.repositories]
    show_out_of_reach(out, beyond + [(one.name, one.out_of_reach) for one in found.workspaces])


def _row(one: RepositoryStatus) -> tuple[object, ...]:
    lacks = (f"{label(part)} ({text.partition(':')[0]})" for part, text in one.missing.items())
    return (
        one.name,
        state_label(one.state),
        one.last_snapshot or "never",
        time_text(one.last_confirmed) if one.last_confirmed else "never",
        one.snapshots,
        size(one.bytes),
        ", ".join(lacks) or "-",
    )


def _show_details(out: Output, one: RepositoryStatus) -> None:
    """What upstream did to a repository, below the table: no failure, but worth knowing."""
    refs, heads = one.lost_refs, one.heads
    if refs.last is not None:
        counts = (("rewritten", refs.rewritten), ("removed", refs.removed))
        counted_refs = " and ".join(f"{number} {how}" for how, number in counts if number)
        text = f"refs upstream: {counted_refs}, the last at {refs.last}; their old values are kept"
        out.line(f"  {one.name}: {text}")
    for text in one.rewritten[:REFS_MAX]:
        out.line(f"  {one.name}: {text}")
    if len(one.rewritten) > REFS_MAX:
        out.line(f"  {one.name}: and {len(one.rewritten) - REFS_MAX} more")
    if any(number for name, number in heads.items() if name != "pinned"):
        counts_text = ", ".join(f"{number} {name}" for name, number in heads.items() if number)
        out.line(f"  {one.name}: heads of pull requests: {counts_text}")


def _show_last_runs(out: Output, found: Status, now: datetime) -> None:
    out.line()
    last = {"backup": found.last_backup, "verify": found.last_verify, "prune": found.last_prune}
    for title, run in ((f"Last {kind}", run) for kind, run in last.items()):
        text = "never"
        if run:
            meaning = meaning_of(run["exit_code"]).partition(":")[0]
            text = f"{run['started']}{_of_some(run)}: {meaning} (exit code {run['exit_code']})"
        out.line(f"{title}: {text}")
    out.line(_last_drill(found.last_drill, now))


def _last_drill(run: JsonObject | None, now: datetime) -> str:
    """The last rehearsed restore: when, how long ago, and its result."""
    if run is None:
        return "Last drill: never; mirror drill rehearses a restore"
    days = (now - time_from_text(run["ended"])).days
    ago = "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"
    result = "; ".join(run["problems"][:1]) or "everything that can come back came back"
    return f"Last drill: {run['started']}, {ago}{_of_some(run)} (exit code {run['exit_code']}): {result}"


def _copy(one: CopyStatus, now: datetime) -> str:
    """A copy in one line: how old it is, and what it lacks."""
    copy = f"Copy at {one.to}"
    if not one.is_made:
        return f"{copy}: never made"
    if one.last_good is None:
        text = "never good"
    else:
        text = f"last good {time_text(one.last_good)}, {age(now - one.last_good)} ago"
    lacks = f"; {one.behind} of {one.folders} folders are not in it as they are now" if one.behind else ""
    failure = f"; {one.failure}" if one.failure else ""
    more = "no longer configured" if one.is_configured is False else _check(one)
    return f"{copy}: {text}{lacks}{failure}; {more}"


def _check(one: CopyStatus) -> str:
    """When a copy was last checked, and how it was then."""
    if one.check is None:
        return "no check of it is recorded"
    how = "read whole" if one.check["facts"].get("read") else "by listing"
    return one.damage or f"checked {one.check['ended']}, {how}: sound"


def _of_some(run: JsonObject) -> str:
    """What a run was of, where it was not of everything."""
    selectors = run.get("selectors", [])
    return f", of {', '.join(selectors)} only" if selectors else ""


def show_out_of_reach(out: Output, several: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """What is unavailable without being a failure: what the credentials can never read, what is gone."""
    lines = browse.summed(several)
    if lines:
        out.line()
        out.line("Not available, which is no failure:")
    for text in lines:
        out.line(f"  {label_first_word(text, ':')}")
    if any("unavailable" in text for text in lines):
        out.line("  (unavailable: credentials of this kind can never read it)")
