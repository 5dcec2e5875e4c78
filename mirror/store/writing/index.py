"""The index: current and former names to folders. Only a convenience, rebuilt from the folders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mirror.model import JsonObject, time_text
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder, WorkspaceFolder


def index_document(
    workspaces: Sequence[WorkspaceFolder],
    repositories: Sequence[RepositoryFolder],
    damaged: Sequence[str],
    now: datetime,
) -> JsonObject:
    """The content of `index.json`: every folder, and the folders of every name."""
    names: dict[str, list[str]] = {}
    everything: list[AnyFolder] = [*workspaces, *repositories]
    for one in everything:
        for name in dict.fromkeys((one.full_name, *(former.name for former in one.former_names))):
            names.setdefault(name, []).append(one.relative())
    return {
        "schema": 1,
        "updated": time_text(now),
        "names": names,
        "workspaces": [
            {
                "uuid": one.uuid,
                "slug": one.slug,
                "folder": one.relative(),
                "former_names": [former.to_json() for former in one.former_names],
            }
            for one in workspaces
        ],
        "repositories": [
            {
                "uuid": one.uuid,
                "full_name": one.full_name,
                "folder": one.relative(),
                "former_names": [former.to_json() for former in one.former_names],
                "gone_since": None if one.gone_since is None else time_text(one.gone_since),
            }
            for one in repositories
        ],
        "damaged": list(damaged),
    }


def index_page(
    workspaces: Sequence[WorkspaceFolder],
    repositories: Sequence[RepositoryFolder],
    damaged: Sequence[str],
    now: datetime,
) -> str:
    """The content of `INDEX.md`, for people."""
    lines = [
        "# What is in this store",
        "",
        f"Rebuilt {time_text(now)}. Folders keep the name under which a thing was first seen.",
        "Each repository's history is the git repository `code.git` in its folder (its wiki's, where there",
        "was one, `wiki.git`), each one's pull requests and so on are JSON files in the git repository",
        "`metadata.git`. A workspace's snippets are the git repositories in `snippets`.",
        "",
        "| name | folder | once called | gone since |",
        "|---|---|---|---|",
    ]
    everything: list[AnyFolder] = [*workspaces, *repositories]
    for one in everything:
        former = ", ".join(f"{item.name} (until {time_text(item.until)})" for item in one.former_names)
        gone = one.gone_since if isinstance(one, RepositoryFolder) else None
        cells = (one.full_name, f"`{one.relative()}`", former, time_text(gone) if gone else "")
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    if damaged:
        lines += ["", "These cannot be read; run `mirror verify`:", "", *(f"- `{file}`" for file in damaged)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
