"""`daemon`, `doctor`, `config`, `completion`, `version`, `simulator`."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from pathlib import Path

from mirror import __version__
from mirror.cli.context import Context
from mirror.errors import ConfigError


async def run_daemon(context: Context) -> int:
    """`mirror daemon`."""
    from mirror import daemon
    from mirror.cli.owner import become_owner, secret_files

    loaded = context.config()
    path = context.config_path()
    needed = [*secret_files(loaded), *([path] if path is not None else [])]  # a reload reads it again
    become_owner(loaded.store, "daemon", needed=needed)
    return await daemon.serve(context.config, clock=context.clock, environment=context.environment)


async def run_doctor(context: Context) -> int:
    """`mirror doctor`."""
    from mirror import doctor

    loaded = context.config()
    out = context.out
    if context.options.record is not None:
        done = await doctor.record(
            loaded, context.options.record, clock=context.clock, environment=context.environment
        )
        out.document({"recorded": [str(path) for path in done.written], "missing": done.missing})
        for path in done.written:
            out.line(path)
        for name, reason in done.missing.items():
            out.line(f"missing: {name}: {reason}", style="yellow")
        out.line(f"{len(done.written)} redacted answers. Read them before you share them.")
        return done.exit_code
    report = await doctor.run(loaded, clock=context.clock, environment=context.environment)
    out.document(report.to_json())
    for check in report.checks:
        style = {"ok": "green", "warn": "yellow", "fail": "red"}[check.state]
        out.line(f"{check.state:<5} {check.name}: {check.text}", style=style)
        if check.remedy and check.state != "ok":
            out.line(f"      → {check.remedy}")
    return report.exit_code


async def run_config(context: Context) -> int:
    """`mirror config check|schema|show`."""
    from mirror import config

    action = context.options.action
    if action == "schema":
        context.out.raw(json.dumps(config.json_schema(), indent=2))
        return 0
    loaded = context.config()
    if action == "show":
        context.out.document({"source": str(loaded.source), "config": config.in_force(loaded)})
        if not context.out.as_json:
            context.out.raw(config.show(loaded))
        return 0
    near = config.expiring(loaded, context.clock.now().date())
    if lapsed := [fault for left, fault in near if left < 0]:
        raise ConfigError(str(loaded.source or "the configuration"), lapsed)
    names = [one.workspace or "every workspace of the credential" for one in loaded.workspaces]
    warnings = context.expiring(loaded)
    context.out.document(
        {
            "source": str(loaded.source),
            "store": str(loaded.store),
            "workspaces": names,
            "warnings": warnings,
        }
    )
    context.out.warnings(warnings)
    context.out.line(f"{loaded.source}: no faults. Backs up {', '.join(names)} to {loaded.store}.")
    return 0


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
            # A made-up credential of a made-up server: it is shown, because it is for trying.
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
