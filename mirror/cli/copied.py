"""`--store s3://…`: commands that read work on a copy as on a store, which is made while they run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mirror.bucket.address import Address
from mirror.cli.context import Context, Copied
from mirror.cli.terminal.output import plain
from mirror.cli.terminal.progress import Work
from mirror.errors import UsageError, worst
from mirror.model import Selector

if TYPE_CHECKING:
    from pathlib import Path

    from mirror.config.copies import CopyConfig
    from mirror.copy.lending import Lending
    from mirror.copy.reading import Copy

# The commands that only read a store, and so work on a copy.
READING = frozenset(
    {"verify", "restore", "drill", "status", "snapshots", "show", "find", "diff", "export"}
)  # fmt: skip
# So many folders are verified at a time.
_AT_ONCE = 2


@asynccontextmanager
async def open_copy(
    context: Context,
    address: Address,
    changed: Callable[[CopyConfig], CopyConfig] = lambda one: one,
    selectors: Sequence[Selector] = (),
) -> AsyncIterator[Copy]:
    """The copy at `address`, with the keys of --identity, as of --as-of; `changed` gives its entry in the
    configuration other credentials than those of the environment, else its own. `selectors`: what will be
    read of it. Raises as reading it does."""
    from mirror.connect.copies import copy_of, open_bucket, to_read
    from mirror.copy.coding import read_identities
    from mirror.copy.reading import Copy

    options = context.options
    config = context.config_in_file()
    identities = await read_identities(options.identity)
    one = changed(to_read(copy_of(config, address, context.environment), context.environment))
    async with open_bucket(one, config, context.environment, context.clock) as bucket:
        yield await Copy.open(bucket, identities, as_of=options.as_of, selectors=selectors)


async def on_copy(context: Context, command: Callable[[Context], Awaitable[int]]) -> int:
    """Run a command on the copy that --store names. Raises UsageError for one that needs a real store."""
    options = context.options
    address: Address = options.store
    _check(options, address)
    async with (
        open_copy(context, address, selectors=_selectors(options)) as copy,
        _store(context, copy) as (store, lending),
    ):
        inner = argparse.Namespace(**{**vars(options), "store": store})
        code = await command(replace(context, options=inner, copied=Copied(copy, lending)))
        if copy.lost and lending is None:
            for text in copy.lost.values():
                sys.stderr.write(f"mirror: {plain(text)}\n")
            return worst([code, 4])
        return code


def _check(options: argparse.Namespace, address: Address) -> None:
    if options.command not in READING:
        raise UsageError(
            f"mirror {options.command} needs a store in a folder, and {address} is a copy",
            hint=f"make the store again: mirror copy --from {address} --to DIR",
        )
    if options.command == "verify" and (options.share != 1 or options.resume):
        raise UsageError(
            "--share and --resume need a store that remembers what was verified",
            hint="leave them out, or name a repository",
        )


def _selectors(options: argparse.Namespace) -> list[Selector]:
    texts = options.selectors if hasattr(options, "selectors") else [options.selector]
    return [Selector.parse(text) for text in texts]


@asynccontextmanager
async def _store(context: Context, copy: Copy) -> AsyncIterator[tuple[Path, Lending | None]]:
    """The temporary store that the command reads; to verify, one to which each folder is lent."""
    from mirror.copy.lending import is_about_refs, lending, lent

    options, environment = context.options, context.environment
    selectors = _selectors(options)
    async with AsyncExitStack() as held:
        with context.progress(Work("copy", "Reading the copy", got="read")) as progress:
            if options.command == "verify":
                only = is_about_refs if options.level == "refs" else None
                found = await held.enter_async_context(
                    lending(
                        copy, selectors,
                        environment=environment, progress=progress, at_once=_AT_ONCE, only=only,
                    )
                )  # fmt: skip
                store, lends = found.store, found
            else:
                only = is_about_refs if options.command == "snapshots" else None
                store, lends = (
                    await held.enter_async_context(
                        lent(copy, selectors, environment=environment, progress=progress, only=only)
                    ),
                    None,
                )
        yield store, lends
