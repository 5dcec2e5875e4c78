"""What leads to the parts of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirror.model import Part, PartState, Snapshot
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder

# Address below the snapshot, title, document or folder of documents, part of the snapshot, count in it.
_KINDS = (
    ("pull-requests", "Pull requests", "pull-requests/", "pull_requests", "pull_requests"),
    ("issues", "Issues", "issues/", "issues", "issues"),
    ("pipelines", "Pipelines", "pipelines/", "pipelines", "pipelines"),
    ("commits", "Commit comments", "commit-comments/", "commit_comments", ""),
    ("snippets", "Snippets", "snippets/", "snippets", "snippets"),
    ("deployments", "Deployments", "deployments/", "", ""),
    ("downloads", "Downloads", "downloads.json", "downloads", ""),
    ("settings", "Settings", "settings/", "settings", ""),
)
_ALWAYS = frozenset({"pull-requests", "issues", "pipelines"})
_MISSING = frozenset({PartState.PARTIAL, PartState.DENIED})


@dataclass(frozen=True)
class Link:
    """A part of a snapshot: its address below that, and how many it has; empty where nobody counted.
    `is_lacking`: not all of it is there."""

    href: str
    title: str
    count: str = ""
    is_lacking: bool = False


def links(folder: AnyFolder, snapshot: Snapshot) -> list[Link]:
    """What there is at a snapshot. Raises StoreDamaged."""
    there = folder.metadata.names(snapshot)
    is_repository = isinstance(folder, RepositoryFolder)
    found = [Link("", "Snapshot")]
    if is_repository:
        found.append(_link("code", "Code", snapshot.parts, "code", ""))
        if "wiki" in snapshot.parts and "wiki" in folder.metadata.mirrors(snapshot):
            found.append(_link("code?mirror=wiki", "Wiki", snapshot.parts, "wiki", ""))
    for href, title, document, part, count in _KINDS:
        if document in there or (is_repository and href in _ALWAYS):
            found.append(_link(href, title, snapshot.parts, part, count))
    return found


def _link(href: str, title: str, parts: Mapping[str, Part], part: str, count: str) -> Link:
    held = parts.get(part)
    number = held.counts.get(count) if held is not None and count else None
    if number == 0 and held is not None and held.state is not PartState.COMPLETE:
        number = None  # nobody knows whether there are none
    return Link(
        href, title, "" if number is None else f"{number:,}", held is not None and held.state in _MISSING
    )
