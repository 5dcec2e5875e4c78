"""`mirror restore --to bitbucket:…`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mirror.cli.commands.budget import borrowing
from mirror.cli.commands.restore_to_forge import confirm_overwrite, finish, secrets_of, settings_of
from mirror.cli.context import Context
from mirror.cli.terminal.progress import Work
from mirror.errors import UsageError
from mirror.model import Selector
from mirror.restore import into
from mirror.restore.people import Known
from mirror.restore.people import load as load_people
from mirror.restore.plan.source import Source
from mirror.store.reading.reader import RepositoryFolder


async def run_into(context: Context) -> int:
    """Restore into a workspace of Bitbucket, or print the plan of it."""
    from mirror.connect import client_of, network_of

    options = context.options
    place = into.Place.parse(options.to)
    if options.with_archive is not None:
        raise UsageError("--with-archive is for a git server", hint="use --archive for pages of what is lost")
    store = context.store()
    config = context.config_for(place.workspace)
    entry = config.signing_in_to(place.workspace)
    secrets = secrets_of(context)
    people = load_people(options.people) if options.people is not None else Known({})
    confirm_overwrite(context, f"Change what is different in the workspace {place.workspace}?")
    settings = settings_of(
        context, secrets=secrets, people=people, network=await network_of(config, context.environment),
        pages=partial(make_pages, store),
    )  # fmt: skip
    with context.progress(Work("restore", "Restoring", unit="steps")) as progress:
        async with borrowing(context, config) as budget, client_of(
            config, entry, clock=context.clock, environment=context.environment, budget=budget,
            progress=progress,
        ) as client:  # fmt: skip
            found = await into.run(
                store, context.selector(), place, settings, client=client,
                git_url=config.bitbucket.git_url, clock=context.clock, progress=progress,
            )  # fmt: skip
    return finish(context, found, people.warnings)


def make_pages(store: Path, source: Source, folder: Path) -> list[tuple[int, str]]:
    """Write the pages of a repository, as of the snapshot that is restored, to a new folder."""
    from mirror.archive import archive

    assert isinstance(source.folder, RepositoryFolder)
    selector = Selector(source.folder.workspace_folder, source.folder.folder)
    done = archive(store, selector, folder, "markdown", at=source.snapshot.id)
    return [problem for one in done for problem in one.problems]
