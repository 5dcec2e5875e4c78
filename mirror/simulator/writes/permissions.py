"""Writing routes of permissions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from mirror.simulator.api.routing import Hidden
from mirror.simulator.responses import json_response
from mirror.simulator.switches import Switches
from mirror.simulator.writes.repositories import P, R
from mirror.simulator.writes.routing import Document, Refused, Write, WriteRoute, nothing
from mirror.simulator.writes.schemas import Object, String
from mirror.simulator.writes.setting_lists import OwnerOf, SettingsOwner, group, of_project, of_repository

Handler = Callable[[Write], Response]
SEATS = "You have reached your plan's user limit and must upgrade before giving access to additional users."
REPOSITORY = Object({"permission": String(("read", "write", "admin"))}, ("permission",), closed=True)
PROJECT = Object(
    {"permission": String(("read", "write", "create-repo", "admin"))}, ("permission",), closed=True
)


def _grant(owner_of: OwnerOf, who: str) -> Handler:
    """A handler that grants a permission to a user or a group (`who`)."""

    def handler(call: Write) -> Response:
        owner, permission = owner_of(call), call.given["permission"]
        name, entry = f"permissions_{who}s", _permission_entry(call, owner, who)
        others = [one for one in owner.list(name) if one[who] != entry[who]]
        if len(others) == len(owner.list(name)):
            _take_seat(owner, entry)
        owner.settings[name] = [*others, {**entry, "permission": permission}]
        if who == "user" and owner.repository is not None:
            _note_effective(owner, entry["user"], permission)
        return json_response(owner.shown(call, {**entry, "permission": permission}))

    return handler


def _permission_entry(call: Write, owner: SettingsOwner, who: str) -> Document:
    entry: Document = {"type": f"{owner.kind}_{who}_permission", "permission": "none"}
    if who == "user":
        return {**entry, "user": {"@user": call.member(call.names["user"], owner.workspace.slug).email}}
    if call.names["group"] not in owner.workspace.groups:
        raise Hidden(f"No group with the slug '{call.names['group']}'.")
    return {**entry, "group": group(call.names["group"], owner)}


def _take_seat(owner: SettingsOwner, entry: Document) -> None:
    """Refuse access to a further user where all seats of the workspace are taken."""
    workspace = owner.workspace
    everywhere = [
        *(one.settings for one in workspace.repositories.values()),
        *workspace.project_settings.values(),
    ]
    seated = [
        one.get("user") or one.get("group")
        for settings in everywhere
        for name in ("permissions_users", "permissions_groups")
        for one in settings.get(name, [])
    ]
    subject = entry.get("user") or entry.get("group")
    taken = {str(one) for one in seated}
    if workspace.seats is not None and subject not in seated and len(taken) >= workspace.seats:
        raise Refused(402, SEATS)


def _note_effective(owner: SettingsOwner, user: Document, permission: str | None) -> None:
    """Update the workspace's list of repository permissions."""
    assert owner.repository is not None
    entry = {"user": user, "repository": {"@repository": owner.repository.slug}}
    found: list[Any] = owner.workspace.settings.setdefault("repository_permissions", [])
    others = [one for one in found if (one["user"], one["repository"]) != tuple(entry.values())]
    if permission is not None:
        others.append({"type": "repository_permission", "permission": permission, **entry})
    owner.workspace.settings["repository_permissions"] = others


def _revoke(owner_of: OwnerOf, who: str) -> Handler:
    def handler(call: Write) -> Response:
        owner = owner_of(call)
        name, entry = f"permissions_{who}s", _permission_entry(call, owner, who)
        others = [one for one in owner.list(name) if one[who] != entry[who]]
        if len(others) == len(owner.list(name)):
            raise Hidden("There is no such permission")
        owner.settings[name] = others
        if who == "user" and owner.repository is not None:
            _note_effective(owner, entry["user"], None)
        return nothing()

    return handler


def _tokens(switches: Switches) -> bool:
    return switches.access_tokens_change_permissions


def _routes(
    address: str, owner_of: OwnerOf, classic: str, long: str, schema: Object
) -> tuple[WriteRoute, ...]:
    """The routes of users' and groups' permissions below an address."""
    found = []
    for who in ("user", "group"):
        path = f"{address}/permissions-config/{who}s/{{{who}}}"
        found += [
            WriteRoute(
                "PUT", path, (classic,), (long, "write:permission:bitbucket"), _grant(owner_of, who), schema,
                users_only=_tokens,
            ),
            WriteRoute(
                "DELETE", path, (classic,), (long, "delete:permission:bitbucket"), _revoke(owner_of, who),
                users_only=_tokens,
            ),
        ]  # fmt: skip
    return tuple(found)


PERMISSIONS: tuple[WriteRoute, ...] = (
    *_routes(R, of_repository, "repository:admin", "admin:repository:bitbucket", REPOSITORY),
    *_routes(P, of_project, "project:admin", "admin:project:bitbucket", PROJECT),
)
