"""`mirror simulator`."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path

from mirror.cli.context import Context


async def run_simulator(context: Context) -> int:
    """`mirror simulator`."""
    from mirror.simulator import Simulator, World
    from mirror.simulator.world.sample import SCOPES, SLUG, populate

    options = context.options
    with tempfile.TemporaryDirectory(prefix="mirror-simulator-") as temporary:
        root = Path(options.data or temporary).absolute()
        world = World.load(root) if options.data else None
        if world is None:
            world = World(root)
            populate(world)
            world.add_workspace_access_token(SLUG, SCOPES)
            world.save()
        token = next(one.secret for one in world.tokens if one.kind == "workspace_access_token")
        with Simulator(world, port=options.port) as running:
            # Printed although it is a token: it is only valid for this simulator.
            context.out.raw(
                f"# A simulated Bitbucket with the workspace {SLUG}. Press Ctrl-C to stop.\n"
                "# Put this into config.yaml, then:\n"
                f"# BITBUCKET_TOKEN={token} mirror -c config.yaml backup --init\n"
                "store: ./backup\n"
                f"bitbucket: {{api_url: '{running.api_url}', git_url: '{running.git_url}',"
                f" oauth_url: '{running.oauth_url}'}}\n"
                "network: {proxy: none}\n"
                f"workspaces:\n  - workspace: {SLUG}\n"
                "    credential: {kind: workspace_access_token, token: {env: BITBUCKET_TOKEN}}\n"
            )
            context.out.flush()
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, stop.set)
            await stop.wait()
        if options.data:
            world.save()
    return 0
