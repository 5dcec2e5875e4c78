"""`mirror cluster`: a cluster of hosts, of which this one is one."""

from __future__ import annotations

import shlex
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

from mirror import __version__
from mirror.cli.context import Context
from mirror.cli.owner import become_owner
from mirror.cli.terminal.confirm import confirm
from mirror.cli.terminal.table import Column, Fit
from mirror.config import Config
from mirror.errors import NoStore, UsageError
from mirror.model import Selector, time_text
from mirror.model.words import age, counted, meaning_of

if TYPE_CHECKING:
    from mirror.cluster.database import Database
    from mirror.cluster.mover import Mover
    from mirror.cluster.overview import Overview

_SHARDS = (
    Column("SHARD"), Column("STATE"), Column("SEEN"), Column("REPOSITORIES", is_number=True),
    Column("RUNNING", is_number=True), Column("WAITING", is_number=True),
    Column("WEIGHT", drop=2, is_number=True), Column("HOST", drop=1), Column("COPY", Fit.SHORTEN, drop=3),
)  # fmt: skip


async def run_cluster(context: Context) -> int:
    """`mirror cluster`."""
    return await _ACTIONS[context.options.action](context)


async def _init(context: Context) -> int:
    """Make the schema in the database, or bring it up to date, and register this host's shard."""
    from mirror.cluster.by_hand import join
    from mirror.cluster.database import Database
    from mirror.cluster.schema import migrate

    config = context.config()
    database, has_store = Database.of(config, context.environment), True
    assert config.cluster is not None
    try:
        done = await migrate(database)
        try:
            await join(database, config, socket.gethostname(), __version__)
        except NoStore:
            has_store = False
    finally:
        await database.close()
    context.out.document(
        {
            "schema": 1, "cluster": done.cluster, "applied": list(done.applied), "registered": has_store,
            "exit_code": 0,
        }
    )  # fmt: skip
    if done.applied:
        context.out.line(f"The cluster's database is ready: {done.cluster}.", style="green")
    else:
        context.out.line(f"The cluster's database was ready: {done.cluster}.")
    if has_store:
        daemon = shlex.join(["mirror", "daemon", "-c", str(context.config_path()), *context.store_words()])
        context.out.line(f"This host is its shard {config.cluster.shard}.")
        context.out.command(f"Next, when this has run on every host: {daemon}")
    else:
        context.out.line(
            f"{config.store} is no store yet: run mirror init, then mirror cluster init again, before the"
            " first daemon starts",
            style="yellow",
        )
    return 0


async def _status(context: Context) -> int:
    from mirror.cluster.database import Database
    from mirror.cluster.overview import overview
    from mirror.cluster.schema import check
    from mirror.connect import places_of

    config = context.config()
    database = Database.of(config, context.environment)
    places, unread = await places_of(config, environment=context.environment, clock=context.clock)
    try:
        async with database.session() as connection:
            await check(connection)
            found = await overview(connection, places)
    finally:
        await database.close()
    context.out.document({**found.to_json(), "credentials_unread": unread})
    _show(context, found)
    context.out.warnings(f"{one}; its requests are shown under a hash" for one in unread)
    return found.exit_code


def _show(context: Context, found: Overview) -> None:
    out = context.out
    out.table(
        _SHARDS,
        [
            (
                one.shard.name, one.state, f"{age(timedelta(seconds=one.shard.age))} ago",
                str(one.repositories), str(one.running), str(one.waiting), str(one.shard.weight),
                one.shard.host, one.shard.copy_to or "none",
            )
            for one in found.shards
        ],
    )  # fmt: skip
    if found.homeless:
        noun = "repository is on its" if found.homeless == 1 else "repositories are on their"
        out.line(f"{found.homeless} {noun} way from one shard to another.")
    for budget in found.budgets:
        limit = "an unknown limit" if budget.limit is None else f"{budget.limit:,}"
        whose = budget.credential or f"a credential of other hosts ({budget.identity[:8]})"
        out.line(f"requests ({budget.group}) of {whose}: {budget.used:,} of {limit} in this hour")
    for text in found.concerns:
        out.line(f"  {text}", style="yellow")
    for move in found.moves:
        if not move["problem"]:
            out.line(f"  {move['full_name']}: {move['source']} → {move['target']}, {move['state']}")
    result = "something stands in the way: see above" if found.exit_code == 3 else meaning_of(found.exit_code)
    out.line(f"The cluster: {result}.", style="green" if found.exit_code == 0 else "yellow")


async def _move(context: Context) -> int:
    options = context.options
    if (options.selector is None) == (options.source is None):
        raise UsageError(
            "name either what is to move, or the shard that is dead",
            hint="mirror cluster move acme/website --to b, or mirror cluster move --from a",
        )
    config = context.config()
    from mirror.cluster.database import Database

    database = Database.of(config, context.environment)
    try:
        if options.source is not None:
            return await _give_up(context, database)
        return await _move_selected(context, config, database)
    finally:
        await database.close()


