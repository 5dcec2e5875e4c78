"""`mirror snapshots`, `show`, `diff` and `export`: the commands that only read the store."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from mirror import browse
from mirror.cli.context import Context
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.progress import Work
from mirror.cli.terminal.table import Column, Fit
from mirror.errors import UsageError, worst
from mirror.model import dumps
from mirror.model.words import counted, label, size

if TYPE_CHECKING:  # what writes pages is read when it is needed
    from mirror.archive import Archived

# What stands for upstream beside a snapshot's id.
UPSTREAM = "upstream"
Written = TypeVar("Written", browse.Exported, "Archived")


async def run_snapshots(context: Context) -> int:
    """`mirror snapshots`: of one repository or workspace each, of several how many there are."""
    selectors = context.selectors()
    if len(selectors) != 1 or selectors[0].is_glob:
        return await _show_kept(context)
    name, found = await asyncio.to_thread(browse.snapshots, context.store(), selectors[0])
    context.out.document({"name": name, "snapshots": [one.to_json() for one in found]})
    context.out.table(
        (
            Column("SNAPSHOT"),
            Column("SEQUENCE", drop=1, is_number=True),
            Column("STATE"),
            Column("HOLDS", Fit.WRAP),
        ),
        [
            (
                one.id,
                one.sequence,
                "complete" if one.is_complete else "partial",
                ", ".join(
                    _held(part, kind, number)
                    for part, held in one.parts.items()
                    for kind, number in held.counts.items()
                    if number
                ),
            )
            for one in found
        ],
    )
    return 0


async def _show_kept(context: Context) -> int:
    """How many snapshots several repositories have."""
    found, damaged = await asyncio.to_thread(browse.kept, context.store(), context.selectors())
    codes = [one.exit_code for one in damaged]
    context.out.document(
        {
            "exit_code": worst(codes),
            "folders": [one.to_json() for one in found],
            "problems": [one.message for one in damaged],
        }
    )
    context.out.table(
        (Column("NAME", Fit.SHORTEN), Column("SNAPSHOTS", is_number=True), Column("OLDEST", drop=2),
         Column("NEWEST"), Column("STATE", drop=1)),
        [
            (one.name, one.snapshots, one.first or "-", one.last or "-", _state(one))
            for one in found
        ],
    )  # fmt: skip
    for one in damaged:
        context.out.line(f"problem: {one.message}", style="yellow")
    return worst(codes)


def _state(one: browse.Kept) -> str:
    return {None: "-", True: "complete", False: "partial"}[one.is_complete]


def _held(part: str, kind: str, number: int) -> str:
    """How many documents of a kind a part of a snapshot has."""
    if kind.startswith("kinds_"):  # settings have many kinds, other parts one
        return counted(number, kind) if part == "settings" else label(f"{part} {kind[len('kinds_') :]}")
    if part == "lfs":
        return f"{size(number)} of LFS" if kind == "bytes" else f"LFS: {counted(number, kind)}"
    return counted(number, kind)


async def run_show(context: Context) -> int:
    """`mirror show`."""
    options = context.options
    if ":" in options.path:
        return await _show_file(context)
    found = await asyncio.to_thread(
        browse.show, context.store(), context.selector(), options.path, at=options.at
    )
    if found.document is None:
        context.out.document(
            {"name": found.name, "snapshot": found.when.snapshot.id, "paths": list(found.listing)}
        )
        for path in found.listing:
            context.out.line(path)
        return 0
    text = dumps(found.document).decode("utf-8")
    if context.out.as_json:
        # The document's text is kept: a JSON reader would round its large numbers.
        head = {"schema": 1, "name": found.name, "snapshot": found.when.snapshot.id, "path": found.path}
        context.out.raw(dumps({**head, "document": found.document}).decode("utf-8"))
    else:
        context.out.raw(text if not context.out.is_terminal else _escaped(text))
    return 0


async def _show_file(context: Context) -> int:
    """`mirror show SELECTOR REF:PATH`."""
    options, out = context.options, context.out
    found = await asyncio.to_thread(
        browse.show_file, context.store(), context.selector(), options.path, at=options.at
    )
    head = {
        "name": found.full_name, "snapshot": found.when.snapshot.id, "ref": found.ref, "commit": found.commit,
        "path": found.path,
    }  # fmt: skip
    if found.names is not None:
        out.document({**head, "names": list(found.names)})
        for name in found.names:
            out.line(name)
    elif out.as_json:
        content = base64.b64encode(b"".join(found.chunks())).decode("ascii")
        out.document({**head, "is_lfs": found.is_lfs, "base64": content})
    elif out.is_terminal:
        _show_on_terminal(out, b"".join(found.chunks()))
    else:
        for chunk in found.chunks():
            out.raw_bytes(chunk)
    return 0


def _show_on_terminal(out: Output, content: bytes) -> None:
    """Text for a terminal. Raises UsageError for anything else."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("this is no text for a terminal", hint="write it to a file: … > FILE") from None
    out.raw("".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text))


