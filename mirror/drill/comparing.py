"""Comparing the snapshots of a store with a backup of their restored copies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.people import accounts_in
from mirror.config.settings import Config
from mirror.connect import client_of
from mirror.drill.commits import read_commits
from mirror.model import Clock, Json
from mirror.restore.comparison.compare import compare_repository, compare_workspace
from mirror.restore.comparison.differences import Comparison, How
from mirror.restore.comparison.matching import Match, Rules
from mirror.restore.comparison.sides import StoredSide
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder, Store

MEMBERS = "settings/members.json"


@dataclass(frozen=True)
class Original:
    """One snapshot that was restored. `slug` is what the copy is called; None for a workspace's own."""

    side: StoredSide
    slug: str | None = None


async def compare_with_backup(
    config: Config,
    environment: Mapping[str, str],
    clock: Clock,
    budget: Budget,
    originals: Sequence[Original],
    rules: Rules,
) -> Comparison:
    """Compare originals with the backup of their copies. `config` is that of the backup, of one workspace.

    Comments and reports of commits that the backup did not ask about are requested now. Raises StoreDamaged
    and the errors of `mirror.bitbucket.failures`.
    """
    with Store.open(config.store) as copies:
        commits = await _ask_about_commits(config, environment, clock, budget, originals, copies)
        return await asyncio.to_thread(compare, originals, copies, rules, commits)


def compare(
    originals: Sequence[Original],
    copies: Store,
    rules: Rules,
    commits: Mapping[str, Mapping[str, Json]] = MappingProxyType({}),
) -> Comparison:
    """Compare each original with its copy in the store `copies`, which is a backup of one workspace.
    `commits` are, by the name of a copy, further documents of it. Raises StoreDamaged."""
    result = Comparison()
    rules = replace(rules, members=_members(copies))
    for original in originals:
        match = Match(original.side.name, result, rules)
        copy = _copy_of(original, copies, commits.get(original.slug or "", {}))
        if copy is None:
            kind = "workspace" if original.slug is None else "repository"
            match.note("", kind, original.slug or "", How.MISSING)
        elif original.slug is None:
            compare_workspace(match, original.side, copy)
        else:
            compare_repository(match, original.side, copy)
    return result


async def _ask_about_commits(
    config: Config,
    environment: Mapping[str, str],
    clock: Clock,
    budget: Budget,
    originals: Sequence[Original],
    copies: Store,
) -> dict[str, dict[str, Json]]:
    """The documents of commits that the backup of the copies did not ask about; by the name of the copy, then
    by path."""
    [entry] = config.workspaces
    found = {}
    async with client_of(config, entry, clock=clock, environment=environment, budget=budget) as client:
        for original in originals:
            copy = _copy_of(original, copies)
            if original.slug is not None and copy is not None and entry.workspace is not None:
                found[original.slug] = await read_commits(
                    client, original.side, copy, entry.workspace, original.slug
                )
    return found


def _copy_of(
    original: Original, copies: Store, more: Mapping[str, Json] = MappingProxyType({})
) -> StoredSide | None:
    """The copy of an original in the store `copies`, with `more` documents; None where it has none."""
    folders: Sequence[AnyFolder] = (
        copies.workspaces() if original.slug is None else _named(copies.repositories(), original.slug)
    )
    latest = folders[0].metadata.latest() if folders else None
    return None if latest is None else StoredSide(folders[0], latest, more)


def _named(repositories: Sequence[RepositoryFolder], slug: str) -> list[RepositoryFolder]:
    return [one for one in repositories if one.slug.lower() == slug.lower()]


def _members(copies: Store) -> frozenset[str] | None:
    """The uuids of the members of the workspace of the copies; None where the backup could not read them."""
    for folder in copies.workspaces():
        latest = folder.metadata.latest()
        document = None if latest is None else folder.metadata.read(latest, MEMBERS)
        if document is not None:
            return frozenset(uuid.lower() for uuid in accounts_in(document))
    return None
