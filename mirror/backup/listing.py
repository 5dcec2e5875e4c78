"""What Bitbucket listed, as a plain value: one host asks, and each of several backs up its part.

Without it a run lists for itself. With it, a run asks for no list: it takes the workspaces, the
repositories and the failures as they are here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.failures import ApiError
from mirror.config.settings import Config, WorkspaceConfig
from mirror.connect import client_of
from mirror.discovery import Discovered, Rules, discover, workspaces_of
from mirror.errors import CredentialRefused, MirrorError, TryLater, UsageError
from mirror.logs import get_logger
from mirror.model import Clock, JsonObject, Problem, Repository, Scope, Workspace, dumps, loads

_log = get_logger("backup")


@dataclass(frozen=True)
class ListedWorkspace:
    """A workspace, and what was listed of it; None: listing it failed.

    `chosen` are all repositories that the rules choose, by uuid, with their full names; those of `found` are
    the ones to back up. `is_home`: what is the workspace's own is to be backed up as well.
    """

    workspace: Workspace
    found: Discovered | None
    chosen: Mapping[str, str] = field(default_factory=dict)
    is_home: bool = True

    def part(self, mine: Collection[str], homes: Collection[str]) -> ListedWorkspace:
        """The same for one of several stores."""
        if self.found is None:
            return replace(self, is_home=False)
        several = tuple(one for one in self.found.repositories if one.uuid in mine)
        is_home = self.found.workspace.uuid in homes
        return replace(self, found=replace(self.found, repositories=several), is_home=is_home)

    @property
    def concerns_nobody(self) -> bool:
        """Whether there is nothing in it for a store that holds nothing of it."""
        return self.found is not None and not self.found.repositories and not self.is_home

    def whole(self) -> Discovered:
        """What was found, with all repositories that the rules choose; of others' no more than the name."""
        assert self.found is not None
        own = {one.uuid: one for one in self.found.repositories}
        several = []
        for uuid, full_name in self.chosen.items():
            workspace, _, slug = full_name.partition("/")
            several.append(own.get(uuid) or Repository(uuid, workspace, slug))
        return replace(self.found, repositories=tuple(several))


@dataclass(frozen=True)
class ListedEntry:
    """What was listed for an entry of the configuration, which names this `workspace`, or None for all.

    `failure` ended it: nothing was found at all, or the last of the workspaces could not be listed.
    `refusals` are those of single credentials.
    """

    workspace: str | None
    workspaces: tuple[ListedWorkspace, ...] = ()
    failure: Problem | None = None
    refusals: tuple[Problem, ...] = ()

    def take(self) -> list[Workspace]:
        """The workspaces. Raises the failure, where there are none."""
        if not self.workspaces:
            raise self._error()
        return [one.workspace for one in self.workspaces]

    def of(self, workspace: Workspace) -> ListedWorkspace:
        """What was listed of one of them. Raises the failure."""
        found = next(one for one in self.workspaces if one.workspace == workspace)
        if found.found is None:
            raise self._error()
        return found

    def _error(self) -> MirrorError:
        problem = self.failure or Problem(75, "nothing was listed")
        kind = _ERRORS.get(problem.code, ApiError)
        return kind(problem.text, hint=problem.hint)


_ERRORS: dict[int, type[MirrorError]] = {12: CredentialRefused, 2: UsageError, 75: TryLater}


