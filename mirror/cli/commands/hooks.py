"""`mirror hooks`."""

from __future__ import annotations

from mirror.cli.commands.doctor import show_report
from mirror.cli.context import Context


async def run_hooks(context: Context) -> int:
    """`mirror hooks`."""
    from mirror import hooks

    config, options = context.config(), context.options
    if options.action == "check":
        report = await hooks.check(config, clock=context.clock, environment=context.environment)
    else:
        work = hooks.install if options.action == "install" else hooks.remove
        report = await work(
            config, clock=context.clock, environment=context.environment, dry_run=options.dry_run
        )
    show_report(context, report)
    return report.exit_code
