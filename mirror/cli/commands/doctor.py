"""`mirror doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirror.cli.commands.budget import SHORT_PATIENCE, borrowing
from mirror.cli.context import Context

if TYPE_CHECKING:
    from mirror.doctor.checks import Report


async def run_doctor(context: Context) -> int:
    """`mirror doctor`."""
    from mirror import doctor

    loaded = context.config()
    out = context.out
    if context.options.record is not None:
        async with borrowing(context, loaded, patience=SHORT_PATIENCE) as budget:
            done = await doctor.record(
                loaded, context.options.record, clock=context.clock, environment=context.environment,
                budget=budget,
            )  # fmt: skip
        out.document({"recorded": [str(path) for path in done.written], "missing": done.missing})
        for path in done.written:
            out.line(path)
        for name, reason in done.missing.items():
            out.line(f"missing: {name}: {reason}", style="yellow")
        out.line(f"{len(done.written)} redacted responses. Read them before you share them.")
        return done.exit_code
    async with borrowing(context, loaded, patience=SHORT_PATIENCE) as budget:
        report = await doctor.run(
            loaded,
            clock=context.clock,
            environment=context.environment,
            budget=budget,
            test_notices=context.options.notify,
        )
    if loaded.cluster is not None:
        from mirror.cluster.soundness import look
        from mirror.doctor.checks import Check, Report

        looked = await look(loaded, context.environment, context.clock)
        checks = [Check("cluster", one.state, one.text, one.remedy, one.code) for one in looked]
        report = Report((*report.checks, *checks))
    show_report(context, report)
    return report.exit_code


def show_report(context: Context, report: Report) -> None:
    """Print checks: what is not well, and what to do about it."""
    out = context.out
    out.document(report.to_json())
    for check in report.checks:
        style = {"ok": "green", "warn": "yellow", "fail": "red"}[check.state]
        out.line(f"{check.state:<5} {check.name}: {check.text}", style=style)
        if check.remedy and check.state != "ok":
            out.line(f"      → {check.remedy}")
