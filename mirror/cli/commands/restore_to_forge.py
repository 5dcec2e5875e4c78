"""What the commands that restore to a forge have in common: their options, and what they print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mirror.cli.context import Context
from mirror.cli.terminal.confirm import confirm
from mirror.errors import MirrorError
from mirror.http.network import Network
from mirror.restore import PARTS
from mirror.restore.carry.journal import state_folder
from mirror.restore.carry.pages import MakePages
from mirror.restore.carry.report import Outcome, Report
from mirror.restore.plan.order import PARTS as BITBUCKET_PARTS
from mirror.restore.plan.order import parts_named
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Options
from mirror.restore.secrets import SecretsFile
from mirror.restore.secrets import load as load_secrets
from mirror.restore.session import Settings


def secrets_of(context: Context) -> SecretsFile | None:
    """The file that `--secrets` names; None without it. Raises ConfigError."""
    path = context.options.secrets
    return load_secrets(path) if path is not None else None


def confirm_overwrite(context: Context, question: str) -> None:
    """Ask before `--overwrite` changes anything."""
    options = context.options
    if options.overwrite and not options.dry_run and not options.yes:
        confirm(question)


def settings_of(
    context: Context,
    *,
    secrets: SecretsFile | None,
    people: Mapping[str, str],
    network: Network,
    parts: frozenset[str] = BITBUCKET_PARTS,
    pages: MakePages | None = None,
) -> Settings:
    """How to restore, as the command line says; `parts` are those that the forge takes. Raises UsageError."""
    options = context.options
    return Settings(
        state=state_folder(context.environment),
        at=options.at,
        options=Options(
            only=frozenset() if options.only == PARTS else parts_named(options.only, parts),
            refs=tuple(options.refs),
            overwrite=options.overwrite,
            activate_hooks=options.activate_hooks,
            people=people,
            secrets=secrets.keys if secrets is not None else frozenset(),
            archive=options.archive,
        ),
        secrets=secrets,
        pages=pages,
        dry_run=options.dry_run,
        environment=context.environment,
        network=network,
    )


def finish(context: Context, found: Report | Planned, warnings: Sequence[str]) -> int:
    """Print the report of a restore, or its plan; returns the exit code."""
    context.out.document({**found.to_json(), "warnings": list(warnings)})
    _show(context, found)
    context.out.warnings(warnings)
    return found.exit_code


def _show(context: Context, found: Report | Planned) -> None:
    selector, out = context.options.selector, context.out
    if isinstance(found, Planned):
        out.line(f"Would restore {selector} to {found.target}", style="green")
        out.lines(found.lines())
        return
    whole = found.exit_code == 0
    verb = "Restored" if whole else "Stopped restoring" if found.stopped is not None else "Restored in part"
    out.line(f"{verb} {selector} to {found.target}", style="green" if whole else "yellow")
    out.lines(found.lines(is_summed=out.is_terminal))
    if out.is_terminal and found.losses:
        out.line("  (--dry-run lists each thing that does not come back)")
    out.line(f"  {found.requests} requests, {found.seconds:.1f} s")
    if found.stopped is not None:
        out.lines(_stopped(found.stopped))
    elif not whole:
        out.line(f"  to do: {_remedy(found)}")


def _remedy(found: Report) -> str:
    """What to do about a restore that is incomplete."""
    if not found.problems and all(one.outcome is Outcome.DIFFERS for one in found.owed):
        return "what differs was left; to change it, run the same command with --overwrite"
    return "repair what was refused, and run the same command again: it goes on from there"


def _stopped(error: MirrorError) -> list[str]:
    hint = f" ({error.hint})" if error.hint else ""
    return [f"  stopped: {error.message}{hint}", "  to do: run the same command again: it goes on from there"]
