"""Settings of repositories, projects and workspaces, as the documents that the API shows.

The renderer replaces the placeholders `{"@user": e-mail}`, `{"@repository": slug}` and texts that begin
with `@api/`. `fill_repository_settings` and `fill_workspace_settings` add
one of each setting.
"""

from __future__ import annotations

from typing import Any

from mirror.simulator.world.people import braced
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import SimWorkspace

Document = dict[str, Any]
CREATED = "2026-03-02T09:00:00.000000+00:00"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleOnlyNotAKeyOfAnybody0000000000000"
_MODEL_TYPES = [{"kind": "feature", "prefix": "feature/"}, {"kind": "bugfix", "prefix": "bugfix/"}]


def hook(url: str, owner: str, kind: str = "repository") -> Document:
    """A webhook. Its secret is never shown."""
    return {
        "type": "webhook_subscription", "uuid": braced("hook", owner, url), "url": url,
        "description": "Tells the build server", "subject_type": kind, "active": True,
        "created_at": CREATED, "events": ["repo:push", "pullrequest:created"], "secret_set": True,
    }  # fmt: skip


def variable(key: str, value: str | None, owner: str) -> Document:
    """A variable. `value` None: it is secured, and the API never shows it."""
    shown: Document = {"type": "pipeline_variable", "uuid": braced("variable", owner, key), "key": key}
    shown["secured"] = value is None
    return shown if value is None else {**shown, "value": value}


def deploy_key(number: int, label: str, kind: str = "deploy_key") -> Document:
    """A deploy key."""
    return {
        "type": kind, "id": number, "key": f"{KEY}{number}", "label": label, "comment": "ci@acme.example",
        "added_on": CREATED, "last_used": None,
    }  # fmt: skip


def runner(name: str, owner: str) -> Document:
    """A runner; its credential is never shown."""
    return {
        "type": "pipeline_runner", "uuid": braced("runner", owner, name), "name": name,
        "labels": ["self.hosted", "linux"], "state": {"type": "pipeline_runner_state", "status": "ONLINE"},
        "created_on": "2026-03-02T09:00:00Z", "updated_on": "2026-03-02T09:00:00Z",
    }  # fmt: skip


def branch_restriction(number: int, kind: str, pattern: str, *, value: int | None = None) -> Document:
    """A branch restriction with its exempt users and groups."""
    shown: Document = {
        "type": "branchrestriction", "id": number, "kind": kind, "branch_match_kind": "glob",
        "pattern": pattern, "users": [{"@user": "ann@acme.example"}] if kind == "push" else [], "groups": [],
        "links": {"self": {"href": f"@api/branch-restrictions/{number}"}},
    }  # fmt: skip
    return shown if value is None else {**shown, "value": value}


def user_permission(email: str, permission: str, kind: str) -> Document:
    """The permission of a user."""
    return {"type": f"{kind}_user_permission", "permission": permission, "user": {"@user": email}}


def group_permission(slug: str, permission: str, kind: str) -> Document:
    """The permission of a group."""
    group = {"type": "group", "name": slug.title(), "slug": slug, "full_slug": f"acme:{slug}"}
    return {"type": f"{kind}_group_permission", "permission": permission, "group": group}


def environment(name: str, owner: str) -> Document:
    """A deployment environment."""
    return {
        "type": "deployment_environment", "uuid": braced("environment", owner, name), "name": name,
        "slug": name.lower(), "rank": 0, "environment_type": {"type": "deployment_environment_type",
        "name": "Production", "rank": 2},
    }  # fmt: skip


def deployment(number: int, environment: Document, owner: str, *, done: bool = True) -> Document:
    """One deployment."""
    state = {"type": "deployment_state_completed", "name": "COMPLETED"}
    if not done:
        state = {"type": "deployment_state_in_progress", "name": "IN_PROGRESS"}
    return {
        "type": "deployment", "uuid": braced("deployment", owner, str(number)), "number": number,
        "state": state, "environment": {"type": "deployment_environment", "uuid": environment["uuid"]},
        "release": {"type": "deployment_release", "name": f"#{number}"},
        "last_update_time": "2026-03-06T09:00:00Z",
    }  # fmt: skip