@dataclass(frozen=True)
class Listing:
    """What was listed for the entries of a scope. `contested` says of repositories, by uuid, why nothing
    may be written to their folders. `asked` is when it was asked for, by the clock of who shared it out;
    `younger` are repositories that were found since, which it cannot have."""

    entries: tuple[ListedEntry, ...]
    contested: Mapping[str, Problem] = field(default_factory=dict)
    asked: str | None = None
    younger: frozenset[str] = frozenset()

    def entry(self, config: WorkspaceConfig) -> ListedEntry:
        """What was listed for an entry of the configuration."""
        for one in self.entries:
            if one.workspace == config.workspace:
                return one
        text = f"the host that listed has no entry for {config.workspace or 'all workspaces'}"
        hint = "give every host of the cluster the same workspaces"
        return ListedEntry(config.workspace, failure=Problem(2, text, hint=hint))

    @property
    def is_whole(self) -> bool:
        """Whether no repository can be missing in it."""
        return all(
            one.failure is None
            and all(each.found is not None and each.found.is_whole for each in one.workspaces)
            for one in self.entries
        )

    def each(self) -> Iterator[ListedWorkspace]:
        """Every workspace."""
        for one in self.entries:
            yield from one.workspaces

    def uuids(self) -> frozenset[str]:
        """The uuids of all repositories of which this does not say that they are missing."""
        lists = (each.found.listed for each in self.each() if each.found is not None)
        return self.younger.union(*lists)

    def repositories(self) -> list[tuple[str, str, str]]:
        """Those that the rules choose: uuid, its workspace's uuid, full name."""
        return [
            (uuid, each.found.workspace.uuid, name)
            for each in self.each()
            if each.found is not None
            for uuid, name in each.chosen.items()
        ]

    def workspaces(self) -> list[str]:
        """The uuids of the workspaces that were listed."""
        return [each.found.workspace.uuid for each in self.each() if each.found is not None]

    def part(
        self, mine: Collection[str], homes: Collection[str], contested: Mapping[str, Problem]
    ) -> Listing:
        """What one of several stores is to do: back up the repositories `mine`, and of the workspaces in
        `homes` what is their own."""
        entries = [
            replace(one, workspaces=tuple(each.part(mine, homes) for each in one.workspaces))
            for one in self.entries
        ]
        return replace(self, entries=tuple(entries), contested=contested)

    def to_json(self) -> JsonObject:
        """A plain value, which `json` writes."""
        return {
            "entries": [_entry_to_json(one) for one in self.entries],
            "contested": {uuid: one.to_json() for uuid, one in self.contested.items()},
            "asked": self.asked,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Listing:
        """The listing that `to_json` wrote."""
        contested = {uuid: _problem(one) for uuid, one in value["contested"].items()}
        entries = tuple(_entry_of_json(one) for one in value["entries"])
        return cls(entries, contested, value.get("asked"))


async def list_scope(
    config: Config,
    scope: Scope,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    known: Sequence[tuple[str, str]] = (),
    transport: httpx.AsyncBaseTransport | None = None,
) -> Listing:
    """List what the entries of a scope stand for. What goes wrong is in the result.

    `known` are the repositories that are held already: the uuid of the workspace, and the full name.
    """
    entries = [
        await _list_entry(config, entry, clock, environment, budget, known, transport)
        for entry in config.workspaces
        if scope.has(entry.workspace)
    ]
    return Listing(tuple(entries))


async def _list_entry(
    config: Config,
    entry: WorkspaceConfig,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    known: Sequence[tuple[str, str]],
    transport: httpx.AsyncBaseTransport | None,
) -> ListedEntry:
    listed: list[ListedWorkspace] = []
    failure: MirrorError | None = None
    refusals: tuple[Problem, ...] = ()
    until = clock.monotonic() + config.limits.window.total_seconds()
    current: Workspace | None = None
    try:
        async with client_of(
            config,
            entry,
            clock=clock,
            environment=environment,
            budget=budget,
            transport=transport,
            until=until,
        ) as client:
            try:
                held = _uuid_of(entry.workspace, known)
                for current in await workspaces_of(client, entry.workspace, held=held):
                    uuid = current.uuid or _uuid_of(current.slug, known) or ""
                    names = [(name.partition("/")[2], None) for home, name in known if home == uuid and uuid]
                    rules = Rules(entry.include, entry.exclude)
                    found = await discover(client, current, rules, known=names, held=uuid or None)
                    chosen = {one.uuid: one.full_name for one in found.repositories}
                    listed.append(ListedWorkspace(current, found, chosen))
            finally:
                refusals = tuple(
                    Problem(error.exit_code, f"{who.label}: {error.message}", hint=error.hint)
                    for who, error in client.refusals
                )
    except (MirrorError, OSError) as error:
        failure = error if isinstance(error, MirrorError) else TryLater(str(error))
        _log.warning("backup.not_listed", where=entry.workspace, reason=failure.message)
        if current is not None:
            listed.append(ListedWorkspace(current, None))
    problem = None if failure is None else Problem(failure.exit_code, failure.message, hint=failure.hint)
    return ListedEntry(entry.workspace, tuple(listed), problem, refusals)


def _uuid_of(name: str | None, known: Sequence[tuple[str, str]]) -> str | None:
    """The uuid of the workspace that has this slug in the names of what is held."""
    for uuid, full_name in known:
        if name is not None and uuid and full_name.partition("/")[0].lower() == name.lower():
            return uuid
    return None


# -- as plain values


def _entry_to_json(one: ListedEntry) -> JsonObject:
    return {
        "workspace": one.workspace,
        "workspaces": [_workspace_to_json(each) for each in one.workspaces],
        "failure": None if one.failure is None else one.failure.to_json(),
        "refusals": [each.to_json() for each in one.refusals],
    }


def _entry_of_json(value: JsonObject) -> ListedEntry:
    return ListedEntry(
        value["workspace"],
        tuple(_workspace_of_json(each) for each in value["workspaces"]),
        None if value["failure"] is None else _problem(value["failure"]),
        tuple(_problem(each) for each in value["refusals"]),
    )


def _problem(value: Mapping[str, Any]) -> Problem:
    return Problem(value["code"], value["text"], value["part"], value.get("hint"))


def _profile_to_json(profile: JsonObject) -> str:
    """As a text, which keeps the source text of its numbers."""
    return dumps(profile).decode()


def _name_to_json(one: Workspace) -> JsonObject:
    return {"uuid": one.uuid, "slug": one.slug, "name": one.name, "profile": _profile_to_json(one.profile)}


def _name_of_json(value: JsonObject) -> Workspace:
    return Workspace(value["uuid"], value["slug"], value["name"], loads(value["profile"]))


def _workspace_to_json(one: ListedWorkspace) -> JsonObject:
    return {
        "workspace": _name_to_json(one.workspace),
        "found": None if one.found is None else _found_to_json(one.found),
        "chosen": dict(one.chosen),
        "is_home": one.is_home,
    }


def _workspace_of_json(value: JsonObject) -> ListedWorkspace:
    return ListedWorkspace(
        _name_of_json(value["workspace"]),
        None if value["found"] is None else _found_of_json(value["found"]),
        value["chosen"],
        value["is_home"],
    )


def _found_to_json(found: Discovered) -> JsonObject:
    return {
        "workspace": _name_to_json(found.workspace),
        "repositories": [
            {
                "uuid": one.uuid, "workspace": one.workspace, "slug": one.slug, "project": one.project,
                "profile": _profile_to_json(one.profile),
            }
            for one in found.repositories
        ],
        "is_whole": found.is_whole,
        "listed": sorted(found.listed),
        "problems": [one.to_json() for one in found.problems],
        "is_broken": found.is_broken,
        "is_hidden": found.is_hidden,
    }  # fmt: skip


def _found_of_json(value: JsonObject) -> Discovered:
    several = tuple(
        Repository(one["uuid"], one["workspace"], one["slug"], one["project"], loads(one["profile"]))
        for one in value["repositories"]
    )
    return Discovered(
        _name_of_json(value["workspace"]),
        several,
        value["is_whole"],
        frozenset(value["listed"]),
        tuple(_problem(one) for one in value["problems"]),
        value["is_broken"],
        value["is_hidden"],
    )
