"""`mirror find`."""

from __future__ import annotations

import asyncio
import shlex

from mirror.browse.find import Found, Hit, Matcher, find
from mirror.cli.context import Context
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.progress import Work
from mirror.model.words import counted


async def run_find(context: Context) -> int:
    """`mirror find`."""
    options = context.options
    matcher = Matcher(options.text, is_regex=options.regex)
    with context.progress(Work("find", "Searching", got="read")) as progress:
        found = await asyncio.to_thread(
            find,
            context.store(),
            matcher,
            context.selectors(),
            kinds=options.kinds,
            at=options.at,
            most=options.limit,
            progress=progress,
        )
    context.out.document(found.to_json())
    for hit in found.hits:
        _show(context, hit)
    for _, text in found.problems:
        context.out.line(f"problem: {text}", style="yellow")
    _show_end(context.out, found)
    return found.exit_code


def _show(context: Context, hit: Hit) -> None:
    """What was found, in which snapshots, and the command that shows it."""
    out, options = context.out, context.options
    out.line(f"{hit.name}: {hit.what}: {hit.excerpt}")
    words = ["mirror", "show", hit.name, hit.path]
    if options.at is None:
        span = hit.first if hit.snapshots == 1 else f"{hit.first} to {hit.last}"
        gone = "" if hit.is_latest else "; no longer in the latest"
        out.line(f"  in {counted(hit.snapshots, 'snapshots')}, {span}{gone}")
    if options.at is not None or not hit.is_latest:
        words += ["--at", hit.last]
    words += ["-c", str(options.config)] if options.config is not None else []
    words += context.store_words()
    out.command(f"  → {shlex.join(words)}")


def _show_end(out: Output, found: Found) -> None:
    many = f"{found.snapshots} snapshots of {counted(found.folders, 'repositories and workspaces')}"
    if found.is_cut:
        out.line(f"There is more: these are the first {len(found.hits)}. Name a repository, or give --limit.")
    elif found.hits:
        out.line(f"Found {counted(len(found.hits), 'places')} in {many}.")
    else:
        out.line(f"Found nothing in {many}.")
