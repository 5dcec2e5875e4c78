"""Notices and pings about a run by hand, and the metrics after it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.cli.context import Context
from mirror.model import Run, RunKind

if TYPE_CHECKING:
    from mirror.config import Config

# A command that is stopped waits so long, in seconds, for what is being sent.
STOPPED_SECONDS = 1.0


def config_about(context: Context, store: Path) -> Config | None:
    """The configuration for a run over `store`; None where it is about another store, of which this one may
    be a copy."""
    config = context.config_if_any()
    return config if config is not None and config.store == store else None


@asynccontextmanager
async def notices(
    context: Context, config: Config | None, kind: RunKind
) -> AsyncIterator[Callable[[Run], None]]:
    """Send notices and pings about the run in this block, as `config` says, and write the metrics; without
    one, neither.

    Yields a function to call with the finished run. Leaving the block waits, in bounded time, until
    everything is sent.
    """
    tries_only = getattr(context.options, "dry_run", False)
    if config is None or tries_only or (config.notify, config.ping, config.web) == (None, None, None):
        yield lambda _: None
        return
    from mirror.connect.notices import FINISH_SECONDS, Notices

    selectors = context.selectors()
    telling = Notices(config, clock=context.clock, environment=context.environment, host=socket.gethostname())
    telling.began(kind, selectors)
    wait = STOPPED_SECONDS

    def ended(run: Run) -> None:
        nonlocal wait
        wait = FINISH_SECONDS
        telling.ended(kind, run, selectors)

    try:
        yield ended
    except Exception as error:
        telling.ended(kind, error, selectors)
        wait = FINISH_SECONDS
        raise
    finally:
        if config.web is not None and config.web.textfile is not None:
            from mirror.browse.figures import figures
            from mirror.metrics import textfile

            textfile.update(config.web.textfile, lambda: figures(config.store, config))
        await telling.finish(wait)
