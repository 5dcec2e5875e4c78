"""`mirror restore --to forgejo:…`."""

from __future__ import annotations

from pathlib import Path

from mirror.auth.secrets import Secret, SecretSource, read_secret
from mirror.cli.commands.restore_to_forge import confirm_overwrite, finish, secrets_of, settings_of
from mirror.cli.context import Context
from mirror.cli.terminal.progress import Work
from mirror.errors import UsageError
from mirror.restore import into_forgejo
from mirror.restore.people import Known, load_names
from mirror.restore.plan.forgejo.order import PARTS as FORGEJO_PARTS

TOKEN, TOKEN_FILE = "FORGEJO_TOKEN", "FORGEJO_TOKEN_FILE"


async def run_forgejo(context: Context) -> int:
    """Restore into an organisation or a user's place of a Forgejo, or print the plan of it."""
    from mirror.forgejo.client import Client

    options = context.options
    place = into_forgejo.Place.parse(options.to)
    if options.with_archive is not None or options.archive is not None:
        raise UsageError(
            "--archive and --with-archive are not for a Forgejo",
            hint="there, closed pull requests come as issues; mirror export makes pages",
        )
    if options.check:
        raise UsageError(
            "--check compares with Bitbucket only",
            hint="without --check, a restore makes what is missing there, and lists what differs",
        )
    store = context.store()
    secrets = secrets_of(context)
    token = await _token(context)
    confirm_overwrite(context, f"Change what is different at {place}?")
    network = await context.network()
    people = load_names(options.people) if options.people is not None else Known({})
    settings = settings_of(context, secrets=secrets, people=people, network=network, parts=FORGEJO_PARTS)
    with context.progress(Work("restore", "Restoring", unit="steps")) as progress:
        async with Client(place.url, token, clock=context.clock, network=network) as client:
            found = await into_forgejo.run(
                store, context.selector(), place, settings, client=client, token=token, clock=context.clock,
                progress=progress,
            )  # fmt: skip
    return finish(context, found, people.warnings)


async def _token(context: Context) -> Secret:
    """The token. Raises UsageError where there is none."""
    environment = context.environment
    if environment.get(TOKEN):
        source = SecretSource("env", TOKEN)
    elif path := environment.get(TOKEN_FILE):
        source = SecretSource("file", str(Path(path).absolute()))
    else:
        raise UsageError(
            f"there is no token for the Forgejo: {TOKEN} is not set",
            hint=f"set {TOKEN}, or {TOKEN_FILE} to the path of a file with the token",
        )
    return await read_secret(source, environment=environment)
