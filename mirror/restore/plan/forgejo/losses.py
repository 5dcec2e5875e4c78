"""The losses of what Forgejo has nothing like: one for each kind."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.collect.catalogue import CATALOGUE
from mirror.restore.plan.source import Source
from mirror.restore.plan.steps import Loss, Why

# The kinds of settings that come back, or that only help to know what others mean.
_COME = frozenset(
    {
        "webhooks", "deploy keys", "branch restrictions", "branching model", "branching model settings",
        "milestones", "versions", "components",
    }
)  # fmt: skip
# They say what Bitbucket saw, not what anybody chose.
_OBSERVED = frozenset({"watchers", "forks", "caches", "schedule executions", "merge strategies"})
_FOLDERS = {
    "environments": "environments",
    "deployments": "deployments",
    "pipelines": "pipelines",
    "commit-comments": "commit comments",
}


def losses_of(source: Source) -> Iterator[Loss]:
    """What of a repository does not come back, because Forgejo has nothing like it. Raises StoreDamaged."""
    for row in CATALOGUE:
        is_setting = row.level == "repository" and row.document.startswith("settings/")
        if not is_setting or row.kind in _COME | _OBSERVED:
            continue
        if document := source.document(row.document):
            many = f"{len(document)} " if isinstance(document, list) else ""
            label = f"{many}{row.kind} of {source.title}"
            yield Loss(source.key(row.name), row.kind, label, Why.UNKNOWN_THERE)
    for folder, kind in _FOLDERS.items():
        if count := len(source.paths(folder)):
            yield Loss(source.key(folder), kind, f"{count} {kind} of {source.title}", Why.UNKNOWN_THERE)