def fill_repository_settings(repository: SimRepository) -> None:
    """Add one of each setting of a repository."""
    owner = repository.uuid
    production = environment("Production", owner)
    repository.settings.update(
        {
            "branch_restrictions": [
                branch_restriction(1, "push", "main"),
                branch_restriction(2, "require_approvals_to_merge", "main", value=2),
            ],
            "branching_model": _model("branching_model"),
            "branching_model_settings": _model_settings(),
            "default_reviewers": [{"@user": "bob@acme.example"}],
            "deploy_keys": [deploy_key(1, "Build server")],
            "hooks": [hook("https://ci.acme.example/hook", owner)],
            "permissions_users": [user_permission("bob@acme.example", "write", "repository")],
            "permissions_groups": [group_permission("developers", "write", "repository")],
            "override_settings": {
                "type": "repository_inheritance_state",
                "override_settings": {"branching_model": True, "default_merge_strategy": False},
            },
            "environments": [production],
            "deployments": [deployment(1, production, owner)],
            "pipelines_config": {"type": "pipelines_config", "enabled": True},
            "variables": [variable("REGION", "eu-central-1", owner), variable("API_KEY", None, owner)],
            "schedules": [
                {
                    "type": "pipeline_schedule", "uuid": braced("schedule", owner), "enabled": True,
                    "cron_pattern": "0 0 3 * * ? *", "created_on": "2026-03-02T09:00:00Z",
                    "updated_on": "2026-03-02T09:00:00Z",
                    "target": {
                        "type": "pipeline_ref_target", "ref_type": "branch", "ref_name": "main",
                        "selector": {"type": "custom", "pattern": "nightly"},
                    },
                }
            ],
            "known_hosts": [
                {
                    "type": "pipeline_known_host", "uuid": braced("host", owner),
                    "hostname": "deploy.acme.example",
                    "public_key": {"type": "pipeline_ssh_public_key", "key_type": "ssh-ed25519", "key": KEY,
                    "md5_fingerprint": "00:11", "sha256_fingerprint": "abc"},
                }
            ],
            "key_pair": {"type": "pipeline_ssh_key_pair", "public_key": KEY},
            "caches": [
                {
                    "type": "pipeline_cache", "uuid": braced("cache", owner), "name": "node",
                    "path": "node_modules", "file_size_bytes": 4096, "created_on": "2026-03-02T09:00:00Z",
                }
            ],
            "runners": [runner("builder", owner)],
            "watchers": [{"@user": "ann@acme.example"}],
        }
    )  # fmt: skip
    repository.environment_variables[production["uuid"]] = [variable("HOST", "shop.acme.example", "env")]


def fill_workspace_settings(workspace: SimWorkspace) -> None:
    """Add one of each setting of a workspace and its projects."""
    workspace.groups["developers"] = "Developers"
    workspace.settings.update(
        {
            "hooks": [hook("https://chat.acme.example/hook", workspace.uuid, "workspace")],
            "variables": [variable("ORGANISATION", "acme", workspace.uuid)],
            "runners": [runner("shared", workspace.uuid)],
            "repository_permissions": [
                {
                    "type": "repository_permission", "permission": "write",
                    "user": {"@user": "bob@acme.example"}, "repository": {"@repository": slug},
                }
                for slug in sorted(workspace.repositories)
            ],
        }
    )  # fmt: skip
    for key in workspace.projects:
        workspace.project_settings[key] = {
            "default_reviewers": [
                {
                    "type": "default_reviewer",
                    "reviewer_type": "project",
                    "user": {"@user": "ann@acme.example"},
                }
            ],
            "branching_model": _model("project_branching_model"),
            "branching_model_settings": _model_settings(),
            "deploy_keys": [deploy_key(7, "Project key", "project_deploy_key")],
            "permissions_users": [user_permission("ann@acme.example", "admin", "project")],
            "permissions_groups": [group_permission("developers", "write", "project")],
        }


def _model(kind: str) -> Document:
    return {
        "type": kind,
        "branch_types": _MODEL_TYPES,
        "development": {"name": "main", "use_mainbranch": True},
    }


def _model_settings() -> Document:
    return {
        "type": "branching_model_settings",
        "branch_types": [{"kind": "feature", "prefix": "feature/", "enabled": True}],
        "development": {"name": None, "use_mainbranch": True, "is_valid": True},
        "production": {"name": None, "use_mainbranch": False, "enabled": False},
        "default_branch_deletion": "false",
        "links": {"self": {"href": "@api/branching-model/settings"}},
    }
