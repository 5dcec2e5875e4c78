"""The kinds of things that Bitbucket lets anyone make, and which of their fields may differ in a copy.

A field that a request sets must be as it was (`settable_fields`). A field that no request sets may differ for
a reason that stands here. Of every other field nobody said that it may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mirror.bitbucket.settable.fields import settable_fields

_R = "/repositories/{workspace}/{repo_slug}"
_W = "/workspaces/{workspace}"
_P = _W + "/projects/{project_key}"
_GIVEN = "Bitbucket gives it"
_CALLER = "it is whoever asks"
_PLACE = "it says where the thing is"
_FOLLOWS = "it follows from what else there is"
_OTHER = "it belongs to another thing, which is compared"
_RETIRED = "Bitbucket has ended issues and wikis"
_NO_REQUEST = "no request sets it"
# By field, wherever it stands.
_EVERYWHERE = {
    "uuid": _GIVEN, "id": _GIVEN, "created_on": _GIVEN, "updated_on": _GIVEN, "created_at": _GIVEN,
    "added_on": _GIVEN, "last_used": _GIVEN, "links": "addresses follow from names and ids",
    "creator": _CALLER, "user": _CALLER, "author": _CALLER, "owner": _CALLER, "creator_account": _CALLER,
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """One kind of thing. `requests` set its fields, as `settable_fields` names them; `by_address` are the
    fields that the address of a request sets, or a request without a body. `key` are the fields that tell it
    from the others beside it. `text` is the field that begins with an attribution where the thing cannot keep
    its author. `never` are further fields that may differ, each with the reason."""

    name: str
    requests: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    by_address: tuple[str, ...] = ()
    text: str | None = None
    never: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def settable(self) -> frozenset[str]:
        """The dotted fields that must be as they were."""
        known = settable_fields()
        return frozenset(self.by_address).union(*(known[one] for one in self.requests))

    def may_differ(self, name: str) -> str | None:
        """Why the dotted field `name` may differ in a copy; None where it may not."""
        above = [name[:end] for end in range(1, len(name) + 1) if name[end : end + 1] in ("", ".")]
        if not self.settable.isdisjoint(above):
            return None
        for one in reversed(above):
            if one in self.never:
                return self.never[one]
        return next((_EVERYWHERE[word] for word in name.split(".") if word in _EVERYWHERE), None)


_MODEL_NEVER = {"development.is_valid": _FOLLOWS, "production.is_valid": _FOLLOWS}
_TEXT_NEVER = {
    "content": "it follows from the raw text", "edited_on": _GIVEN, "deleted": _NO_REQUEST,
    "resolution": "who resolved it, and when, is whoever asks", "parent": _GIVEN, "pullrequest": _PLACE,
    "commit": _PLACE, "snippet": _PLACE, "resolved_by": _CALLER, "resolved_on": _GIVEN,
    "inline.outdated": _FOLLOWS, "inline.context_lines": _FOLLOWS,
}  # fmt: skip
_HOOK_NEVER = {
    "subject": _PLACE, "subject_type": _PLACE,
    "secret_set": "Bitbucket never shows a secret; the plan lists those that are to be entered again",
    "read_only": _GIVEN, "source": _CALLER,
}  # fmt: skip
_KEY_NEVER = {"repository": _PLACE, "project": _PLACE, "type": _PLACE}

REPOSITORY = Thing(
    "repository", (f"PUT {_R}",),
    never={
        "full_name": _PLACE, "slug": _PLACE, "workspace": _PLACE, "size": _FOLLOWS, "mainbranch": _OTHER,
        "project": _OTHER, "parent": "a fork is made from its parent by a request of its own",
        "override_settings": _OTHER, "has_issues": _RETIRED, "has_wiki": _RETIRED, "website": _NO_REQUEST,
        "enforced_signed_commits": _NO_REQUEST,
    },
)  # fmt: skip
PROJECT = Thing(
    "project", (f"POST {_W}/projects",), ("key",),
    never={"has_publicly_visible_repos": _FOLLOWS, "workspace": _PLACE},
)  # fmt: skip
BRANCHING_MODEL = Thing("branching model", (f"PUT {_R}/branching-model/settings",), never=_MODEL_NEVER)
PROJECT_BRANCHING_MODEL = Thing(
    "project branching model", (f"PUT {_P}/branching-model/settings",), never=_MODEL_NEVER
)
DEFAULT_REVIEWER = Thing(
    "default reviewer", key=("uuid",), by_address=("uuid",),
    never=dict.fromkeys(
        ("account_id", "display_name", "nickname", "kind", "account_status", "type"),
        "it is the account's own",
    ),
)  # fmt: skip
PROJECT_DEFAULT_REVIEWER = Thing(
    "project default reviewer", key=("user",), by_address=("user",), never={"reviewer_type": _FOLLOWS}
)
DEPLOY_KEY = Thing("deploy key", (f"POST {_R}/deploy-keys",), ("key",), never=_KEY_NEVER)
PROJECT_DEPLOY_KEY = Thing("project deploy key", (f"POST {_P}/deploy-keys",), ("key",), never=_KEY_NEVER)
USER_PERMISSION = Thing(
    "user's permission", (f"PUT {_R}/permissions-config/users/{{selected_user_id}}",), ("user",), ("user",),
    never={"repository": _PLACE},
)  # fmt: skip
GROUP_PERMISSION = Thing(
    "group's permission", (f"PUT {_R}/permissions-config/groups/{{group_slug}}",), ("group",), ("group",),
    never={"repository": _PLACE},
)  # fmt: skip
PROJECT_USER_PERMISSION = Thing(
    "user's permission for a project", (f"PUT {_P}/permissions-config/users/{{selected_user_id}}",),
    ("user",), ("user",), never={"project": _PLACE},
)  # fmt: skip
PROJECT_GROUP_PERMISSION = Thing(
    "group's permission for a project", (f"PUT {_P}/permissions-config/groups/{{group_slug}}",),
    ("group",), ("group",), never={"project": _PLACE},
)  # fmt: skip
BRANCH_RESTRICTION = Thing(
    "branch restriction", (f"POST {_R}/branch-restrictions",),
    ("kind", "branch_match_kind", "pattern", "branch_type"),
)  # fmt: skip
HOOK = Thing("webhook", (f"POST {_R}/hooks",), ("url",), never=_HOOK_NEVER)
WORKSPACE_HOOK = Thing("workspace webhook", (f"POST {_W}/hooks",), ("url",), never=_HOOK_NEVER)
OVERRIDE_SETTINGS = Thing("override settings", (f"PUT {_R}/override-settings",))
PIPELINES_CONFIG = Thing(
    "pipelines configuration", (f"PUT {_R}/pipelines_config",), never={"repository": _PLACE}
)
VARIABLE = Thing("variable", (f"POST {_R}/pipelines_config/variables",), ("key",))
WORKSPACE_VARIABLE = Thing("workspace variable", (f"POST {_W}/pipelines-config/variables",), ("key",))
ENVIRONMENT_VARIABLE = Thing(
    "environment variable",
    (f"POST {_R}/deployments_config/environments/{{environment_uuid}}/variables",), ("key",),
)  # fmt: skip
SCHEDULE = Thing(
    "schedule", (f"POST {_R}/pipelines_config/schedules",),
    ("cron_pattern", "target.ref_type", "target.ref_name", "target.selector.pattern"),
    never={"target.commit": _FOLLOWS},
)  # fmt: skip
KNOWN_HOST = Thing(
    "known host", (f"POST {_R}/pipelines_config/ssh/known_hosts",), ("hostname", "public_key.key_type"),
    never={"public_key": "it follows from the key"},
)  # fmt: skip
ENVIRONMENT = Thing(
    "environment", (f"POST {_R}/environments",), ("name",),
    never={
        "slug": _FOLLOWS, "environment_type": "it follows from the type's name", "category": _FOLLOWS,
        "hidden": _NO_REQUEST, "lock": _NO_REQUEST, "environment_lock_enabled": _NO_REQUEST,
        "deployment_gate_enabled": _NO_REQUEST, "restrictions": _NO_REQUEST,
    },
)  # fmt: skip
DOWNLOAD = Thing(
    "download", key=("name",), by_address=("name", "size"), never={"downloads": "Bitbucket counts it"}
)
PULL_REQUEST = Thing(
    "pull request", (f"POST {_R}/pullrequests",), text="description",
    never={
        "participants": "each takes part by what they do", "comment_count": _FOLLOWS, "task_count": _FOLLOWS,
        "rendered": _FOLLOWS, "summary": _FOLLOWS, "merge_commit": _NO_REQUEST, "closed_by": _NO_REQUEST,
        "reason": _NO_REQUEST, "queued": _NO_REQUEST, "source": "the branch is compared, and its commit",
        "destination": "the branch is compared, and its commit",
    },
)  # fmt: skip
PULL_REQUEST_COMMENT = Thing(
    "comment", (f"POST {_R}/pullrequests/{{pull_request_id}}/comments",), text="content.raw",
    never=_TEXT_NEVER,
)  # fmt: skip
TASK = Thing(
    "task",
    (
        f"POST {_R}/pullrequests/{{pull_request_id}}/tasks",
        f"PUT {_R}/pullrequests/{{pull_request_id}}/tasks/{{task_id}}",
    ),
    text="content.raw", never={**_TEXT_NEVER, "comment": _GIVEN},
)  # fmt: skip
COMMIT_COMMENT = Thing(
    "commit comment", (f"POST {_R}/commit/{{commit}}/comments",), text="content.raw", never=_TEXT_NEVER
)
COMMIT_STATUS = Thing(
    "commit status", (f"POST {_R}/commit/{{commit}}/statuses/build",), ("key",),
    never={"commit": _PLACE, "repository": _PLACE},
)  # fmt: skip
REPORT = Thing(
    "report", (f"PUT {_R}/commit/{{commit}}/reports/{{reportId}}",), ("external_id",),
    never={"commit_hash": _PLACE},
)  # fmt: skip
ANNOTATION = Thing(
    "annotation", (f"PUT {_R}/commit/{{commit}}/reports/{{reportId}}/annotations/{{annotationId}}",),
    ("external_id",),
)  # fmt: skip
SNIPPET = Thing(
    "snippet", ("POST /snippets/{workspace}",), ("title",),
    never={"files": "the files are compared by their content", "workspace": _PLACE},
)  # fmt: skip
SNIPPET_COMMENT = Thing(
    "snippet comment", ("POST /snippets/{workspace}/{encoded_id}/comments",), text="content.raw",
    never=_TEXT_NEVER,
)  # fmt: skip

THINGS: tuple[Thing, ...] = (
    REPOSITORY, PROJECT, BRANCHING_MODEL, PROJECT_BRANCHING_MODEL, DEFAULT_REVIEWER, PROJECT_DEFAULT_REVIEWER,
    DEPLOY_KEY, PROJECT_DEPLOY_KEY, USER_PERMISSION, GROUP_PERMISSION, PROJECT_USER_PERMISSION,
    PROJECT_GROUP_PERMISSION, BRANCH_RESTRICTION, HOOK, WORKSPACE_HOOK, OVERRIDE_SETTINGS, PIPELINES_CONFIG,
    VARIABLE, WORKSPACE_VARIABLE, ENVIRONMENT_VARIABLE, SCHEDULE, KNOWN_HOST, ENVIRONMENT, DOWNLOAD,
    PULL_REQUEST, PULL_REQUEST_COMMENT, TASK, COMMIT_COMMENT, COMMIT_STATUS, REPORT, ANNOTATION, SNIPPET,
    SNIPPET_COMMENT,
)  # fmt: skip
# Requests that set something that no answer shows, so that no two backups can be compared in it.
UNSEEN: Mapping[str, str] = {
    f"PUT {_R}/pipelines_config/build_number": "no answer shows the next number",
    f"PUT {_R}/pipelines_config/ssh/key_pair": "no answer shows the private key",
}
# Fields, likewise, of things that are compared: by request.
UNSEEN_FIELDS: Mapping[str, tuple[str, ...]] = {
    f"POST {_R}/hooks": ("secret",), f"POST {_W}/hooks": ("secret",),
}  # fmt: skip
