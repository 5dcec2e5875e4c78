"""`mirror hooks`."""

from __future__ import annotations

from mirror.cli.commands.budget import SHORT_PATIENCE, borrowing
from mirror.cli.commands.doctor import show_report
from mirror.cli.context import Context


async def run_hooks(context: Context) -> int:
    """`mirror hooks`."""
    from mirror import hooks

    config, options = context.config(), context.options
    async with borrowing(context, config, patience=SHORT_PATIENCE) as budget:
        if options.action == "check":
            report = await hooks.check(
                config, clock=context.clock, environment=context.environment, budget=budget
            )
        else:
            work = hooks.install if options.action == "install" else hooks.remove
            report = await work(
                config, clock=context.clock, environment=context.environment, budget=budget,
                dry_run=options.dry_run,
            )  # fmt: skip
    show_report(context, report)
    return report.exit_code
