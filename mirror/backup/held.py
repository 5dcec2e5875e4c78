"""What the store holds of a workspace, as what is to be backed up where no list can be had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mirror.backup.absence import project_of
from mirror.config.settings import WorkspaceConfig
from mirror.discovery import Discovered, Rules
from mirror.model import Repository
from mirror.store.reading.reader import RepositoryFolder, Store, WorkspaceFolder, current_workspace


def known_workspaces(
    store: Store, config: WorkspaceConfig, all_entries: Sequence[WorkspaceConfig]
) -> list[WorkspaceFolder]:
    """The workspaces that an entry of the configuration stands for, of those that the store holds."""
    named = {one.workspace.lower() for one in all_entries if one.workspace is not None}
    found = []
    for home in store.workspaces(on_damage=lambda _: None):
        names = {home.slug.lower(), home.uuid.lower(), *(one.name.lower() for one in home.former_names)}
        if config.workspace.lower() in names if config.workspace is not None else not names & named:
            found.append(home)
    return found


def known_repositories(
    store: Store, config: WorkspaceConfig, all_entries: Sequence[WorkspaceConfig]
) -> Iterator[tuple[WorkspaceFolder, list[Repository]]]:
    """The workspaces that an entry of the configuration stands for, each with those of its repositories
    that the rules choose. What the last whole list lacked is left out."""
    rules = Rules(config.include, config.exclude)
    # The end of the run names folders whose card cannot be read.
    folders = store.repositories(on_damage=lambda _: None)
    workspaces = store.workspaces(on_damage=lambda _: None)
    for home in known_workspaces(store, config, all_entries):
        held = [
            _repository(one)
            for one in folders
            if one.missing is None and current_workspace(one, workspaces) == home
        ]
        yield home, [one for one in held if rules.chooses(one.slug, one.project)]


def beyond_list(
    store: Store, config: WorkspaceConfig, all_entries: Sequence[WorkspaceConfig], found: Discovered
) -> list[Repository]:
    """What is held of a workspace and is missing in its list, where that is broken: these repositories are
    asked for by name."""
    if not found.is_broken:
        return []
    return [
        one
        for folder, several in known_repositories(store, config, all_entries)
        if folder.uuid == found.workspace.uuid
        for one in several
        if one.uuid not in found.listed
    ]


def _repository(folder: RepositoryFolder) -> Repository:
    """A repository by its card. Its profile is not repeated: it is what was."""
    return Repository(folder.uuid, folder.workspace_slug, folder.slug, project_of(folder))
