"""Writing routes of branch restrictions, branching models and default reviewers."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.routing import Hidden
from mirror.simulator.responses import json_response
from mirror.simulator.writes.repositories import P, R
from mirror.simulator.writes.routing import Document, Write, WriteRoute, created, nothing
from mirror.simulator.writes.schemas import AnyValue, Array, Boolean, Integer, Object, Schema, String
from mirror.simulator.writes.setting_lists import OwnerOf, SettingsOwner, group, of_project, of_repository

Handler = Callable[[Write], Response]
KINDS = (
    "push", "delete", "force", "restrict_merges", "require_tasks_to_be_completed",
    "require_approvals_to_merge", "require_review_group_approvals_to_merge",
    "require_default_reviewer_approvals_to_merge", "require_no_changes_requested",
    "require_passing_builds_to_merge", "require_commits_behind", "reset_pullrequest_approvals_on_change",
    "smart_reset_pullrequest_approvals", "reset_pullrequest_changes_requested_on_change",
    "require_all_dependencies_merged", "enforce_merge_checks", "allow_auto_merge_when_builds_pass",
    "require_all_comments_resolved",
)  # fmt: skip
# Restrictions that exempt users and groups.
OF_PEOPLE = ("push", "restrict_merges")
_ACCOUNT = Object({"uuid": String(), "account_id": String()})
_RESTRICTION: dict[str, Schema] = {
    "kind": String(KINDS), "branch_match_kind": String(("branching_model", "glob")), "pattern": String(),
    "branch_type": String(("feature", "bugfix", "release", "hotfix", "development", "production")),
    "value": Integer(), "users": Array(_ACCOUNT),
    "groups": Array(Object({"slug": String(), "name": String()})),
}  # fmt: skip
_BRANCH: dict[str, Schema] = {"is_valid": Boolean(), "name": String(), "use_mainbranch": Boolean()}
MODEL = Object(
    {
        "branch_types": Array(
            Object(
                {
                    "enabled": Boolean(), "prefix": String(),
                    "kind": String(("feature", "bugfix", "release", "hotfix")),
                },
                needs=("kind",), closed=True,
            ),
            most=4,
        ),
        "development": Object(_BRANCH, closed=True),
        "production": Object({**_BRANCH, "enabled": Boolean()}, closed=True),
        "default_branch_deletion": String(),
    }
)  # fmt: skip
OVERRIDES = Object({"override_settings": AnyValue()}, needs=("override_settings",))


# -- branch restrictions


def _create_restriction(call: Write) -> Response:
    owner = of_repository(call)
    made: Document = {"type": "branchrestriction", "id": call.world.number()}
    _restrict(call, owner, made)
    owner.add("branch_restrictions", made)
    return created(owner.shown(call, made))


def _update_restriction(call: Write) -> Response:
    owner = of_repository(call)
    old = _restriction(call, owner)
    new = dict(old)
    _restrict(call, owner, new)
    return json_response(owner.shown(call, owner.replace("branch_restrictions", old, new)))


def _delete_restriction(call: Write) -> Response:
    owner = of_repository(call)
    owner.remove("branch_restrictions", _restriction(call, owner))
    return nothing()


def _restriction(call: Write, owner: SettingsOwner) -> Document:
    key = call.names["id"]
    return owner.find("branch_restrictions", "id", int(key) if key.isdigit() else -1, "Restriction")


def _restrict(call: Write, owner: SettingsOwner, made: Document) -> None:
    """Apply the body to a restriction. Raises BadRequest where the result is invalid."""
    given = call.given
    for name in ("kind", "branch_match_kind", "pattern", "branch_type", "value"):
        if name in given:
            made[name] = given[name]
    is_glob = made["branch_match_kind"] == "glob"
    if not made.get("pattern" if is_glob else "branch_type"):
        raise BadRequest("pattern or branch_type: required key not provided")
    if not is_glob:
        made["pattern"] = ""
    if any(
        other["id"] != made["id"] and _key(other) == _key(made) for other in owner.list("branch_restrictions")
    ):
        raise BadRequest("A restriction of this kind for these branches already exists.")
    _exempt_people(call, owner, made)
    made["links"] = {"self": {"href": f"@api/branch-restrictions/{made['id']}"}}


def _key(restriction: Document) -> tuple[str, ...]:
    """The kind and branches of a restriction. No two restrictions have the same."""
    branches = restriction.get("pattern") or restriction.get("branch_type") or ""
    return restriction["kind"], branches, restriction["branch_match_kind"]


def _exempt_people(call: Write, owner: SettingsOwner, made: Document) -> None:
    """Apply the users and groups of the body to a restriction."""
    given = call.given
    if made["kind"] in OF_PEOPLE:
        if not {"users", "groups"} <= {*given, *made}:
            raise BadRequest(f"users and groups are required for restrictions of the kind {made['kind']}")
    elif given.get("users") or given.get("groups"):
        raise BadRequest(f"Restrictions of the kind {made['kind']} have no users or groups")
    if "users" in given or "users" not in made:
        made["users"] = [_exempt(call, one, owner) for one in given.get("users", [])]
    if "groups" in given or "groups" not in made:
        made["groups"] = [group(one.get("slug", ""), owner) for one in given.get("groups", [])]


def _exempt(call: Write, account: Document, owner: SettingsOwner) -> Document:
    try:
        found = call.member(account.get("uuid") or account.get("account_id") or "", owner.workspace.slug)
    except Hidden as error:
        raise BadRequest(error.message) from None
    return {"@user": found.email}


# -- branching models


def _update_model(owner_of: OwnerOf) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        settings = _model_of(owner)
        _merge_types(settings, call.given.get("branch_types", []))
        for name in ("development", "production"):
            if name in call.given:
                settings[name] = _branch_of(owner, name, {**settings[name], **call.body[name]})
        if call.given.get("default_branch_deletion") in ("true", "false"):
            settings["default_branch_deletion"] = call.given["default_branch_deletion"]
        owner.settings["branching_model_settings"] = settings
        owner.settings["branching_model"] = _model_shown(owner, settings)
        if call.switches.branching_model_stops_inheriting and owner.repository is not None:
            _override(owner, {"branching_model": True})
        return json_response(owner.shown(call, settings))

    return handler


def _model_of(owner: SettingsOwner) -> Document:
    blank: Document = {
        "type": "branching_model_settings", "branch_types": [],
        "development": {"name": None, "use_mainbranch": True, "is_valid": True},
        "production": {"name": None, "use_mainbranch": False, "enabled": False},
        "default_branch_deletion": "false",
        "links": {"self": {"href": "@api/branching-model/settings"}},
    }  # fmt: skip
    return {**blank, **owner.settings.get("branching_model_settings", {})}


def _merge_types(settings: Document, given: list[Document]) -> None:
    merged = {one["kind"]: one for one in settings["branch_types"]}
    for one in given:
        old = merged.get(one["kind"], {"kind": one["kind"], "prefix": f"{one['kind']}/", "enabled": True})
        merged[one["kind"]] = {**old, **{name: value for name, value in one.items() if value is not None}}
    prefixes = [one["prefix"] for one in merged.values() if one["enabled"]]
    for index, one in enumerate(prefixes):
        if not one or any(sign in one for sign in "*? ~^:\\["):
            raise BadRequest(f"branch_types: {one!r} is not a valid prefix")
        others = prefixes[:index] + prefixes[index + 1 :]
        if any(other.startswith(one) for other in others):
            raise BadRequest(f"branch_types: {one!r} is the beginning of another prefix")
    settings["branch_types"] = list(merged.values())


def _branch_of(owner: SettingsOwner, name: str, branch: Document) -> Document:
    """A branch of the model. In a repository's own model it must exist."""
    wanted = None if branch.get("use_mainbranch") else branch.get("name")
    repository = owner.repository
    is_valid = repository is None or wanted is None or repository.has_branch(wanted)
    is_used = name == "development" or branch.get("enabled", False)
    if is_used and (not is_valid or (wanted is None and not branch.get("use_mainbranch"))):
        raise BadRequest(f"{name}: there is no branch of this name")
    return {**branch, "name": wanted, "is_valid": is_valid}


