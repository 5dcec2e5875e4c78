"""Writing routes of deploy keys and hooks."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.responses import Response

from mirror.simulator.addresses import is_internal, is_loopback
from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.render_repositories import core_time
from mirror.simulator.api.routing import Hidden
from mirror.simulator.authentication import has_scope
from mirror.simulator.responses import json_response
from mirror.simulator.switches import Switches
from mirror.simulator.writes.repositories import P, R, W
from mirror.simulator.writes.routing import Document, Write, WriteRoute, created, nothing
from mirror.simulator.writes.schemas import Array, Boolean, Object, Schema, String
from mirror.simulator.writes.setting_lists import OwnerOf, new_uuid, of_project, of_repository, of_workspace

Handler = Callable[[Write], Response]
EVENTS = (
    "issue:comment_created", "issue:created", "issue:updated", "pipeline:span_created", "project:updated",
    "pullrequest:approved", "pullrequest:changes_request_created", "pullrequest:changes_request_removed",
    "pullrequest:comment_created", "pullrequest:comment_deleted", "pullrequest:comment_reopened",
    "pullrequest:comment_resolved", "pullrequest:comment_updated", "pullrequest:created",
    "pullrequest:fulfilled", "pullrequest:push", "pullrequest:rejected", "pullrequest:unapproved",
    "pullrequest:updated", "repo:commit_comment_created", "repo:commit_status_created",
    "repo:commit_status_updated", "repo:created", "repo:deleted", "repo:fork", "repo:imported", "repo:push",
    "repo:transfer", "repo:updated",
)  # fmt: skip
KEY = Object({"key": String(), "label": String(), "comment": String()})
_HOOK: dict[str, Schema] = {
    "description": String(), "url": String(pattern=r"https?://\S+"), "active": Boolean(),
    "events": Array(String(EVENTS), 1), "secret": String(most=128),
}  # fmt: skip


# -- deploy keys


def _add_key(owner_of: OwnerOf) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        key, comment = _key_of(call)
        if any(one["key"] == key for one in owner.list("deploy_keys")):
            raise BadRequest("key: Someone has already added that access key.")
        made: Document = {
            "type": "project_deploy_key" if owner.project else "deploy_key", "id": call.world.number(),
            "key": key, "label": call.given.get("label", ""), "comment": comment,
            "added_on": core_time(call.world.now()), "last_used": None,
        }  # fmt: skip
        return json_response(owner.shown(call, owner.add("deploy_keys", made)))

    return handler


def _key_of(call: Write) -> tuple[str, str]:
    """A public key without its comment, and the comment."""
    words = call.given.get("key", "").split(None, 2)
    if len(words) < 2 or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        raise BadRequest("key: Invalid SSH key.")
    return " ".join(words[:2]), words[2] if len(words) > 2 else call.given.get("comment", "")


def _update_key(call: Write) -> Response:
    owner = of_repository(call)
    old = owner.find("deploy_keys", "id", _number(call, "key"), "Deploy key")
    key, comment = _key_of(call)
    if key != old["key"]:
        raise BadRequest("key: The key itself cannot be changed.")
    new = {**old, "comment": comment or old["comment"], "label": call.given.get("label", old["label"])}
    return json_response(owner.shown(call, owner.replace("deploy_keys", old, new)))


def _number(call: Write, name: str) -> int:
    return int(call.names[name]) if call.names[name].isdigit() else -1


def _remove_key(owner_of: OwnerOf) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        owner.remove("deploy_keys", owner.find("deploy_keys", "id", _number(call, "key"), "Deploy key"))
        return nothing()

    return handler


# -- hooks


def _create_hook(owner_of: OwnerOf) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        made: Document = {
            "type": "webhook_subscription", "uuid": new_uuid(), "description": "", "active": True,
            "subject_type": owner.kind, "created_at": core_time(call.world.now()), "secret_set": False,
        }  # fmt: skip
        _set_hook(call, made)
        return created(owner.shown(call, owner.add("hooks", made)))

    return handler


def _update_hook(owner_of: OwnerOf) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        old = owner.find("hooks", "uuid", call.names["hook"], "Webhook")
        new = dict(old)
        _set_hook(call, new)
        return json_response(owner.shown(call, owner.replace("hooks", old, new)))

    return handler


def _set_hook(call: Write, hook: Document) -> None:
    given = call.given
    hook.update({name: given[name] for name in ("description", "url", "active", "events") if name in given})
    host = urlsplit(hook["url"]).hostname or ""
    if is_internal(host) and (call.switches.loopback_hooks_refused or not is_loopback(host)):
        raise BadRequest("url: The address is not one of the public internet.")
    areas = {one.partition(":")[0].replace("repo", "repository") for one in hook["events"]}
    if "issue" in areas and call.switches.issue_events_refused:
        raise BadRequest("events: There are no events of issues any more.")
    for area in sorted(areas):
        if call.switches.hook_events_need_scopes and not has_scope(call.token, area):
            raise Hidden("no scope", scope=area)
    if "secret" in call.body:
        secret = call.body["secret"]
        hook["secret_set"] = bool(secret)
        call.world.secrets.pop(hook["uuid"], None)
        if secret:
            call.world.secrets[hook["uuid"]] = secret


def _delete_hook(owner_of: OwnerOf) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        owner.remove("hooks", owner.find("hooks", "uuid", call.names["hook"], "Webhook"))
        return nothing()

    return handler


def _keys(switches: Switches) -> bool:
    return switches.access_tokens_change_deploy_keys


_KEYS = ("repository", "repository:admin"), ("admin:repository:bitbucket", "write:ssh-key:bitbucket")
_NO_KEY = ("repository", "repository:admin"), ("admin:repository:bitbucket", "delete:ssh-key:bitbucket")
_PROJECT_KEYS = ("project", "project:admin"), ("admin:project:bitbucket", "write:ssh-key:bitbucket")
_NO_PROJECT_KEY = ("project", "project:admin"), ("admin:project:bitbucket", "delete:ssh-key:bitbucket")
_HOOKS = ("webhook",), ("read:webhook:bitbucket", "write:webhook:bitbucket")
_NO_HOOK = ("webhook",), ("delete:webhook:bitbucket",)
_NEW_HOOK = Object(_HOOK, ("url", "events"))
HOOKS: tuple[WriteRoute, ...] = (
    WriteRoute("POST", R + "/deploy-keys", *_KEYS, _add_key(of_repository), KEY, users_only=_keys),
    WriteRoute("PUT", R + "/deploy-keys/{key}", *_KEYS, _update_key, KEY, users_only=_keys),
    WriteRoute("DELETE", R + "/deploy-keys/{key}", *_NO_KEY, _remove_key(of_repository), users_only=_keys),
    WriteRoute("POST", P + "/deploy-keys", *_PROJECT_KEYS, _add_key(of_project), KEY, users_only=_keys),
    WriteRoute(
        "DELETE", P + "/deploy-keys/{key}", *_NO_PROJECT_KEY, _remove_key(of_project), users_only=_keys
    ),
    WriteRoute("POST", R + "/hooks", *_HOOKS, _create_hook(of_repository), _NEW_HOOK),
    WriteRoute("PUT", R + "/hooks/{hook}", *_HOOKS, _update_hook(of_repository), Object(_HOOK)),
    WriteRoute("DELETE", R + "/hooks/{hook}", *_NO_HOOK, _delete_hook(of_repository)),
    WriteRoute("POST", W + "/hooks", *_HOOKS, _create_hook(of_workspace), _NEW_HOOK),
    WriteRoute("PUT", W + "/hooks/{hook}", *_HOOKS, _update_hook(of_workspace), Object(_HOOK)),
    WriteRoute("DELETE", W + "/hooks/{hook}", *_NO_HOOK, _delete_hook(of_workspace)),
)
