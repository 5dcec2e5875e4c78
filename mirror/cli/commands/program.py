"""`mirror completion` and `mirror version`: about the program itself."""

from __future__ import annotations

from mirror import __version__
from mirror.cli.context import Context


async def run_completion(context: Context) -> int:
    """`mirror completion`."""
    from mirror.cli import parser

    context.out.raw(parser.completion(context.options.shell))
    return 0


async def run_version(context: Context) -> int:
    """`mirror version`."""
    context.out.document({"version": __version__})
    context.out.line(f"mirror {__version__}")
    return 0