def _model_shown(owner: SettingsOwner, settings: Document) -> Document:
    kind = "project_branching_model" if owner.project else "branching_model"
    shown: Document = {
        "type": kind,
        "branch_types": [
            {"kind": one["kind"], "prefix": one["prefix"]}
            for one in settings["branch_types"]
            if one["enabled"]
        ],
    }
    main = owner.repository.main_branch() if owner.repository is not None else None
    for name in ("development", "production"):
        branch = settings[name]
        if name == "development" or branch.get("enabled"):
            uses_main = branch["use_mainbranch"]
            shown[name] = {"name": main if uses_main else branch["name"], "use_mainbranch": uses_main}
    return shown


def _put_overrides(call: Write) -> Response:
    given = call.body["override_settings"]
    if not isinstance(given, dict) or not all(isinstance(one, bool) for one in given.values()):
        raise BadRequest("override_settings: expected true or false for each setting")
    _override(of_repository(call), given)
    return nothing()


def _override(owner: SettingsOwner, given: dict[str, bool]) -> None:
    old = owner.settings.get("override_settings", {}).get("override_settings", {})
    owner.settings["override_settings"] = {
        "type": "repository_inheritance_state",
        "override_settings": {**old, **given},
    }


# -- default reviewers


def _add_reviewer(owner_of: OwnerOf) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        found = call.member(call.names["user"], owner.workspace.slug)
        user = {"@user": found.email}
        entry = _reviewer_entry(owner, user)
        if entry not in owner.list("default_reviewers"):
            owner.add("default_reviewers", entry)
        return json_response(call.render.user(found))

    return handler


