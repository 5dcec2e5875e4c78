"""`mirror daemon`."""

from __future__ import annotations

from mirror.cli.context import Context


async def run_daemon(context: Context) -> int:
    """`mirror daemon`."""
    from mirror import daemon
    from mirror.cli.owner import become_owner, secret_files

    loaded = context.config()
    path = context.config_path()
    needed = [*secret_files(loaded), *([path] if path is not None else [])]  # a reload reads it again
    become_owner(loaded.store, "daemon", needed=needed)
    return await daemon.serve(context.config, clock=context.clock, environment=context.environment)
