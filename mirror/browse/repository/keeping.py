"""Why the snapshots of a folder are kept, by the retention that is configured now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mirror.browse.repository.timeline import Moment
from mirror.config import Config, WorkspaceConfig
from mirror.retention import NO_RULE, while_gone, why_kept
from mirror.store.reading.folders import AnyFolder, current_workspace
from mirror.store.reading.reader import RepositoryFolder, Store


@dataclass(frozen=True)
class Keeping:
    """`reasons` tell for snapshots, by id, which rules keep them (`kept as daily`). `rule` says in one
    sentence what holds for all of them; it is empty where nothing is known."""

    rule: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)


def keeping(
    store: Store, folder: AnyFolder, kept: list[Moment], config: Config | None, now: datetime
) -> Keeping:
    """Why each kept snapshot is kept. What holds prune back besides (a brake, a run that did not end) is not
    looked at."""
    entry = _entry(store, folder, config) if config is not None else None
    if entry is None:
        return Keeping()
    retention = entry.retention
    if retention is None:
        return Keeping("No retention is configured: every snapshot is kept.")
    gone_since = folder.gone_since if isinstance(folder, RepositoryFolder) else None
    held = while_gone(gone_since, retention.keep_gone, now=now) if gone_since is not None else None
    if held is not None:
        return Keeping(f"Every snapshot is kept: {held}.")
    lacking = [one for one in kept if not one.complete]
    if any(one.complete is None for one in kept) or (lacking and entry.accept_missing):
        # Which ones count as complete, their own documents would have to tell.
        return Keeping("Retention is configured. mirror prune --dry-run tells what it keeps.")
    complete = {one.id for one in kept if one.complete}
    several = why_kept(retention.policy, kept, complete, now=now)
    reasons = {one: f"kept as {', '.join(texts)}" if texts else NO_RULE for one, texts in several.items()}
    return Keeping("Retention is configured.", reasons)


def _entry(store: Store, folder: AnyFolder, config: Config) -> WorkspaceConfig | None:
    if not isinstance(folder, RepositoryFolder):
        return config.entry_of((folder.slug, folder.uuid))
    home = current_workspace(folder, store.workspaces(on_damage=lambda _: None))
    names = (home.slug, home.uuid) if home is not None else ()
    return config.entry_of((folder.workspace_slug, *names))