def _reviewer_entry(owner: SettingsOwner, user: Document) -> Document:
    if not owner.project:
        return user
    return {"type": "default_reviewer", "reviewer_type": "project", "user": user}


def _remove_reviewer(owner_of: OwnerOf) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        found = call.member(call.names["user"], owner.workspace.slug)
        entry = _reviewer_entry(owner, {"@user": found.email})
        for one in owner.list("default_reviewers"):
            if one == entry:
                owner.remove("default_reviewers", one)
                return nothing()
        raise Hidden(f"{found.name} is not a default reviewer")

    return handler


_ADMIN = ("repository:admin",), ("admin:repository:bitbucket",)
_PROJECT = ("project:admin",), ("admin:project:bitbucket",)
_RESTRICTIONS = R + "/branch-restrictions"
_CREATE = Object(_RESTRICTION, ("kind", "branch_match_kind"))
SETTINGS: tuple[WriteRoute, ...] = (
    WriteRoute("POST", _RESTRICTIONS, *_ADMIN, _create_restriction, _CREATE),
    WriteRoute("PUT", _RESTRICTIONS + "/{id}", *_ADMIN, _update_restriction, Object(_RESTRICTION)),
    WriteRoute("DELETE", _RESTRICTIONS + "/{id}", *_ADMIN, _delete_restriction),
    WriteRoute("PUT", R + "/branching-model/settings", *_ADMIN, _update_model(of_repository), MODEL),
    WriteRoute("PUT", P + "/branching-model/settings", *_PROJECT, _update_model(of_project), MODEL),
    WriteRoute("PUT", R + "/override-settings", *_ADMIN, _put_overrides, OVERRIDES),
    WriteRoute("PUT", R + "/default-reviewers/{user}", *_ADMIN, _add_reviewer(of_repository)),
    WriteRoute("DELETE", R + "/default-reviewers/{user}", *_ADMIN, _remove_reviewer(of_repository)),
    WriteRoute("PUT", P + "/default-reviewers/{user}", *_PROJECT, _add_reviewer(of_project)),
    WriteRoute("DELETE", P + "/default-reviewers/{user}", *_PROJECT, _remove_reviewer(of_project)),
)
