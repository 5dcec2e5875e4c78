"""Lists of settings, and how to add, replace and remove their entries.

An entry is the document that the API shows. A change replaces it with a new document.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.routing import Hidden, need_braces
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import SimWorkspace
from mirror.simulator.writes.routing import Document, Write


@dataclass(frozen=True)
class SettingsOwner:
    """A repository, a workspace or a project, with its settings."""

    settings: Document
    workspace: SimWorkspace
    repository: SimRepository | None = None
    project: str = ""

    def shown(self, call: Write, document: Document) -> Document:
        """A stored document as the API shows it."""
        if self.repository is not None:
            return call.render.repository_setting(document, self.repository)
        return call.render.group_setting(document, self.workspace, self.project)

    @property
    def kind(self) -> str:
        """`repository`, `project` or `workspace`."""
        if self.repository is not None:
            return "repository"
        return "project" if self.project else "workspace"

    def list(self, name: str) -> list[Any]:
        """The list of this name, created where it does not exist."""
        found: list[Any] = self.settings.setdefault(name, [])
        return found

    def find(self, name: str, field: str, value: Any, what: str) -> Document:
        """The entry of a list whose `field` is `value`. Raises Hidden where there is none."""
        if field == "uuid":
            need_braces(value)
        for one in self.list(name):
            if one.get(field) == value:
                found: Document = one
                return found
        raise Hidden(f"{what} not found")

    def add(self, name: str, document: Document) -> Document:
        """Add an entry to a list."""
        self.settings[name] = [*self.list(name), document]
        return document

    def replace(self, name: str, old: Document, new: Document) -> Document:
        """Replace an entry of a list."""
        self.settings[name] = [new if one is old else one for one in self.list(name)]
        return new

    def remove(self, name: str, old: Document) -> None:
        """Remove an entry from a list."""
        self.settings[name] = [one for one in self.list(name) if one is not old]


OwnerOf = Callable[[Write], SettingsOwner]


def of_repository(call: Write) -> SettingsOwner:
    """The settings of the repository that the path names."""
    repository = call.repository()
    return SettingsOwner(repository.settings, repository.workspace, repository)


def of_workspace(call: Write) -> SettingsOwner:
    """The settings of the workspace that the path names."""
    workspace = call.workspace()
    return SettingsOwner(workspace.settings, workspace)


def of_project(call: Write) -> SettingsOwner:
    """The settings of the project that the path names."""
    workspace, key = call.workspace(), call.names["project"]
    if key not in workspace.projects:
        raise Hidden("Project not found")
    return SettingsOwner(workspace.project_settings.setdefault(key, {}), workspace, project=key)


def new_uuid() -> str:
    """A new random uuid, in braces."""
    return "{" + str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)) + "}"


def group(slug: str, owner: SettingsOwner) -> Document:
    """The group of this slug. Raises BadRequest where the workspace has no such group."""
    if slug not in owner.workspace.groups:
        raise BadRequest(f"No group with the slug '{slug}'.")
    name = owner.workspace.groups[slug]
    return {"type": "group", "name": name, "slug": slug, "full_slug": f"{owner.workspace.slug}:{slug}"}
