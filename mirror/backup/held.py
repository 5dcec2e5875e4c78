"""What the store holds of a workspace, as what is to be backed up where no list can be had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mirror.config.settings import WorkspaceConfig
from mirror.discovery import Rules
from mirror.model import Repository
from mirror.store.reader import RepositoryFolder, Store, WorkspaceFolder

_PROFILE = "repository.json"


def known_repositories(
    store: Store, config: WorkspaceConfig, all_entries: Sequence[WorkspaceConfig]
) -> Iterator[tuple[WorkspaceFolder, list[Repository]]]:
    """The workspaces that an entry of the configuration stands for, each with those of its repositories
    that the rules choose. What the last whole list lacked is left out."""
    named = {one.workspace.lower() for one in all_entries if one.workspace is not None}
    rules = Rules(config.include, config.exclude)
    folders = store.repositories()
    for home in store.workspaces():
        names = {home.slug.lower(), home.uuid.lower()}
        is_meant = config.workspace.lower() in names if config.workspace is not None else not names & named
        if not is_meant:
            continue
        held = [_repository(one) for one in folders if _is_in(one, home) and one.missing is None]
        yield home, [one for one in held if rules.chooses(one.slug, one.project)]


def _is_in(folder: RepositoryFolder, home: WorkspaceFolder) -> bool:
    """Whether a repository is in this workspace now, wherever its folder stands."""
    return folder.workspace_slug.lower() == home.slug.lower()


def _repository(folder: RepositoryFolder) -> Repository:
    """A repository by its card. Its profile is not repeated: it is what was."""
    latest = folder.metadata.latest()
    profile = folder.metadata.read(latest, _PROFILE) if latest is not None else None
    project = profile.get("project") if isinstance(profile, dict) else None
    key = project.get("key") if isinstance(project, dict) else None
    return Repository(folder.uuid, folder.workspace_slug, folder.slug, key if isinstance(key, str) else None)
