"""How Bitbucket takes each kind of setting: by which request, under which natural key, with which fields.

From Atlassian's published description, its prose, and clients that write: what needs `users` and `groups`,
what is refused, whose credential it takes. Placeholders of paths are `{who}` for the account or group that
a path names, and `{id}` for a thing that exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from mirror.bitbucket import endpoints as api
from mirror.bitbucket.endpoints import Endpoint
from mirror.model import Json, JsonObject, value_at

_ADMIN = ("repository:admin", "admin:repository:bitbucket")
_PROJECT = ("project:admin", "admin:project:bitbucket")
_KEYS = ("repository:admin", "admin:repository:bitbucket, write:ssh-key:bitbucket")
_PROJECT_KEYS = ("project:admin", "admin:project:bitbucket, write:ssh-key:bitbucket")
_PERMISSIONS = ("repository:admin", "admin:repository:bitbucket, write:permission:bitbucket")
_PROJECT_PERMISSIONS = ("project:admin", "admin:project:bitbucket, write:permission:bitbucket")
_HOOKS = ("webhook", "read:webhook:bitbucket, write:webhook:bitbucket")
_VARIABLES = ("pipeline:variable", "admin:pipeline:bitbucket")
_SCHEDULES = ("pipeline:write", "read:pipeline:bitbucket, write:pipeline:bitbucket")
_ENVIRONMENTS = ("pipeline", "admin:pipeline:bitbucket")
_SNIPPETS = ("snippet:write", "read:snippet:bitbucket, write:snippet:bitbucket")
_CONTENT = ("repository:write", "write:repository:bitbucket")

# The only restrictions that exempt anybody. They need both lists; no other takes one.
_EXEMPTING = ("push", "restrict_merges")


@dataclass(frozen=True)
class Hidden:
    """A field that Bitbucket never shows. `flag` is the field that says whether there is one. `is_needed`:
    without it the thing is not made."""

    field: str
    flag: str
    is_needed: bool


@dataclass(frozen=True)
class Again:
    """After a refusal with this status, what else may be sent: `field` with what `value` makes of it. `note`
    says what is lost by that."""

    status: int
    field: str
    note: str
    value: Callable[[Any], Json]


@dataclass(frozen=True)
class NotThere:
    """A refusal with this status and this text in its message says that a person or a group is not there."""

    status: int
    text: str


@dataclass(frozen=True)
class Change:
    """How something that exists is changed: `fields` of its body (None: all that are sent to make it), below
    the field `inside` where that is given."""

    endpoint: Endpoint
    fields: tuple[str, ...] | None = None
    inside: str = ""
    method: Literal["POST", "PUT"] = "PUT"


@dataclass(frozen=True)
class Write:
    """One kind of thing. Fields are dotted names of its document, as Bitbucket shows it.

    `endpoint` makes it: by POST, or by PUT at its own path. `body` are the fields that are sent, of the
    document that `form` makes. `key` tells things of the kind apart; without one there is a single thing,
    which always exists. `change` is None where `endpoint` changes it, too; `is_fixed`: nothing can. `id` is
    the field that the path of a thing takes.

    `who` is the account (its uuid) or group (its slug) in the path, `person` the place of that account: the
    thing is about a person. `people` is a list of accounts in the body. `branches` are objects that name a
    branch, which must exist. `title` is what people call a thing, where that is not its key.
    """

    endpoint: Endpoint
    method: Literal["POST", "PUT"]
    body: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    change: Change | None = None
    is_fixed: bool = False
    id: str = "uuid"
    who: str = ""
    person: str | None = None
    people: str | None = None
    branches: tuple[str, ...] = ()
    hidden: Hidden | None = None
    again: tuple[Again, ...] = ()
    not_there: tuple[NotThere, ...] = ()
    needs_user: bool = False
    title: str = ""
    form: Callable[[JsonObject], JsonObject] = dict

    def name(self, shown: JsonObject) -> str:
        """What people call the thing: its title, its key, or the name of the person that it is about."""
        if self.person is not None:
            return name_of(value_at(shown, self.person))
        if self.title and value_at(shown, self.title):
            return str(value_at(shown, self.title))
        return " ".join(str(one) for name in self.key if (one := value_at(shown, name)) not in (None, ""))

    @property
    def changes(self) -> Change | None:
        """How one that exists is changed; None where nothing can."""
        return self.change or (Change(self.endpoint) if self.method == "PUT" and not self.is_fixed else None)


def name_of(account: Json) -> str:
    """What people call an account or a group."""
    names = (value_at(account, one) for one in ("display_name", "nickname", "name", "uuid", "slug"))
    return next((one for one in names if isinstance(one, str) and one), "somebody")


def _to(read: Endpoint, scopes: tuple[str, str], more: str = "") -> Endpoint:
    """The endpoint that writes what `read` lists, at `more` below it."""
    scope, long = scopes
    return replace(
        read, template=read.template.rstrip("/") + more, scope=scope, api_token_scope=long, page_size=0,
        query={}, counts_pages=False,
    )  # fmt: skip


def _made(read: Endpoint, scopes: tuple[str, str], body: tuple[str, ...], key: tuple[str, ...]) -> Write:
    """What is made by a POST to its list, and changed by a PUT of the same."""
    return Write(_to(read, scopes), "POST", body, key, Change(_to(read, scopes, "/{id}")))


def _set(read: Endpoint, scopes: tuple[str, str], body: tuple[str, ...]) -> Write:
    """What always exists, and is set by a PUT."""
    return Write(_to(read, scopes), "PUT", body)


# -- forms


def _restriction(shown: JsonObject) -> JsonObject:
    """With the field that its kind of match uses alone, and with lists of people where it takes any."""
    unused = "pattern" if shown.get("branch_match_kind") == "branching_model" else "branch_type"
    lists: JsonObject = {
        "users": [{"uuid": one.get("uuid")} for one in _objects(shown, "users")],
        "groups": [{"slug": one.get("slug")} for one in _objects(shown, "groups")],
    }
    takes = shown.get("kind") in _EXEMPTING or any(lists.values())
    rest = {name: value for name, value in shown.items() if name not in (unused, *lists)}
    return {**rest, **(lists if takes else {})}


def _objects(shown: JsonObject, name: str) -> list[JsonObject]:
    several = shown.get(name)
    return [one for one in several if isinstance(one, dict)] if isinstance(several, list) else []


def _model(shown: JsonObject) -> JsonObject:
    """Without a branch that nothing names: Bitbucket refuses `use_mainbranch: false` without a name."""
    result = dict(shown)
    for name in ("development", "production"):
        branch = shown.get(name)
        if isinstance(branch, dict) and not branch.get("name") and not branch.get("use_mainbranch"):
            result[name] = {"enabled": branch["enabled"]} if "enabled" in branch else None
    types = [
        {name: one[name] for name in ("kind", "prefix", "enabled") if one.get(name) is not None}
        for one in _objects(shown, "branch_types")
    ]
    return {**result, "branch_types": types} if "branch_types" in shown else result


def _key(shown: JsonObject) -> JsonObject:
    """With the comment in the key, too: Bitbucket reads it from there."""
    key, comment = str(shown.get("key") or ""), shown.get("comment")
    words = key.split(None, 2)
    return {**shown, "key": f"{key} {comment}" if comment and len(words) == 2 else key}


def _target(shown: JsonObject) -> JsonObject:
    target = shown.get("target")
    if not isinstance(target, dict):
        return shown
    return {**shown, "target": {**target, "type": target.get("type") or "pipeline_ref_target"}}


def _without_issues(events: Any) -> Json:
    return [one for one in events if not str(one).startswith("issue:")]


def _nobody(_several: Any) -> Json:
    return []


# -- the kinds

# Texts that the names of the endpoints do not have: those stand in messages, too.
_NO_USER = (
    NotThere(404, "no user"), NotThere(404, "no such user"), NotThere(404, "user not found"),
    NotThere(400, "does not have access"), NotThere(400, "not a member"),
)  # fmt: skip
_NO_GROUP = (NotThere(404, "no group"), NotThere(404, "no such group"), NotThere(404, "group not found"))
# Trackers are gone: their events may be unknown, and no access token has their scope.
_NO_LONGER = tuple(
    Again(status, "events", "without the events of issues", _without_issues) for status in (400, 403)
)
_MODEL = (
    "branch_types", "development.name", "development.use_mainbranch", "production.enabled",
    "production.name", "production.use_mainbranch", "default_branch_deletion",
)  # fmt: skip
_VARIABLE = ("key", "value", "secured")
_VALUE = Hidden("value", "secured", is_needed=True)
_HOOK = ("url", "description", "events", "active")
_SECRET = Hidden("secret", "secret_set", is_needed=False)
# There may be several hooks for one address.
_HOOK_KEY = ("url", "description")


def _hooks(read: Endpoint) -> Write:
    return replace(_made(read, _HOOKS, _HOOK, _HOOK_KEY), hidden=_SECRET, again=_NO_LONGER)


def _variables(read: Endpoint) -> Write:
    return replace(_made(read, _VARIABLES, _VARIABLE, ("key",)), hidden=_VALUE)


def _permission(read: Endpoint, scopes: tuple[str, str], person: bool) -> Write:
    who = "user.uuid" if person else "group.slug"
    return Write(
        _to(read, scopes, "/{who}"), "PUT", ("permission",), (who,), who=who,
        person="user" if person else None, not_there=_NO_USER if person else _NO_GROUP, needs_user=True,
    )  # fmt: skip


def _reviewers(read: Endpoint, scopes: tuple[str, str], person: str) -> Write:
    who = f"{person}.uuid".lstrip(".")
    return Write(
        _to(read, scopes, "/{who}"), "PUT", (), (who,), who=who, person=person, not_there=_NO_USER,
        is_fixed=True,
    )  # fmt: skip


WORKSPACE_HOOKS = _hooks(api.WORKSPACE_HOOKS)
WORKSPACE_VARIABLES = _variables(api.WORKSPACE_VARIABLES)
PROJECT_REVIEWERS = _reviewers(api.PROJECT_REVIEWERS, _PROJECT, "user")
PROJECT_MODEL_SETTINGS = replace(_set(api.PROJECT_MODEL_SETTINGS, _PROJECT, _MODEL), form=_model)
PROJECT_KEYS = Write(
    _to(api.PROJECT_KEYS, _PROJECT_KEYS), "POST", ("key", "label", "comment"), ("key",), is_fixed=True,
    needs_user=True, title="label", form=_key,
)  # fmt: skip
PROJECT_USERS = _permission(api.PROJECT_USERS, _PROJECT_PERMISSIONS, person=True)
PROJECT_GROUPS = _permission(api.PROJECT_GROUPS, _PROJECT_PERMISSIONS, person=False)

DEFAULT_REVIEWERS = _reviewers(api.DEFAULT_REVIEWERS, _ADMIN, "")
BRANCHING_MODEL_SETTINGS = replace(
    _set(api.BRANCHING_MODEL_SETTINGS, _ADMIN, _MODEL), form=_model, branches=("development", "production")
)
BRANCH_RESTRICTIONS = replace(
    _made(
        api.BRANCH_RESTRICTIONS, _ADMIN,
        ("kind", "branch_match_kind", "pattern", "branch_type", "value", "users", "groups"),
        ("kind", "branch_match_kind", "pattern", "branch_type"),
    ),
    id="id", people="users", form=_restriction,
    again=(
        Again(400, "groups", "exempt groups that are not at the target", _nobody),
        Again(400, "users", "exempt people who are not at the target", _nobody),
    ),
)  # fmt: skip
DEPLOY_KEYS = replace(
    _made(api.DEPLOY_KEYS, _KEYS, ("key", "label", "comment"), ("key",)),
    id="id", needs_user=True, title="label", form=_key,
)  # fmt: skip
HOOKS = _hooks(api.HOOKS)
USER_PERMISSIONS = _permission(api.USER_PERMISSIONS, _PERMISSIONS, person=True)
GROUP_PERMISSIONS = _permission(api.GROUP_PERMISSIONS, _PERMISSIONS, person=False)
OVERRIDE_SETTINGS = _set(api.OVERRIDE_SETTINGS, _ADMIN, ("override_settings",))

PIPELINES_CONFIG = _set(api.PIPELINES_CONFIG, _ADMIN, ("enabled",))
BUILD_NUMBER = Write(_to(api.PIPELINES_CONFIG, _VARIABLES, "/build_number"), "PUT", ("next",))
VARIABLES = _variables(api.VARIABLES)
SCHEDULES = Write(
    _to(api.SCHEDULES, _SCHEDULES), "POST",
    (
        "cron_pattern", "enabled", "target.type", "target.ref_type", "target.ref_name",
        "target.selector.type", "target.selector.pattern",
    ),
    ("cron_pattern", "target.ref_name", "target.selector.type", "target.selector.pattern"),
    Change(_to(api.SCHEDULES, _SCHEDULES, "/{id}"), ("enabled",)),
    form=_target,
)  # fmt: skip
KNOWN_HOSTS = _made(
    api.KNOWN_HOSTS, _VARIABLES, ("hostname", "public_key.key_type", "public_key.key"), ("hostname",)
)
ENVIRONMENTS = Write(
    _to(api.ENVIRONMENTS, _ENVIRONMENTS), "POST", ("name", "environment_type.name", "rank"), ("name",),
    Change(
        _to(api.ENVIRONMENTS, _ENVIRONMENTS, "/{id}/changes"), ("name", "rank", "restrictions"), "change",
        "POST",
    ),
)  # fmt: skip
ENVIRONMENT_VARIABLES = _variables(api.ENVIRONMENT_VARIABLES)
DOWNLOADS = Write(_to(api.DOWNLOADS, _CONTENT), "POST", (), ("name",))
SNIPPETS = replace(
    _made(api.SNIPPETS, _SNIPPETS, ("title", "is_private", "scm"), ("title",)), id="id", needs_user=True
)
