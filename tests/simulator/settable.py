"""What Bitbucket lets anyone set: by request, the fields of its body.

`derived` takes them from the request schemas of Atlassian's description, less what is read-only for the
reasons below, and more of what only its prose and other clients know. The program has the result as
`mirror/bitbucket/settable/settable.json`. A comparison of a workspace with its restored copy covers at least
these fields.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mirror.bitbucket import settable as kept
from tests.simulator.document import document

KEPT = Path(kept.__file__).with_name("settable.json")
_R = "/repositories/{workspace}/{repo_slug}"
_P = "/workspaces/{workspace}/projects/{project_key}"
_PERMISSION = "bitbucket.apps.permissions.serializers"
# By request, the name of the schema that its body has. None: the description declares none.
REQUESTS: dict[str, str | None] = {
    "POST /workspaces/{workspace}/projects": "project",
    f"PUT {_P}/permissions-config/users/{{selected_user_id}}": f"{_PERMISSION}.ProjectPermissionUpdateSchema",
    f"PUT {_P}/permissions-config/groups/{{group_slug}}": f"{_PERMISSION}.ProjectPermissionUpdateSchema",
    f"PUT {_P}/branching-model/settings": "branching_model_settings",
    f"POST {_P}/deploy-keys": None,
    f"PUT {_R}": "repository",
    f"PUT {_R}/permissions-config/users/{{selected_user_id}}": f"{_PERMISSION}.RepoPermissionUpdateSchema",
    f"PUT {_R}/permissions-config/groups/{{group_slug}}": f"{_PERMISSION}.RepoPermissionUpdateSchema",
    f"PUT {_R}/branching-model/settings": "branching_model_settings",
    f"PUT {_R}/override-settings": "repository_inheritance_state",
    f"POST {_R}/branch-restrictions": "branchrestriction",
    f"POST {_R}/deploy-keys": None,
    f"POST {_R}/hooks": "webhook_subscription",
    "POST /workspaces/{workspace}/hooks": "webhook_subscription",
    f"PUT {_R}/pipelines_config": "pipelines_config",
    f"PUT {_R}/pipelines_config/build_number": "pipeline_build_number",
    f"POST {_R}/pipelines_config/variables": "pipeline_variable",
    "POST /workspaces/{workspace}/pipelines-config/variables": "pipeline_variable",
    f"PUT {_R}/pipelines_config/ssh/key_pair": "pipeline_ssh_key_pair",
    f"POST {_R}/pipelines_config/ssh/known_hosts": "pipeline_known_host",
    f"POST {_R}/pipelines_config/schedules": "pipeline_schedule_post_request_body",
    f"POST {_R}/environments": "deployment_environment",
    f"POST {_R}/deployments_config/environments/{{environment_uuid}}/variables": "deployment_variable",
    f"POST {_R}/pullrequests": "pullrequest",
    f"POST {_R}/pullrequests/{{pull_request_id}}/comments": "pullrequest_comment",
    f"POST {_R}/pullrequests/{{pull_request_id}}/tasks": "pullrequest_task_create",
    f"PUT {_R}/pullrequests/{{pull_request_id}}/tasks/{{task_id}}": "pullrequest_task_update",
    f"POST {_R}/commit/{{commit}}/comments": "commit_comment",
    f"POST {_R}/commit/{{commit}}/statuses/build": "commitstatus",
    f"PUT {_R}/commit/{{commit}}/reports/{{reportId}}": "report",
    f"PUT {_R}/commit/{{commit}}/reports/{{reportId}}/annotations/{{annotationId}}": "report_annotation",
    "POST /snippets/{workspace}": "snippet",
    "POST /snippets/{workspace}/{encoded_id}/comments": "snippet_comment",
}
# By schema ("": any), properties that nobody sets.
READ_ONLY: dict[str, dict[str, set[str]]] = {
    "Bitbucket gives it": {
        "": {
            "type", "uuid", "id", "links", "created_on", "updated_on", "created_at", "added_on", "last_used",
        },
        "repository": {"full_name", "size"},
        "project": {"has_publicly_visible_repos"},
        "webhook_subscription": {"subject", "subject_type", "secret_set"},
    },
    "it is whoever asks": {"": {"owner", "user", "author", "creator"}},
    "it says where the thing is": {
        "pipelines_config": {"repository"}, "pullrequest_comment": {"pullrequest"},
        "commit_comment": {"commit"}, "snippet_comment": {"snippet"},
    },
    "a request of its own sets it": {
        "repository": {"parent"}, "pullrequest_comment": {"resolution", "deleted"},
        "commit_comment": {"deleted"},
        "pullrequest": {"state", "closed_by", "reason", "merge_commit", "participants", "queued"},
    },
    "it follows from what else there is": {
        "pullrequest": {"comment_count", "task_count", "rendered", "summary"},
    },
    "issues and wikis are gone": {"repository": {"has_issues", "has_wiki"}},
}  # fmt: skip
# By schema ("": any), which fields inside a property are meant: the rest of it is read-only.
INSIDE: dict[str, dict[str, tuple[str, ...]]] = {
    "": {
        "content": ("raw",), "project": ("key",), "mainbranch": ("name",), "parent": ("id",),
        "source": ("branch.name",), "destination": ("branch.name",), "comment": ("id",),
        "inline": ("path", "from", "to", "start_from", "start_to"),
        "target": ("ref_name", "ref_type", "selector.type", "selector.pattern"),
        "development": ("name", "use_mainbranch"), "production": ("name", "use_mainbranch", "enabled"),
        "public_key": ("key_type", "key"),
    },
    "pipeline_ssh_key_pair": {"public_key": ()},
}  # fmt: skip
# What the schemas lack, with the source.
MORE: dict[str, dict[str, tuple[str, ...]]] = {
    "the prose of the requests": {
        "branching_model_settings": ("default_branch_deletion",),
        "deploy keys": ("key", "label", "comment"),
        "pullrequest": ("description",),
    },
    "answers that clients have recorded": {
        "deployment_environment": ("environment_type.name", "rank"),
        "snippet_comment": ("content.raw", "parent.id"),
    },
}


def settable() -> dict[str, list[str]]:
    """By request, the dotted names of the fields that it sets."""
    return {request: list(names) for request, names in kept.settable_fields().items()}


def derived() -> dict[str, list[str]]:
    """The same, from the description."""
    return {request: sorted(_fields(schema)) for request, schema in REQUESTS.items()}


def _fields(schema: str | None) -> set[str]:
    name = schema or "deploy keys"
    found: set[str] = {one for several in MORE.values() for one in several.get(name, ())}
    for field in properties(schema) if schema is not None else {}:
        if any(field in where.get(key, ()) for where in READ_ONLY.values() for key in ("", name)):
            continue
        inside = {**INSIDE[""], **INSIDE.get(name, {})}.get(field, ())
        found |= {f"{field}.{one}" for one in inside} or {field}
    return found


def properties(name: str) -> dict[str, Any]:
    """The properties of a schema, those of the schemas that it is made from included."""
    schema = document()["components"]["schemas"][name]
    found: dict[str, Any] = dict(schema.get("properties", {}))
    for one in schema.get("allOf", []):
        if "$ref" in one:
            found.update(properties(one["$ref"].rpartition("/")[2]))
        found.update(one.get("properties", {}))
    return {key: one for key, one in found.items() if not one.get("readOnly", False)}
