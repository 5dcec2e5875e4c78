"""The repositories that the store has of a workspace: what to back up where no list can be read."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.backup.absence import project_of
from mirror.backup.context import ignore_damage
from mirror.config.settings import WorkspaceConfig
from mirror.discovery import Discovered, Rules
from mirror.model import Repository
from mirror.store.reading.reader import RepositoryFolder, Store, WorkspaceFolder, current_workspace


def belongs_to_entry(config: WorkspaceConfig, names: set[str], named: set[str]) -> bool:
    """Whether an entry of the configuration means the workspace of these `names`; `named` are those that
    any entry names, all in lower case."""
    return not names & named if config.workspace is None else config.workspace.lower() in names


def stored_workspaces(store: Store, config: WorkspaceConfig, named: set[str]) -> list[WorkspaceFolder]:
    """The workspaces of the store that an entry of the configuration stands for; `named` are those that any
    entry names."""
    found = []
    for home in store.workspaces(on_damage=ignore_damage):
        names = {home.slug.lower(), home.uuid.lower(), *(one.name.lower() for one in home.former_names)}
        if belongs_to_entry(config, names, named):
            found.append(home)
    return found


def stored_repositories(
    store: Store, config: WorkspaceConfig, named: set[str]
) -> Iterator[tuple[WorkspaceFolder, list[Repository]]]:
    """The workspaces of `stored_workspaces`, each with those of its repositories that the rules choose.
    What the last whole list lacked is left out."""
    rules = Rules(config.include, config.exclude)
    folders = store.repositories(on_damage=ignore_damage)
    workspaces = store.workspaces(on_damage=ignore_damage)
    for home in stored_workspaces(store, config, named):
        held = [
            repository_of(one)
            for one in folders
            if one.missing is None and current_workspace(one, workspaces) == home
        ]
        yield home, [one for one in held if rules.chooses(one.slug, one.project)]


def missing_in_broken_list(
    store: Store, config: WorkspaceConfig, named: set[str], found: Discovered
) -> list[Repository]:
    """The stored repositories of a workspace that a broken list lacks: they are asked for by name. None
    where the list is whole."""
    if not found.is_broken:
        return []
    return [
        one
        for folder, several in stored_repositories(store, config, named)
        if folder.uuid == found.workspace.uuid
        for one in several
        if one.uuid not in found.listed
    ]


def repository_of(folder: RepositoryFolder) -> Repository:
    """A repository as its folder names it, without the profile: that may be out of date."""
    return Repository(folder.uuid, folder.workspace_slug, folder.slug, project_of(folder))
