"""`mirror daemon`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from mirror.cli.context import Context

if TYPE_CHECKING:
    from mirror.config import Config
    from mirror.model.live import HookEvents, Live


async def run_daemon(context: Context) -> int:
    """`mirror daemon`."""
    from mirror import daemon
    from mirror.cli.commands.elsewhere import view_of
    from mirror.cli.owner import become_owner, secret_files

    loaded = context.config()
    path = context.config_path()
    needed = [*secret_files(loaded), *([path] if path is not None else [])]  # a reload reads it again
    become_owner(loaded.store, "daemon", needed=needed)

    @asynccontextmanager
    async def listeners(config: Config, live: Live, hooks: HookEvents) -> AsyncIterator[None]:
        """What the service listens with, as `config` says."""
        async with AsyncExitStack() as opened:
            if config.web is not None and config.web.listen is not None:
                from mirror.web import open_page

                page = open_page(
                    config, config.web, store=config.store, clock=context.clock,
                    environment=context.environment, live=live, cluster=view_of(context, config),
                )  # fmt: skip
                await opened.enter_async_context(page)
            if config.hooks is not None:
                from mirror.web import open_hooks_door

                door = open_hooks_door(
                    config.hooks, hooks, store=config.store, clock=context.clock,
                    environment=context.environment,
                )  # fmt: skip
                await opened.enter_async_context(door)
            yield

    return await daemon.serve(
        context.config, clock=context.clock, environment=context.environment, listeners=listeners
    )