def _escaped(text: str) -> str:
    """JSON text for a terminal, with control characters escaped as in JSON."""
    return "".join(sign if sign.isprintable() or sign == "\n" else f"\\u{ord(sign):04x}" for sign in text)


async def run_diff(context: Context) -> int:
    """`mirror diff`."""
    options = context.options
    if UPSTREAM in (options.old, options.new):
        return await _run_diff_upstream(context)
    for word in (options.old, options.new):
        if get_close_matches(word.lower(), [UPSTREAM], 1):
            raise UsageError(f"{word!r} names no snapshot", hint=f"did you mean {UPSTREAM}?")
    found = await asyncio.to_thread(
        browse.diff, context.store(), context.selector(), options.old, options.new
    )
    context.out.document(found.to_json())
    _show_difference(context.out, found)
    return 0


def _show_difference(out: Output, found: browse.Difference) -> None:
    out.line(f"{found.name}: {found.old.snapshot} → {found.new.snapshot}")
    for change in found.refs:
        old, new = (change.old or "-")[:12], (change.new or "-")[:12]
        out.line(f"  {change.kind:<8} {change.what}  {old} → {new}")
    for change in found.documents:
        fields = f"  ({', '.join(change.fields)})" if change.fields else ""
        out.line(f"  {change.kind:<8} {change.what}{fields}")
    if not found.refs and not found.documents:
        out.line("  nothing differs")


async def _run_diff_upstream(context: Context) -> int:
    """`mirror diff` with what upstream has now as one side."""
    from mirror.browse.upstream import diff_upstream
    from mirror.cli.commands.budget import borrowing

    options, out = context.options, context.out
    if options.old == options.new:
        raise UsageError("upstream is compared with a snapshot", hint="name one, such as latest, as A or B")
    is_reversed = options.old == UPSTREAM
    config = context.config()
    with context.progress(Work("browse", "Comparing")) as progress:
        async with borrowing(context, config, reserve=None) as budget:
            found = await diff_upstream(
                config,
                context.selector(),
                options.new if is_reversed else options.old,
                store=context.store(),
                clock=context.clock,
                environment=context.environment,
                budget=budget,
                progress=progress,
                is_reversed=is_reversed,
            )
    out.document(found.to_json())
    _show_difference(out, found.difference)
    for part, reason in found.unread.items():
        out.line(f"  could not be read: {label(part)}: {reason}", style="yellow")
    out.line(f"  not compared: {', '.join(map(label, found.left_out))}")
    return found.exit_code


async def run_export(context: Context) -> int:
    """`mirror export`."""
    options = context.options
    if options.format != "files":
        return await _run_archive(context)
    with context.progress(Work("browse", "Exporting", got="read")) as progress:
        found = await asyncio.to_thread(
            browse.export,
            context.store(),
            context.selector(),
            options.to.absolute(),
            at=options.at,
            report=progress.report,
        )
    return _tell_written(
        context, found, lambda one: {"documents": one.documents, "files": one.files, "refs": one.refs}
    )


async def _run_archive(context: Context) -> int:
    """`mirror export --format html` and `markdown`."""
    from mirror.archive import archive

    options = context.options
    with context.progress(Work("archive", "Writing pages")) as progress:
        found = await asyncio.to_thread(
            archive,
            context.store(),
            context.selector(),
            options.to.absolute(),
            options.format,
            at=options.at,
            report=progress.report,
        )
    code = _tell_written(context, found, lambda one: {"pages": one.pages, "files": one.files})
    first = options.to / ("index.html" if options.format == "html" else "README.md")
    if any(one.is_there for one in found):
        context.out.line(f"Begin at {first}")
    return code


def _tell_written(
    context: Context, found: Sequence[Written], numbers_of: Callable[[Written], Mapping[str, int]]
) -> int:
    """Print what was written for each repository. Returns the exit code."""
    codes = [code for one in found for code, _ in one.problems]
    context.out.document({"exit_code": worst(codes), "items": [one.to_json() for one in found]})
    for one in found:
        verb = "Could not export" if not one.is_there else "Exported in part" if one.problems else "Exported"
        context.out.line(f"{verb} {one.name} to {one.target}")
        if one.when is not None:
            held = ", ".join(counted(number, name) for name, number in numbers_of(one).items())
            context.out.line(f"  as of snapshot {one.when.snapshot.id}: {held}")
        for _, text in one.problems:
            context.out.line(f"  problem: {text}", style="yellow")
    return worst(codes)
