"""Writing branch restrictions, branching models and default reviewers."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from mirror.simulator.answers import answer
from mirror.simulator.api.calls import Hidden
from mirror.simulator.api.paging import BadRequest
from mirror.simulator.writes.calls import Document, Write, WriteRoute, created, nothing
from mirror.simulator.writes.kept import Place, Where, group, of_project, of_repository
from mirror.simulator.writes.places import P, R
from mirror.simulator.writes.shapes import Anything, Fields, Flag, Many, Shape, Text, Whole

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
# Those that are about people.
OF_PEOPLE = ("push", "restrict_merges")
_ACCOUNT = Fields({"uuid": Text(), "account_id": Text()})
_RESTRICTION: dict[str, Shape] = {
    "kind": Text(KINDS), "branch_match_kind": Text(("branching_model", "glob")), "pattern": Text(),
    "branch_type": Text(("feature", "bugfix", "release", "hotfix", "development", "production")),
    "value": Whole(), "users": Many(_ACCOUNT), "groups": Many(Fields({"slug": Text(), "name": Text()})),
}  # fmt: skip
_BRANCH: dict[str, Shape] = {"is_valid": Flag(), "name": Text(), "use_mainbranch": Flag()}
MODEL = Fields(
    {
        "branch_types": Many(
            Fields(
                {
                    "enabled": Flag(), "prefix": Text(),
                    "kind": Text(("feature", "bugfix", "release", "hotfix")),
                },
                needs=("kind",), closed=True,
            ),
            most=4,
        ),
        "development": Fields(_BRANCH, closed=True),
        "production": Fields({**_BRANCH, "enabled": Flag()}, closed=True),
        "default_branch_deletion": Text(),
    }
)  # fmt: skip
OVERRIDES = Fields({"override_settings": Anything()}, needs=("override_settings",))


# -- branch restrictions


def _create_restriction(call: Write) -> Response:
    place = of_repository(call)
    made: Document = {"type": "branchrestriction", "id": call.world.number()}
    _restrict(call, place, made)
    place.add("branch_restrictions", made)
    return created(place.shown(call, made))


def _update_restriction(call: Write) -> Response:
    place = of_repository(call)
    old = _restriction(call, place)
    new = dict(old)
    _restrict(call, place, new)
    return answer(place.shown(call, place.replace("branch_restrictions", old, new)))


def _delete_restriction(call: Write) -> Response:
    place = of_repository(call)
    place.remove("branch_restrictions", _restriction(call, place))
    return nothing()


def _restriction(call: Write, place: Place) -> Document:
    key = call.names["id"]
    return place.find("branch_restrictions", "id", int(key) if key.isdigit() else -1, "Restriction")


def _restrict(call: Write, place: Place, made: Document) -> None:
    """Put what the body says into a restriction. Raises BadRequest where that cannot be."""
    given = call.given
    for name in ("kind", "branch_match_kind", "pattern", "branch_type", "value"):
        if name in given:
            made[name] = given[name]
    is_glob = made["branch_match_kind"] == "glob"
    match = made.get("pattern" if is_glob else "branch_type")
    if not match:
        raise BadRequest("pattern or branch_type: required key not provided")
    if not is_glob:
        made["pattern"] = ""
    for other in place.list("branch_restrictions"):
        key = (other["kind"], other.get("pattern") or other.get("branch_type"), other["branch_match_kind"])
        if other["id"] != made["id"] and key == (made["kind"], match, made["branch_match_kind"]):
            raise BadRequest("A restriction of this kind for these branches already exists.")
    if made["kind"] in OF_PEOPLE:
        if not {"users", "groups"} <= {*given, *made}:
            raise BadRequest(f"users and groups are required for restrictions of the kind {made['kind']}")
    elif given.get("users") or given.get("groups"):
        raise BadRequest(f"Restrictions of the kind {made['kind']} have no users or groups")
    if "users" in given or "users" not in made:
        made["users"] = [_exempt(call, one, place) for one in given.get("users", [])]
    if "groups" in given or "groups" not in made:
        made["groups"] = [group(one.get("slug", ""), place) for one in given.get("groups", [])]
    made["links"] = {"self": {"href": f"@api/branch-restrictions/{made['id']}"}}


def _exempt(call: Write, account: Document, place: Place) -> Document:
    try:
        found = call.member(account.get("uuid") or account.get("account_id") or "", place.workspace.slug)
    except Hidden as error:
        raise BadRequest(error.message) from None
    return {"@user": found.email}


# -- branching models


def _update_model(where: Where) -> Handler:
    def handler(call: Write) -> Response:
        place = where(call)
        settings = _model_of(place)
        _merge_types(settings, call.given.get("branch_types", []))
        for name in ("development", "production"):
            if name in call.given:
                settings[name] = _branch_of(place, name, {**settings[name], **call.body[name]})
        if call.given.get("default_branch_deletion") in ("true", "false"):
            settings["default_branch_deletion"] = call.given["default_branch_deletion"]
        place.settings["branching_model_settings"] = settings
        place.settings["branching_model"] = _model_shown(place, settings)
        if call.switches.branching_model_stops_inheriting and place.repository is not None:
            _override(place, {"branching_model": True})
        return answer(place.shown(call, settings))

    return handler


def _model_of(place: Place) -> Document:
    blank: Document = {
        "type": "branching_model_settings", "branch_types": [],
        "development": {"name": None, "use_mainbranch": True, "is_valid": True},
        "production": {"name": None, "use_mainbranch": False, "enabled": False},
        "default_branch_deletion": "false",
        "links": {"self": {"href": "@api/branching-model/settings"}},
    }  # fmt: skip
    return {**blank, **place.settings.get("branching_model_settings", {})}


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


def _branch_of(place: Place, name: str, branch: Document) -> Document:
    """A branch of the model, checked: it must be there, where the repository's own model names one."""
    wanted = None if branch.get("use_mainbranch") else branch.get("name")
    repository = place.repository
    is_valid = repository is None or wanted is None or repository.has_branch(wanted)
    is_used = name == "development" or branch.get("enabled", False)
    if is_used and (not is_valid or (wanted is None and not branch.get("use_mainbranch"))):
        raise BadRequest(f"{name}: there is no branch of this name")
    return {**branch, "name": wanted, "is_valid": is_valid}


