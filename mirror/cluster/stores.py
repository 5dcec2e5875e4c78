"""What a host's own store says of its shard, and of what it holds."""

from __future__ import annotations

from mirror.backup.context import ignore_damage
from mirror.cluster.placement import Named
from mirror.cluster.shards import Me
from mirror.config import Config
from mirror.store.reading.reader import Store, current_workspace


def me_of(config: Config, host: str, program: str, interval: float | None) -> Me:
    """This host's shard, as its configuration and its store say. Raises NoStore."""
    assert config.cluster is not None
    with Store.open(config.store) as store:
        store_id = store.id
    copies = tuple(one.to for one in config.copies)
    return Me(config.cluster.shard, config.cluster.weight, store_id, host, program, copies, interval)


def held_by(config: Config) -> list[Named]:
    """What the store holds: each repository once, in the workspace where it is now."""
    found: dict[str, Named] = {}
    with Store.open(config.store) as store:
        workspaces = store.workspaces(on_damage=ignore_damage)
        for one in store.repositories(on_damage=ignore_damage):
            home = current_workspace(one, workspaces)
            found[one.uuid.lower()] = Named(one.uuid.lower(), home.uuid if home else "", one.full_name)
    return list(found.values())
