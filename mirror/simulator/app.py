"""The ASGI application: API, OAuth and git on one origin; on a second, the storage of long files."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mirror.simulator.api import paging
from mirror.simulator.api.all_routes import READS
from mirror.simulator.api.paging import BadRequest, PageOptions
from mirror.simulator.api.render import Renderer
from mirror.simulator.api.routing import (
    Call,
    Forbidden,
    Gone,
    Hidden,
    Listing,
    Moved,
    Route,
    RouteResult,
    Unauthorized,
)
from mirror.simulator.authentication import ACCESS_TOKENS, CREDENTIAL_TYPES, SignIn, long_name
from mirror.simulator.faults import Fault, Faults
from mirror.simulator.git.app import GitApp
from mirror.simulator.git.lfs import LfsApp
from mirror.simulator.rate_limits import RateLimits
from mirror.simulator.read_write_lock import ReadWriteLock
from mirror.simulator.responses import error_response, json_response
from mirror.simulator.stale import StaleAnswers
from mirror.simulator.storage import stored
from mirror.simulator.switches import Switches
from mirror.simulator.world.people import Token
from mirror.simulator.world.world import World
from mirror.simulator.writes.routes import WRITES
from mirror.simulator.writes.routing import Malformed, Refused, Write, malformed

NOT_ACCEPTABLE = "Not acceptable: this address has no answer of the types asked for."
NO_API = "There is no API hosted at this URL."
BAD_TOKEN = "Token is invalid, expired, or not supported for this endpoint."
# With the switch `stray_refusals`, one of this many requests gets a 401 without a reason.
STRAY_EACH = 17
CHANGELOG = "https://developer.atlassian.com/cloud/bitbucket/changelog/"
# Lists across workspaces are retired. A path with an empty segment reaches them, too.
RETIRED = ("/repositories", "/workspaces", "/user/permissions/repositories", "/user/permissions/workspaces")

# Every scope of users' API tokens that a route needs, and that of issues, which are gone.
EVERY_SCOPE = (
    frozenset(one for route in WRITES for one in route.long)
    | frozenset(route.long or long_name(route.scope) for route in READS if route.scope is not None)
    | {"read:issue:bitbucket"}
)


@dataclass(frozen=True)
class LoggedRequest:
    """A request in the log, `at` the time of its response. `status` 0: the connection was reset."""

    method: str
    path: str
    query: str
    status: int
    kind: str
    identity: str | None
    headers: dict[str, str] = field(repr=False)
    at: datetime


class App:
    """The ASGI application. `api`, `git` and `storage` are its URLs, set once the server listens."""

    def __init__(self, world: World, switches: Switches) -> None:
        self.world = world
        self.switches = switches
        self.faults = Faults()
        self.sign_in = SignIn(world, switches)
        self.limits = RateLimits(world, switches)
        self.requests: list[LoggedRequest] = []
        self._request_numbers = itertools.count(1)
        self._lock = ReadWriteLock()
        self.stale = StaleAnswers()
        self.api = self.git = self.storage = ""
        self.lfs = LfsApp(world, switches, lambda: (self.git, self.storage))
        self._git_app = GitApp(world, switches, self.sign_in, self.limits, self.lfs)

    @property
    def render(self) -> Renderer:
        """A renderer for the current URLs."""
        return Renderer(self.api, self.git, self.switches)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The main origin: API, sign-in and git."""
        await self._serve(scope, receive, send, self._answer)

    async def on_storage(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The storage origin."""
        await self._serve(scope, receive, send, self._stored)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        respond: Callable[[Request, str, bytes, Fault | None], tuple[Response, str | None]],
    ) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        request = Request(scope, receive)
        body = await request.body()
        raw = scope.get("raw_path", request.url.path.encode()).decode("ascii", "replace")
        fault = self.faults.take(request.method, request.url.path)
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind == "reset":
            self._log(request, 0, None)
            await _reset(scope)
            return
        ordered = fault.response() if fault is not None else None
        if ordered is None:
            lock = self._lock.writing if _writes(request) else self._lock.reading

            def respond_locked() -> tuple[Response, str | None]:
                with lock():
                    response, identity = respond(request, raw, body, fault)
                    if self.switches.hooks_precede_changes and not _writes(request):
                        response = self.stale.answer(request, raw, body, response)
                    return response, identity

            response, identity = await asyncio.to_thread(respond_locked)
        else:
            response, identity = ordered, None
        response.headers["Date"] = format_datetime(self.world.clock(), usegmt=True)
        self._log(request, response.status_code, identity)
        if fault is None:
            await response(scope, receive, send)
        else:
            await fault.send(response, scope, receive, send)

    def _log(self, request: Request, status: int, identity: str | None) -> None:
        path = request.url.path
        kind = "api" if path.startswith("/2.0/") else "oauth" if "/oauth2/" in path else "git"
        if path.startswith("/storage/"):
            kind = "storage"
        self.requests.append(
            LoggedRequest(
                request.method,
                path,
                request.url.query,
                status,
                kind,
                identity,
                dict(request.headers),
                self.world.clock(),
            )
        )

    def _answer(
        self, request: Request, raw: str, body: bytes, fault: Fault | None
    ) -> tuple[Response, str | None]:
        path = request.url.path
        if path.endswith("/site/oauth2/access_token"):
            return self._token(request, body), None
        if path.startswith("/2.0/"):
            return self._api(request, raw, body, fault)
        return self._git_app.answer(request, path, body)

    def _stored(
        self, request: Request, raw: str, body: bytes, fault: Fault | None
    ) -> tuple[Response, str | None]:
        del raw, fault
        if request.url.path.startswith("/storage/lfs/"):
            return self.lfs.stored(request, body), None
        return stored(self.world, request.url.path, dict(request.headers)), None

    def _token(self, request: Request, body: bytes) -> Response:
        if request.method != "POST":
            return error_response(405, "Method not allowed")
        form = dict(parse_qsl(body.decode("utf-8", "replace")))
        issued = self.sign_in.issue(request.headers.get("authorization"), form, request.url.path)
        if issued is None:
            return json_response({"error": "unauthorized_client", "error_description": "Invalid client"}, 400)
        return json_response(issued)

    # -- the API

    def _api(
        self, request: Request, raw: str, body: bytes, fault: Fault | None
    ) -> tuple[Response, str | None]:
        token = self.sign_in.rest(
            request.headers.get("authorization"), request.method, request.url.path, request.url.query
        )
        if token is None or self._strays():
            return error_response(401, BAD_TOKEN), None
        count = self.limits.count(token, request.url.path)
        if count.is_over:
            return self.limits.refuse(token, count), token.identity
        extra = self.limits.headers(token, count)
        if self.switches.credential_type_header and token.kind in CREDENTIAL_TYPES:
            extra["X-Credential-Type"] = CREDENTIAL_TYPES[token.kind]
        path = raw.removeprefix("/2.0")
        if request.method == "GET":
            response = self._try(token, extra, lambda: self._route(request, path, token, fault, extra))
        else:
            response = self._try(token, extra, lambda: self._write(request, path, token, body, extra))
        response.headers.update(extra)
        if response.status_code == 200 and request.method == "GET":
            tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
            # A 304 counts against the rate limit, too.
            if request.headers.get("if-none-match") == tag:
                response = Response(status_code=304, headers=extra)
            response.headers["ETag"] = tag
        return response, token.identity

    def _strays(self) -> bool:
        """Whether this request gets a 401 without a reason."""
        return self.switches.stray_refusals and next(self._request_numbers) % STRAY_EACH == 0

    def _try(self, token: Token, extra: dict[str, str], serve: Callable[[], Response]) -> Response:
        """The response of `serve`, or that for its exception. May add headers to `extra`."""
        try:
            return serve()
        except BadRequest as error:
            return error_response(400, str(error))
        except Malformed as error:
            return malformed(error.fields)
        except Refused as error:
            return error_response(error.status, error.message)
        except Moved as moved:
            return Response(status_code=301, headers={"Location": self.api + moved.path})
        except Unauthorized:
            return error_response(401, BAD_TOKEN)
        except Forbidden as error:
            return error_response(404 if self.switches.denied_is_404 else 403, error.message)
        except Hidden as hidden:
            return self._hidden(hidden, token, extra)
        except Gone as gone:
            return error_response(410, gone.message, data={"announcement_url": CHANGELOG})

    def _hidden(self, hidden: Hidden, token: Token, extra: dict[str, str]) -> Response:
        scope = hidden.scope
        if token.kind == "api_token":
            scope = hidden.long or (long_name(scope) if scope is not None else None)
        if scope is None:
            return error_response(404, hidden.message)
        if self.switches.denied_is_404:
            return error_response(404, "Resource not found")
        extra["X-Accepted-Oauth-Scopes"] = scope
        extra["X-Oauth-Scopes"] = ", ".join(sorted(token.scopes))
        detail = {"required": [scope], "granted": sorted(token.scopes)}
        return error_response(
            403, "Your credentials lack one or more required privilege scopes.", detail=detail
        )

    def _route(
        self, request: Request, raw: str, token: Token, fault: Fault | None, extra: dict[str, str]
    ) -> Response:
        if raw.rstrip("/") in RETIRED or raw.startswith(tuple(f"{one}//" for one in RETIRED)):
            raise Gone("CHANGE-2770 - Functionality has been deprecated")
        if "//" in raw:
            return error_response(405, "Method not allowed")
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        bare = self._without_slash(raw)
        for route in READS:
            path = raw if route.template.endswith("/") else bare
            names = route.match(path, slash_counts=self.switches.pipelines_need_slash)
            if names is None:
                continue
            if token.kind == "anonymous" and not route.public:
                raise Unauthorized
            if route.kinds is not None and token.kind not in route.kinds:
                raise Unauthorized
            if not route.is_acceptable(request.headers.get("accept", ""), self.switches):
                return error_response(406, NOT_ACCEPTABLE)
            if not route.is_open_to(token):
                raise Hidden("no scope", scope=route.scope, long=route.long)
            tokens_may = self.switches.access_tokens_query_permissions
            if route.permissions and token.kind in ACCESS_TOKENS and not tokens_may:
                raise Forbidden("Access tokens may not query permissions.")
            call = Call(self.world, self.switches, self.render, token, names, pairs, self.storage, extra)
            return self._response(route, call, route.handler(call), raw, fault)
        raise Hidden(NO_API)

    def _without_slash(self, raw: str) -> str:
        """A path without a trailing slash, where the switch says that it makes no difference."""
        return raw.removesuffix("/") if self.switches.slashes_at_the_end_are_ignored else raw

    def _write(
        self, request: Request, raw: str, token: Token, body: bytes, extra: dict[str, str]
    ) -> Response:
        path = self._without_slash(raw)
        found = [(route, names) for route in WRITES if (names := route.match(path)) is not None]
        if not found:
            slash = self.switches.pipelines_need_slash
            if any(one.match(path, slash_counts=slash) is not None for one in READS):
                return error_response(405, "Method not allowed")
            raise Hidden(NO_API)
        for route, names in found:
            if route.method != request.method:
                continue
            if token.kind == "anonymous":
                raise Unauthorized
            route.check_credential(token, self.switches)
            document, parts = route.read(body, request.headers.get("content-type", ""), self.switches)
            pairs = parse_qsl(request.url.query, keep_blank_values=True)
            call = Write(
                self.world, self.switches, self.render, token, names, pairs, self.storage, extra,
                document, parts,
            )  # fmt: skip
            return route.handler(call)
        return error_response(405, "Method not allowed")

    def _response(
        self, route: Route, call: Call, result: RouteResult, raw: str, fault: Fault | None
    ) -> Response:
        if isinstance(result, Response):
            return result
        document = self._page(route, call, result, raw, fault) if isinstance(result, Listing) else result
        for spec in [value for name, value in call.pairs if name == "fields"]:
            document = paging.partial(document, spec, call.hidden)
        return json_response(document)

    def _page(
        self, route: Route, call: Call, listing: Listing, raw: str, fault: Fault | None
    ) -> paging.Document:
        wanted = dict(call.pairs)
        query = wanted.get("q") if route.filters else None
        sort = wanted.get("sort") if route.sorts(self.switches) else None
        items, render = listing.items, listing.render
        key = listing.keys.get((sort or "").removeprefix("-"))
        if sort and key is not None and not query:
            items = sorted(items, key=key, reverse=sort.startswith("-"))
        elif query or sort:
            # Filters apply to rendered entries, so all are rendered; otherwise only the page is.
            items, render = [render(one) for one in items], _as_it_is
            items = paging.filtered(items, query) if query else items
            items = paging.sorted_by(items, sort) if sort else items
        if fault is not None and fault.kind == "shrink":
            items = items[1:]
        options = PageOptions(
            cap=route.most(self.switches),
            cut=self.switches.long_pages_are_cut,
            has_next=route.has_next(self.switches),
            has_size=self.switches.lists_have_size,
            has_page=self.switches.lists_have_page,
            opaque=self.switches.opaque_pages and not route.numbered,
            repeat=self.switches.lists_repeat_entries,
            once=self.switches.repeated_parameters_refused,
        )
        document = paging.page(items, render, call.pairs, base=self.api + raw, options=options)
        if fault is not None and fault.kind == "loop":
            document["next"] = f"{self.api}{raw}?{call.query}" if call.query else self.api + raw
        return document


def _as_it_is(document: paging.Document) -> paging.Document:
    return document


def _writes(request: Request) -> bool:
    """Whether a request may change the world."""
    path = request.url.path
    return request.method not in ("GET", "HEAD") and not path.endswith(
        ("/git-upload-pack", "/objects/batch", "/access_token")
    )


async def _reset(scope: Scope) -> None:
    """Reset the connection, and let the event loop run once so that the server notices."""
    scope["abort"]()
    for _ in range(3):
        await asyncio.sleep(0)
