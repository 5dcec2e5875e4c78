"""Writing who may do what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from mirror.simulator.answers import answer
from mirror.simulator.api.calls import Hidden
from mirror.simulator.switches import Switches
from mirror.simulator.writes.calls import Document, Refused, Write, WriteRoute, nothing
from mirror.simulator.writes.kept import Place, Where, group, of_project, of_repository
from mirror.simulator.writes.places import P, R
from mirror.simulator.writes.shapes import Fields, Text

Handler = Callable[[Write], Response]
SEATS = "You have reached your plan's user limit and must upgrade before giving access to additional users."
REPOSITORY = Fields({"permission": Text(("read", "write", "admin"))}, ("permission",), closed=True)
PROJECT = Fields(
    {"permission": Text(("read", "write", "create-repo", "admin"))}, ("permission",), closed=True
)


def _grant(where: Where, who: str) -> Handler:
    """Give a user or a group (`who`) a permission."""

    def handler(call: Write) -> Response:
        place, permission = where(call), call.given["permission"]
        name, entry = f"permissions_{who}s", _permission_entry(call, place, who)
        others = [one for one in place.list(name) if one[who] != entry[who]]
        if len(others) == len(place.list(name)):
            _take_seat(place, entry)
        place.settings[name] = [*others, {**entry, "permission": permission}]
        if who == "user" and place.repository is not None:
            _note_effective(place, entry["user"], permission)
        return answer(place.shown(call, {**entry, "permission": permission}))

    return handler


def _permission_entry(call: Write, place: Place, who: str) -> Document:
    entry: Document = {"type": f"{place.kind}_{who}_permission", "permission": "none"}
    if who == "user":
        return {**entry, "user": {"@user": call.member(call.names["user"], place.workspace.slug).email}}
    if call.names["group"] not in place.workspace.groups:
        raise Hidden(f"No group with the slug '{call.names['group']}'.")
    return {**entry, "group": group(call.names["group"], place)}


def _take_seat(place: Place, entry: Document) -> None:
    """Refuse somebody who has no access yet where every seat that was paid for is taken."""
    workspace = place.workspace
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


def _note_effective(place: Place, user: Document, permission: str | None) -> None:
    """Keep the workspace's list of who may do what in which repository."""
    assert place.repository is not None
    entry = {"user": user, "repository": {"@repository": place.repository.slug}}
    found: list[Any] = place.workspace.settings.setdefault("repository_permissions", [])
    others = [one for one in found if (one["user"], one["repository"]) != tuple(entry.values())]
    if permission is not None:
        others.append({"type": "repository_permission", "permission": permission, **entry})
    place.workspace.settings["repository_permissions"] = others


def _revoke(where: Where, who: str) -> Handler:
    def handler(call: Write) -> Response:
        place = where(call)
        name, entry = f"permissions_{who}s", _permission_entry(call, place, who)
        others = [one for one in place.list(name) if one[who] != entry[who]]
        if len(others) == len(place.list(name)):
            raise Hidden("There is no such permission")
        place.settings[name] = others
        if who == "user" and place.repository is not None:
            _note_effective(place, entry["user"], None)
        return nothing()

    return handler


def _tokens(switches: Switches) -> bool:
    return switches.access_tokens_change_permissions


def _routes(address: str, where: Where, classic: str, long: str, shape: Fields) -> tuple[WriteRoute, ...]:
    """The routes of users' and groups' permissions below an address."""
    found = []
    for who in ("user", "group"):
        path = f"{address}/permissions-config/{who}s/{{{who}}}"
        found += [
            WriteRoute(
                "PUT", path, (classic,), (long, "write:permission:bitbucket"), _grant(where, who), shape,
                users_only=_tokens,
            ),
            WriteRoute(
                "DELETE", path, (classic,), (long, "delete:permission:bitbucket"), _revoke(where, who),
                users_only=_tokens,
            ),
        ]  # fmt: skip
    return tuple(found)


PERMISSIONS: tuple[WriteRoute, ...] = (
    *_routes(R, of_repository, "repository:admin", "admin:repository:bitbucket", REPOSITORY),
    *_routes(P, of_project, "project:admin", "admin:project:bitbucket", PROJECT),
)
