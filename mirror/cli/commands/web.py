"""`mirror web`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from mirror.cli.context import Context


async def run_web(context: Context) -> int:
    """`mirror web`: serve until it is stopped."""
    from mirror.cli.commands.elsewhere import view_of
    from mirror.config import WebConfig, address
    from mirror.store.reading.reader import Store
    from mirror.web import open_page

    config = context.config() if context.config_path() is not None else None
    store = context.store()
    with Store.open(store):
        pass  # an empty or mistyped folder is an error, and no page
    web = (config.web if config is not None else None) or WebConfig(listen=address("127.0.0.1:9321"))
    listen = context.options.listen or web.listen or address("127.0.0.1:9321")
    key = "--listen" if context.options.listen is not None else "web.listen"
    # A copy of a store is no shard.
    cluster = view_of(context, config) if config is not None and store == config.store else None
    page = open_page(
        config, replace(web, listen=listen), store=store, clock=context.clock,
        environment=context.environment, cluster=cluster, key=key,
    )  # fmt: skip
    async with page as there:
        context.out.document({"address": there.text, "url": f"http://{there.text}/", "store": str(store)})
        context.out.line(f"The page of {store}: http://{there.text}/ (Ctrl-C stops it)")
        context.out.flush()
        await asyncio.Event().wait()
    return 0
