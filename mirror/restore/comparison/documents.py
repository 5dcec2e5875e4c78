"""Which documents hold which things, and which of them no restore brings back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mirror.bitbucket.settable import Thing
from mirror.bitbucket.settable import things as all_things

_HISTORY = "it is history, which Bitbucket writes itself"
_PEOPLE = "people are invited"
_RETIRED = "Bitbucket has ended issues"

REPOSITORY = "repository.json"
PULL_REQUESTS = "pull-requests"
COMMITS = "commit-comments"
SNIPPETS = "snippets"

# Documents that are one thing.
WHOLE: Mapping[str, Thing] = {
    REPOSITORY: all_things.REPOSITORY,
    "settings/branching-model-settings.json": all_things.BRANCHING_MODEL,
    "settings/override-settings.json": all_things.OVERRIDE_SETTINGS,
    "settings/pipelines-configuration.json": all_things.PIPELINES_CONFIG,
}
# Documents that are lists of things.
LISTS: Mapping[str, Thing] = {
    "settings/branch-restrictions.json": all_things.BRANCH_RESTRICTION,
    "settings/default-reviewers.json": all_things.DEFAULT_REVIEWER,
    "settings/deploy-keys.json": all_things.DEPLOY_KEY,
    "settings/webhooks.json": all_things.HOOK,
    "settings/users-permissions.json": all_things.USER_PERMISSION,
    "settings/groups-permissions.json": all_things.GROUP_PERMISSION,
    "settings/variables.json": all_things.VARIABLE,
    "settings/schedules.json": all_things.SCHEDULE,
    "settings/known-hosts.json": all_things.KNOWN_HOST,
}
# The same, of a workspace.
WORKSPACE_LISTS: Mapping[str, Thing] = {
    "settings/webhooks.json": all_things.WORKSPACE_HOOK,
    "settings/variables.json": all_things.WORKSPACE_VARIABLE,
}


@dataclass(frozen=True)
class Nest:
    """Documents of one folder that hold a thing under `key`, and what belongs to it beside: lists of things,
    single things, and what does not come back, each with the reason."""

    key: str
    thing: Thing
    lists: Mapping[str, Thing] = field(default_factory=dict)
    wholes: Mapping[str, Thing] = field(default_factory=dict)
    never: Mapping[str, str] = field(default_factory=dict)


NESTS: Mapping[str, Nest] = {
    "environments": Nest(
        "environment", all_things.ENVIRONMENT, {"variables": all_things.ENVIRONMENT_VARIABLE}
    )
}
WORKSPACE_NESTS: Mapping[str, Nest] = {
    "projects": Nest(
        "project",
        all_things.PROJECT,
        {
            "default_reviewers": all_things.PROJECT_DEFAULT_REVIEWER,
            "deploy_keys": all_things.PROJECT_DEPLOY_KEY,
            "users_permissions": all_things.PROJECT_USER_PERMISSION,
            "groups_permissions": all_things.PROJECT_GROUP_PERMISSION,
        },
        {"branching_model_settings": all_things.PROJECT_BRANCHING_MODEL},
        {"branching_model": "it follows from the settings"},
    )
}
# What describes the snapshot, is compared as refs and objects, or follows from what is compared.
ELSEWHERE: Mapping[str, str] = {
    "snapshot.json": "it describes the snapshot",
    "settings/_parts.json": "it describes the snapshot",
    "refs.json": "the refs are compared",
    "refs/": "the refs are compared",
    "lfs/": "the objects are compared",
    "repositories.json": "each repository is compared",
    "settings/branching-model.json": "it follows from its settings",
    "settings/repository-permissions.json": "it follows from the permissions of each repository",
}
# Documents, and folders of documents, that no restore brings back, with the reason.
NEVER: Mapping[str, str] = {
    "settings/merge-strategies.json": "no request sets it",
    "settings/watchers.json": "each watches for themselves",
    "settings/forks.json": "a fork is a repository of its own",
    "settings/schedule-executions.json": _HISTORY,
    "settings/ssh-key-pair.json": "the private key is never shown: a new pair is to be made",
    "settings/caches.json": "builds make caches anew",
    "settings/runners.json": "a runner is registered anew",
    "settings/milestones.json": _RETIRED,
    "settings/versions.json": _RETIRED,
    "settings/components.json": _RETIRED,
    "issues/": _RETIRED,
    "pipelines/": _HISTORY,
    "deployments/": _HISTORY,
}
WORKSPACE_NEVER: Mapping[str, str] = {
    "workspace.json": "a workspace is made by its owner",
    "settings/members.json": _PEOPLE,
    "settings/roles.json": _PEOPLE,
    "settings/runners.json": "a runner is registered anew",
    "settings/system-gpg-key.json": "it is Bitbucket's own",
}


def reason(path: str, table: Mapping[str, str]) -> str | None:
    """What a table says of a document, or of its folder; None where it says nothing."""
    return table.get(path) or next(
        (why for name, why in table.items() if name.endswith("/") and path.startswith(name)), None
    )
