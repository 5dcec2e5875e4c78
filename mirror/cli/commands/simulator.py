"""`mirror simulator`."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from mirror.cli.context import Context

# The workspace that restores are tried on, and the member of the sample world who tries them.
_EMPTY = "acme-restored"
_EMAIL = "ann@acme.example"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def run_simulator(context: Context) -> int:
    """`mirror simulator`."""
    from mirror.simulator import EVERY_SCOPE, Simulator, World
    from mirror.simulator.world.sample import SCOPES, SLUG, populate

    options = context.options
    with tempfile.TemporaryDirectory(prefix="mirror-simulator-") as temporary:
        root = Path(options.data or temporary).absolute()
        world = World.load(root) if options.data else None
        if world is None:
            world = World(root)
            populate(world)
            world.add_workspace(_EMPTY)
            world.add_workspace_access_token(SLUG, SCOPES)
            world.add_api_token(world.users[_EMAIL], EVERY_SCOPE)
            world.save()
        reading = next(one.secret for one in world.tokens if one.kind == "workspace_access_token")
        writing = next(one.secret for one in world.tokens if one.kind == "api_token")
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        with Simulator(world, port=options.port, tell=_tell) as running:
            # Printed although they are tokens: they are only valid for this simulator.
            context.out.raw(
                f"# A simulated Bitbucket with the workspace {SLUG}, and {_EMPTY}, an empty one.\n"
                "# Press Ctrl-C to stop.\n"
                "# Put this into config.yaml, then:\n"
                f"# BITBUCKET_TOKEN={reading} mirror -c config.yaml backup --init\n"
                f"# RESTORE_TOKEN={writing} mirror -c config.yaml restore {SLUG} --to bitbucket:{_EMPTY}\n"
                "store: ./backup\n"
                f"bitbucket: {{api_url: '{running.api_url}', git_url: '{running.git_url}',"
                f" oauth_url: '{running.oauth_url}'}}\n"
                "network: {proxy: none}\n"
                f"credential: {{kind: api_token, email: {_EMAIL}, token: {{env: RESTORE_TOKEN}}}}\n"
                f"workspaces:\n  - workspace: {SLUG}\n"
                "    credential: {kind: workspace_access_token, token: {env: BITBUCKET_TOKEN}}\n"
            )
            context.out.flush()
            await stop.wait()
        if options.data:
            world.save()
    return 0
