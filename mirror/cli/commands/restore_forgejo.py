"""`mirror restore --to forgejo:…`."""

from __future__ import annotations

from pathlib import Path

from mirror.auth.secrets import Secret, SecretSource, read_secret
from mirror.cli.commands.restore_into import show
from mirror.cli.context import Context
from mirror.cli.terminal.confirm import confirm
from mirror.errors import UsageError
from mirror.restore import PARTS, into_forgejo
from mirror.restore.carry.journal import state_folder
from mirror.restore.people import load_names
from mirror.restore.plan.forgejo.order import PARTS as FORGEJO_PARTS
from mirror.restore.plan.order import parts_named
from mirror.restore.plan.source import Options
from mirror.restore.secrets import load as load_secrets
from mirror.restore.session import Settings

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
            hint="without --check, a restore makes what is missing there, and tells what differs",
        )
    store = context.store()
    secrets = load_secrets(options.secrets) if options.secrets is not None else None
    token = await _token(context)
    if options.overwrite and not options.dry_run and not options.yes:
        confirm(f"Change what is different at {place}?")
    network = await context.network()
    settings = Settings(
        state=state_folder(context.environment),
        at=options.at,
        options=Options(
            only=frozenset() if options.only == PARTS else parts_named(options.only, FORGEJO_PARTS),
            refs=tuple(options.refs),
            overwrite=options.overwrite,
            activate_hooks=options.activate_hooks,
            people=load_names(options.people) if options.people is not None else {},
            secrets=secrets.keys if secrets is not None else frozenset(),
        ),
        secrets=secrets,
        dry_run=options.dry_run,
        environment=context.environment,
        network=network,
    )
    with context.progress() as progress:
        async with Client(place.url, token, clock=context.clock, network=network) as client:
            found = await into_forgejo.run(
                store, context.selector(), place, settings, client=client, token=token, clock=context.clock,
                progress=progress,
            )  # fmt: skip
    context.out.document(found.to_json())
    show(context, found)
    return found.exit_code


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
