"""`mirror backup`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from mirror import __version__
from mirror.cli.commands.backup_summary import show
from mirror.cli.commands.notices import notices
from mirror.cli.context import Context
from mirror.cli.terminal.progress import Work
from mirror.store.reading.reader import Store

if TYPE_CHECKING:
    from mirror.config import Config
    from mirror.model import Progress, Run


async def run_backup(context: Context) -> int:
    """`mirror backup`."""
    from mirror import backup
    from mirror.cli.commands.init import make_store
    from mirror.cli.owner import become_owner, secret_files

    options = context.options
    config = context.config()
    if options.init and not options.dry_run:
        make_store(context, config.store)
    if not options.dry_run:
        become_owner(config.store, "backup", needed=secret_files(config))
    async with notices(context, config, "backup") as ended:
        if not options.init:
            Store.open(config.store).close()
        with context.progress(Work("backup", "Backing up")) as progress:
            try:
                if config.cluster is not None:
                    run = await _run_in_cluster(context, config, progress)
                else:
                    run = await backup.run(
                        config,
                        context.selectors(),
                        clock=context.clock,
                        environment=context.environment,
                        full=options.full,
                        dry_run=options.dry_run,
                        lock_wait=options.lock_wait,
                        progress=progress,
                    )
                ended(run)
            except backup.RunCancelled as cancelled:
                run = cancelled.run
        show(context, run, config, progress.picture())
    return run.exit_code


async def _run_in_cluster(context: Context, config: Config, progress: Progress) -> Run:
    """Back up what belongs to this host of a cluster, or list it."""
    from mirror.cluster import by_hand

    if context.options.dry_run:
        return await by_hand.dry_run(
            config, context.selectors(), host=socket.gethostname(), program=__version__,
            clock=context.clock, environment=context.environment,
        )  # fmt: skip
    return await by_hand.run(
        config, context.selectors(), host=socket.gethostname(), program=__version__, clock=context.clock,
        environment=context.environment, full=context.options.full, lock_wait=context.options.lock_wait,
        progress=progress,
    )  # fmt: skip