def _model_shown(place: Place, settings: Document) -> Document:
    kind = "project_branching_model" if place.project else "branching_model"
    shown: Document = {
        "type": kind,
        "branch_types": [
            {"kind": one["kind"], "prefix": one["prefix"]}
            for one in settings["branch_types"]
            if one["enabled"]
        ],
    }
    main = place.repository.main_branch() if place.repository is not None else None
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


def _override(place: Place, given: dict[str, bool]) -> None:
    old = place.settings.get("override_settings", {}).get("override_settings", {})
    place.settings["override_settings"] = {
        "type": "repository_inheritance_state",
        "override_settings": {**old, **given},
    }


# -- default reviewers


def _add_reviewer(where: Where) -> Handler:
    def handler(call: Write) -> Response:
        place = where(call)
        found = call.member(call.names["user"], place.workspace.slug)
        user = {"@user": found.email}
        entry = _reviewer_entry(place, user)
        if entry not in place.list("default_reviewers"):
            place.add("default_reviewers", entry)
        return answer(call.render.user(found))

    return handler


def _reviewer_entry(place: Place, user: Document) -> Document:
    if not place.project:
        return user
    return {"type": "default_reviewer", "reviewer_type": "project", "user": user}


def _remove_reviewer(where: Where) -> Handler:
    def handler(call: Write) -> Response:
        place = where(call)
        found = call.member(call.names["user"], place.workspace.slug)
        entry = _reviewer_entry(place, {"@user": found.email})
        for one in place.list("default_reviewers"):
            if one == entry:
                place.remove("default_reviewers", one)
                return nothing()
        raise Hidden(f"{found.name} is not a default reviewer")

    return handler


_ADMIN = ("repository:admin",), ("admin:repository:bitbucket",)
_PROJECT = ("project:admin",), ("admin:project:bitbucket",)
_RESTRICTIONS = R + "/branch-restrictions"
_CREATE = Fields(_RESTRICTION, ("kind", "branch_match_kind"))
SETTINGS: tuple[WriteRoute, ...] = (
    WriteRoute("POST", _RESTRICTIONS, *_ADMIN, _create_restriction, _CREATE),
    WriteRoute("PUT", _RESTRICTIONS + "/{id}", *_ADMIN, _update_restriction, Fields(_RESTRICTION)),
    WriteRoute("DELETE", _RESTRICTIONS + "/{id}", *_ADMIN, _delete_restriction),
    WriteRoute("PUT", R + "/branching-model/settings", *_ADMIN, _update_model(of_repository), MODEL),
    WriteRoute("PUT", P + "/branching-model/settings", *_PROJECT, _update_model(of_project), MODEL),
    WriteRoute("PUT", R + "/override-settings", *_ADMIN, _put_overrides, OVERRIDES),
    WriteRoute("PUT", R + "/default-reviewers/{user}", *_ADMIN, _add_reviewer(of_repository)),
    WriteRoute("DELETE", R + "/default-reviewers/{user}", *_ADMIN, _remove_reviewer(of_repository)),
    WriteRoute("PUT", P + "/default-reviewers/{user}", *_PROJECT, _add_reviewer(of_project)),
    WriteRoute("DELETE", P + "/default-reviewers/{user}", *_PROJECT, _remove_reviewer(of_project)),
)
