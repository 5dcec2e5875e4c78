"""`mirror restore --to bitbucket:…`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mirror.cli.context import Context
from mirror.cli.terminal.confirm import confirm
from mirror.errors import MirrorError, UsageError
from mirror.model import Selector
from mirror.restore import PARTS, into
from mirror.restore.carry.journal import state_folder
from mirror.restore.carry.report import Outcome, Report
from mirror.restore.people import load as load_people
from mirror.restore.plan.order import parts_named
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Options, Source
from mirror.restore.secrets import load as load_secrets
from mirror.store.reading.reader import RepositoryFolder


async def run_into(context: Context) -> int:
    """Restore into a workspace of Bitbucket, or print the plan of it."""
    from mirror.bitbucket.client.budget import Budget
    from mirror.connect import client_of, network_of

    options = context.options
    place = into.Place.parse(options.to)
    if options.with_archive is not None:
        raise UsageError("--with-archive is for a git server", hint="use --archive for pages of what is lost")
    store = context.store()
    config = context.config_for(place.workspace)
    entry = config.signing_in_to(place.workspace)
    secrets = load_secrets(options.secrets) if options.secrets is not None else None
    people = load_people(options.people) if options.people is not None else {}
    if options.overwrite and not options.dry_run and not options.yes:
        confirm(f"Change what is different in the workspace {place.workspace}?")
    settings = into.Settings(
        git_url=config.bitbucket.git_url,
        state=state_folder(context.environment),
        at=options.at,
        options=Options(
            only=frozenset() if options.only == PARTS else parts_named(options.only),
            refs=tuple(options.refs),
            overwrite=options.overwrite,
            activate_hooks=options.activate_hooks,
            people=people,
            secrets=secrets.keys if secrets is not None else frozenset(),
            archive=options.archive,
        ),
        secrets=secrets,
        pages=partial(make_pages, store),
        dry_run=options.dry_run,
        environment=context.environment,
        network=await network_of(config, context.environment),
    )
    # A backup leaves a reserve of each hour's requests for this.
    budget = Budget(context.clock, reserve=0, limit=config.limits.api_limit)
    with context.progress() as progress:
        budget.progress = progress
        async with client_of(
            config, entry, clock=context.clock, environment=context.environment, budget=budget
        ) as client:
            found = await into.run(
                store, context.selector(), place, settings, client=client, clock=context.clock,
                progress=progress,
            )  # fmt: skip
    context.out.document(found.to_json())
    show(context, found)
    return found.exit_code


def make_pages(store: Path, source: Source, folder: Path) -> list[tuple[int, str]]:
    """Write the pages of a repository, as of the snapshot that is restored, to a new folder."""
    from mirror.archive import archive

    assert isinstance(source.folder, RepositoryFolder)
    selector = Selector(source.folder.workspace_folder, source.folder.folder)
    done = archive(store, selector, folder, "markdown", at=source.snapshot.id)
    return [problem for one in done for problem in one.problems]


def show(context: Context, found: Report | Planned) -> None:
    """Print a report of a restore to a forge, or the plan of it."""
    selector, out = context.options.selector, context.out
    if isinstance(found, Planned):
        out.line(f"Would restore {selector} to {found.target}", style="green")
        out.lines(found.lines())
        return
    whole = found.exit_code == 0
    verb = "Restored" if whole else "Stopped restoring" if found.stopped is not None else "Restored in part"
    out.line(f"{verb} {selector} to {found.target}", style="green" if whole else "yellow")
    out.lines(found.lines())
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
