"""Writing routes, their calls, and the exceptions that refuse a call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.routing import Call, Forbidden, Hidden, address
from mirror.simulator.authentication import ACCESS_TOKENS, has_scope
from mirror.simulator.responses import error_response, json_response
from mirror.simulator.switches import Switches
from mirror.simulator.world.people import Token, User
from mirror.simulator.writes.multipart import Part, parts
from mirror.simulator.writes.schemas import Array, Object

Document = dict[str, Any]
BAD_MECHANISM = "This API is not accessible by this authentication mechanism"
BAD_MEDIA = "Unsupported Content-Type: "


class Refused(Exception):
    """A refusal with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Malformed(Exception):
    """400: the body violates the schema. `fields` has the errors by field."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        super().__init__("Bad request")
        self.fields = fields


@dataclass(frozen=True)
class Write(Call):
    """One call of a writing route: `body` is its JSON, `parts` are the parts of a multipart body."""

    body: Any = None
    parts: Sequence[Part] = ()

    @property
    def given(self) -> Document:
        """The fields of the body that are not null."""
        return {name: one for name, one in self.body.items() if one is not None}

    @property
    def actor(self) -> User:
        """The account that is recorded as the author of the change."""
        return self.world.actor(self.token)

    def member(self, key: str, workspace: str) -> User:
        """The user of this uuid or account id, who must belong to the workspace."""
        found = self.world.account(key)
        if found is None:
            raise Hidden(f"No user with identifier '{key}'.")
        if found.kind != "user" or not found.belongs_to(workspace):
            raise BadRequest(f"{found.name} does not have access to this workspace.")
        return found


@dataclass(frozen=True)
class WriteRoute:
    """A method and a path template with their handler.

    `scopes` are the classic scopes that it requires, `long` those of API tokens: all of each. `schema` is
    that of its JSON body, None where no field is looked at. `media` are the types of body that it takes;
    without any it takes whatever comes. `users_only` names the switch that lets in what signs in for no
    user, where nothing else does.
    """

    method: str
    template: str
    scopes: tuple[str, ...]
    long: tuple[str, ...]
    handler: Callable[[Write], Response]
    schema: Object | Array | None = None
    media: tuple[str, ...] = ("application/json",)
    users_only: Callable[[Switches], bool] | None = None

    def match(self, raw: str) -> dict[str, str] | None:
        """The values of the placeholders, decoded; None where the path does not match."""
        return address(self.template, raw)

    def check_credential(self, token: Token, switches: Switches) -> None:
        """Raise Forbidden or Hidden where the credential may not use the route."""
        is_let_in = token.user is not None or (
            token.kind in ACCESS_TOKENS and self.users_only is not None and self.users_only(switches)
        )
        if self.users_only is not None and not is_let_in:
            raise Forbidden(BAD_MECHANISM)
        if token.kind == "api_token":
            if not set(self.long) <= token.scopes:
                raise Hidden("no scope", scope=self.scopes[-1], long=", ".join(self.long))
        elif not all(has_scope(token, one) for one in self.scopes):
            raise Hidden("no scope", scope=", ".join(self.scopes))

    def read(self, content: bytes, kind: str, switches: Switches) -> tuple[Any, list[Part]]:
        """The JSON and the parts of a body whose Content-Type is `kind`. Raises
        BadRequest, Malformed or Refused."""
        if self.method == "DELETE" or not self.media:
            return {}, []
        name = kind.partition(";")[0].strip().lower()
        if self.schema is None and self.method == "PUT" and not content and not switches.empty_puts_refused:
            return {}, []
        if not name and "application/json" in self.media:
            raise BadRequest("Bad request: a body and its Content-Type are needed")
        if name not in self.media:
            raise Refused(_media_status(self, switches), BAD_MEDIA + name)
        if name != "application/json":
            return {}, parts(content, kind)
        try:
            body = json.loads(content)
        except ValueError:
            raise BadRequest("Invalid JSON") from None
        self.check(body, switches)
        return body, []

    def check(self, body: Any, switches: Switches) -> None:
        """Raise Malformed where a body violates the schema of the route."""
        found: dict[str, list[str]] = {}
        for path, text in (self.schema or Object()).errors(body, ""):
            found.setdefault(path, []).append(text)
        if switches.unknown_fields_refused and isinstance(body, dict) and isinstance(self.schema, Object):
            for name in set(body) - set(self.schema.fields):
                found.setdefault(name, []).append("extra keys not allowed")
        if found:
            raise Malformed(found)


def _media_status(route: WriteRoute, switches: Switches) -> int:
    if "application/json" not in route.media:
        return 406
    return 415 if switches.wrong_media_type_is_415 else 400


def malformed(fields: Mapping[str, list[str]]) -> Response:
    """The response to a body that violates the schema."""
    return error_response(400, "Bad request", fields=dict(fields))


def created(document: Document) -> Response:
    """The response to a creation: 201."""
    return json_response(document, 201)


def nothing() -> Response:
    """The response without a body: 204."""
    return Response(status_code=204)