async def _move_selected(context: Context, config: Config, database: Database) -> int:
    """Move what a selector names from hosts that live."""
    from mirror.cluster import moving
    from mirror.cluster.mover import Mover

    options, selector = context.options, Selector.parse(context.options.selector)
    if options.to is None:
        raise UsageError("it is not said where to", hint="add --to SHARD")
    async with database.transaction() as connection:
        target = await moving.shard_called(connection, options.to)
        chosen = await moving.placed(connection, selector)
        going = await moving.moves_of(connection, selector)
        if not chosen and not going:
            raise UsageError(f"no shard has a repository that {str(selector)!r} matches")
        asked = await moving.ask(connection, chosen, target)
    uuids = [*(one.uuid for one in asked), *(one.uuid for one in going)]
    if not uuids:
        context.out.document({"schema": 1, "moves": [], "exit_code": 0})
        context.out.line(f"{selector}: {options.to} has it already")
        return 0
    mover = None
    if options.identity:
        from mirror.copy.coding import read_identities

        if config.cluster is None or config.cluster.shard != options.to:
            raise UsageError(f"--identity is of use on the host of {options.to} alone", hint="run it there")
        identities = await read_identities(options.identity)
        mover = Mover(database, config, options.to, context.clock, context.environment, identities=identities)
    return await _follow(context, database, uuids, mover)


async def _follow(context: Context, database: Database, uuids: list[str], mover: Mover | None) -> int:
    """Wait until moves have ended, or wait for somebody."""
    from mirror.cluster import moving

    while True:
        if mover is not None:
            await mover.tend()
        async with database.session() as connection:
            found = await moving.moves(connection, uuids)
        if all(one.state in ("arrived", "failed") or one.problem for one in found) or context.options.no_wait:
            break
        await context.clock.sleep(_POLL_SECONDS)
    is_well = all(one.state == "arrived" for one in found)
    code = 0 if is_well or context.options.no_wait else 3
    context.out.document({"schema": 1, "moves": [one.to_json() for one in found], "exit_code": code})
    for one in found:
        text = f"{one.full_name}: {one.source} → {one.target}: {one.state}"
        if one.copied is not None and one.is_dead:
            text += f", as it was in the copy of {time_text(one.copied)}"
        context.out.line(
            text + (f": {one.problem}" if one.problem else ""), style="" if is_well else "yellow"
        )
    return code


async def _give_up(context: Context, database: Database) -> int:
    """Call a host dead, and bring what it had to others."""
    from mirror.cluster import moving

    options = context.options
    async with database.session() as connection:
        source = await moving.shard_called(connection, options.source)
        held = await moving.placed(connection, shard=source.name)
    if not options.yes:
        seen = age(timedelta(seconds=source.age))
        how = "as its copy has it" if source.copy_to else "though there is no copy of it"
        confirm(
            f"Is the host of {source.name} dead for good? It was last seen {seen} ago. It takes no part any"
            f" more, and what it has goes to other shards, {how}: {counted(len(held), 'repositories')}."
        )
    async with database.transaction() as connection:
        if options.to is not None:
            await moving.shard_called(connection, options.to)
        moved, left = await moving.give_up(connection, source, afresh=options.afresh, target=options.to)
        anew = await moving.start_afresh(connection, source.name) if options.afresh else []
    if left and not options.afresh:
        context.out.document(
            {"schema": 1, "moves": [], "without_copy": [one.full_name for one in left], "exit_code": 3}
        )
        for one in left:
            context.out.line(f"{one.full_name}: there is no copy of it", style="yellow")
        context.out.line(
            "Bring their folders by rsync and run mirror cluster adopt FOLDER on a shard, or have them"
            f" mirrored anew, without their old snapshots: mirror cluster move --from {source.name} --afresh"
        )
        return 3
    for name in [*anew, *(one.full_name for one in left)]:
        context.out.line(f"{name}: will be mirrored anew by the next backup; its old snapshots are lost")
    return await _follow(context, database, [one.uuid for one in moved], None)


async def _adopt(context: Context) -> int:
    """Take a folder that somebody brought into this shard's store."""
    config, folder = context.config(), context.options.folder.absolute()
    from mirror.cluster import carrying, moving
    from mirror.cluster.database import Database
    from mirror.store.writing.moving import uuid_of_folder

    become_owner(config.store, "cluster adopt")
    uuid = uuid_of_folder(folder).lower()
    database = Database.of(config, context.environment)
    assert config.cluster is not None
    try:
        async with database.session() as connection:
            await moving.check_free(connection, uuid, config.cluster.shard)
        run = await carrying.adopt(config.store, folder, clock=context.clock, environment=context.environment)
        async with database.transaction() as connection:
            await moving.take_over(connection, config.store, uuid, config.cluster.shard)
    finally:
        await database.close()
    code = 0 if run is None else run.exit_code
    name = "It" if run is None else run.entries[0].full_name
    context.out.document({"schema": 1, "uuid": uuid, "exit_code": code})
    context.out.line(f"{name} is verified, and belongs to {config.cluster.shard}.", style="green")
    return code


_POLL_SECONDS = 1.0
_ACTIONS = {"init": _init, "status": _status, "move": _move, "adopt": _adopt}
