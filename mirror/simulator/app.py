"""The application: one ASGI app that is the API, the sign-in server, the git server and, on a
second origin, the storage that long answers are redirected to."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mirror.simulator import git_http, paging
from mirror.simulator.faults import Fault, Faults
from mirror.simulator.paging import BadRequest, Document
from mirror.simulator.render import Renderer
from mirror.simulator.routes import ROUTES, Answered, Call, Gone, Hidden, Moved, Route
from mirror.simulator.signin import ACCESS_TOKENS, SignIn, has_scope, sees
from mirror.simulator.switches import Switches
from mirror.simulator.world import SimRepository, Token, World

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Asked:
    """One request as the log keeps it."""

    method: str
    path: str
    query: str
    status: int
    kind: str
    identity: str | None
    headers: dict[str, str] = field(repr=False)


class App:
    """The ASGI application. `api`, `git` and `storage` are its addresses, known once it listens."""

    def __init__(self, world: World, switches: Switches) -> None:
        self.world = world
        self.switches = switches
        self.faults = Faults()
        self.sign_in = SignIn(world, switches)
        self.requests: list[Asked] = []
        self.api = self.git = self.storage = ""
        self._made: dict[tuple[str, str], deque[datetime]] = {}
        self._got: set[str] = set()

    @property
    def render(self) -> Renderer:
        """Renders for the current addresses."""
        return Renderer(self.api, self.git, self.switches)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        request = Request(scope, receive)
        body = await request.body()
        path = request.url.path
        raw = scope.get("raw_path", path.encode()).decode("ascii", "replace")
        fault = self.faults.take(request.method, path)
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind == "reset":
            self._log(request, 0, None)
            raise ConnectionResetError("ordered")
        response, identity = await asyncio.to_thread(self._answer, request, raw, body, fault)
        response.headers["Date"] = format_datetime(self.world.clock(), usegmt=True)
        self._log(request, response.status_code, identity)
        if fault is not None:
            response = _spoil(response, fault)
        if fault is not None and fault.kind in ("truncate", "cut_pack"):
            await _send_part(response, fault, send)
        else:
            await response(scope, receive, send)

    def _log(self, request: Request, status: int, identity: str | None) -> None:
        path = request.url.path
        kind = "api" if path.startswith("/2.0/") else "oauth" if "/oauth2/" in path else "git"
        if path.startswith("/storage/"):
            kind = "storage"
        self.requests.append(
            Asked(request.method, path, request.url.query, status, kind, identity, dict(request.headers))
        )

    def _answer(
        self, request: Request, raw: str, body: bytes, fault: Fault | None
    ) -> tuple[Response, str | None]:
        if fault is not None and fault.kind == "status":
            headers = dict(fault.headers)
            content = _error("Something went wrong")
            return Response(content, fault.status, {"Content-Type": JSON, **headers}), None
        if fault is not None and fault.kind == "html":
            return Response("<html>Down for maintenance</html>", 200, media_type="text/html"), None
        if fault is not None and fault.kind == "redirect":
            return Response(status_code=302, headers={"Location": fault.location}), None
        path = request.url.path
        if "//" in path:
            return _refusal(405, "Method not allowed"), None
        if path.startswith("/storage/"):
            return self._stored(path), None
        if path.endswith("/site/oauth2/access_token"):
            return self._token(request, body), None
        if path.startswith("/2.0/"):
            return self._api(request, raw, fault)
        return self._git(request, path, body)

    # -- the API

    def _api(self, request: Request, raw: str, fault: Fault | None) -> tuple[Response, str | None]:
        token = self.sign_in.rest(
            request.headers.get("authorization"), request.method, request.url.path, request.url.query
        )
        if token is None:
            return _refusal(401, "Token is invalid, expired, or not supported for this endpoint."), None
        limited, headers = self._count(token)
        if limited is not None:
            return limited, token.identity
        if request.method != "GET":
            return _refusal(405, "Method not allowed"), token.identity
        try:
            response = self._route(request, raw.removeprefix("/2.0"), token, fault)
        except BadRequest as error:
            response = _refusal(400, str(error))
        except Moved as moved:
            response = Response(status_code=301, headers={"Location": self.api + moved.path})
        except Hidden as hidden:
            response = self._hidden(hidden, token)
        except Gone as gone:
            data = {"announcement_url": "https://developer.atlassian.com/cloud/bitbucket/changelog/"}
            response = _refusal(410, gone.message, data=data)
        response.headers.update(headers)
        return response, token.identity

    def _hidden(self, hidden: Hidden, token: Token) -> Response:
        if hidden.scope is None:
            return _refusal(404, hidden.message)
        if self.switches.denied_is_404:
            return _refusal(404, "Resource not found")
        detail = {"required": [hidden.scope], "granted": sorted(token.scopes)}
        return _refusal(403, "Your credentials lack one or more required privilege scopes.", detail=detail)

    def _route(self, request: Request, raw: str, token: Token, fault: Fault | None) -> Response:
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        for route in ROUTES:
            names = route.match(raw, slash_counts=self.switches.pipelines_need_slash)
            if names is None:
                continue
            if route.scope is not None and not has_scope(token, route.scope):
                raise Hidden("no scope", scope=route.scope)
            call = Call(self.world, self.switches, self.render, token, names, pairs, self.storage)
            return self._give(route, call, route.handler(call), raw, fault)
        raise Hidden("There is no API hosted at this URL.")

    def _give(self, route: Route, call: Call, answered: Answered, raw: str, fault: Fault | None) -> Response:
        if isinstance(answered, Response):
            return answered
        pairs = call.pairs
        wanted = dict(pairs)
        if isinstance(answered, list):
            if (query := wanted.get("q")) and route.filters:
                answered = paging.filtered(answered, query)
            if (sort := wanted.get("sort")) and route.sorts:
                answered = paging.sorted_by(answered, sort)
            if fault is not None and fault.kind == "shrink":
                answered = answered[1:]
            document = paging.page(
                answered,
                pairs,
                base=self.api + raw,
                cap=route.cap(self.switches),
                tell_next=route.tells_next(self.switches),
                tell_size=self.switches.lists_tell_size,
                opaque=self.switches.opaque_pages,
            )
            if fault is not None and fault.kind == "loop":
                document["next"] = f"{self.api}{raw}?{call.query}" if call.query else self.api + raw
        else:
            document = answered
        for spec in [value for name, value in pairs if name == "fields"]:
            document = paging.partial(document, spec, call.hidden)
        return _json(document)

    def _count(self, token: Token) -> tuple[Response | None, dict[str, str]]:
        """Count a request of this identity; a refusal where the hour's requests are used up."""
        now = self.world.clock()
        made = self._made.setdefault((token.identity, "api"), deque())
        while made and made[0] <= now - timedelta(hours=1):
            made.popleft()
        limit = self.world.limit
        reset = int((made[0] + timedelta(hours=1) - now).total_seconds()) + 1 if made else 3600
        told = token.kind in ACCESS_TOKENS and self.switches.rate_limit_headers
        if len(made) >= limit:
            response = _refusal(429, "Rate limit for this resource has been exceeded")
            if self.switches.retry_after:
                when = now + timedelta(seconds=reset)
                date = self.switches.retry_after_is_a_date
                response.headers["Retry-After"] = format_datetime(when, usegmt=True) if date else str(reset)
            if told:
                response.headers["X-RateLimit-Reset"] = str(reset)
            return response, {}
        made.append(now)
        headers = {}
        if told:
            headers = {
                "X-RateLimit-Limit": str(limit),
                "X-RateLimit-Resource": "api",
                "X-RateLimit-NearLimit": str(len(made) > limit * 0.8).lower(),
            }
        return None, headers

    # -- storage, sign-in, git

    def _stored(self, path: str) -> Response:
        """A step log on another origin. It wants no credential."""
        _, _, workspace, slug, number, step = path.split("/")
        found = self.world.workspaces[workspace].repositories[slug].pipelines[int(number)]
        log = next((one.log for one in found.steps if one.uuid.strip("{}") == step), None)
        if log is None:
            return Response("NoSuchKey", 404, media_type="application/xml")
        return Response(log, media_type="application/octet-stream")

    def _token(self, request: Request, body: bytes) -> Response:
        form = dict(parse_qsl(body.decode("utf-8", "replace")))
        answer = self.sign_in.issue(request.headers.get("authorization"), form, request.url.path)
        if answer is None:
            return _json({"error": "unauthorized_client", "error_description": "Invalid client"}, 400)
        return _json(answer)

    def _git(self, request: Request, path: str, body: bytes) -> tuple[Response, str | None]:
        token = self.sign_in.git(request.headers.get("authorization"))
        identity = token.identity if token is not None else None
        if "git/" not in request.headers.get("user-agent", ""):
            return Response("unsupported client", 403), identity
        head, _, tail = path.strip("/").partition(".git/")
        service = dict(parse_qsl(request.url.query)).get("service", "") if tail == "info/refs" else tail
        if head in self.world.moved:
            target = self.world.moved[head]
            query = f"?{request.url.query}" if request.url.query else ""
            return Response(status_code=301, headers={"Location": f"/{target}.git/{tail}{query}"}), identity
        if service not in git_http.SERVICES:
            return Response("not found", 404), identity
        workspace, _, slug = unquote(head).partition("/")
        found = self.world.workspaces.get(workspace)
        repository = found.repositories.get(slug) if found is not None else None
        if token is None and (repository is None or repository.private):
            return Response("", 401, {"WWW-Authenticate": 'Basic realm="Bitbucket.org HTTP"'}), None
        refused = self._git_refusal(token, repository, service)
        if refused is not None or repository is None:
            return refused or Response("not found", 404), identity
        if request.method == "GET":
            self._got.add(path.partition(".git/")[0])
            content = git_http.advertise(repository.git_path, service)
            return Response(content, media_type=f"application/x-{service}-advertisement"), identity
        if self.switches.git_needs_get_first and path.partition(".git/")[0] not in self._got:
            return Response("ask for info/refs first", 400), identity
        encoding = request.headers.get("content-encoding", "")
        content = git_http.serve(repository.git_path, service, body, encoding)
        if service == "git-receive-pack":
            repository.updated = self.world.now()
        return Response(content, media_type=f"application/x-{service}-result"), identity

    def _git_refusal(
        self, token: Token | None, repository: SimRepository | None, service: str
    ) -> Response | None:
        if repository is None:
            return Response("Repository not found", 404)
        if token is None:
            return None
        if not sees(token, repository):
            return Response("Repository not found", 404)
        scope = "repository" if service == "git-upload-pack" else "repository:write"
        if not has_scope(token, scope):
            return Response("Your credentials lack one or more required privilege scopes.", 403)
        return None


def _json(document: Document, status: int = 200) -> Response:
    return Response(json.dumps(document), status, media_type=JSON)


def _error(message: str, **more: Any) -> str:
    return json.dumps({"type": "error", "error": {"message": message, **more}})


def _refusal(status: int, message: str, **more: Any) -> Response:
    return Response(_error(message, **more), status, media_type=JSON)


def _spoil(response: Response, fault: Fault) -> Response:
    if fault.kind == "corrupt_pack":
        content = bytearray(bytes(response.body))
        content[min(fault.after, len(content) - 1)] ^= 0x10
        return Response(bytes(content), response.status_code, media_type=response.media_type)
    return response


async def _send_part(response: Response, fault: Fault, send: Send) -> None:
    """Promise everything, send a part, and drop the connection."""
    content = bytes(response.body)
    size = fault.after if fault.kind == "cut_pack" else len(content) // 2
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await send({"type": "http.response.body", "body": content[:size], "more_body": True})
    raise ConnectionResetError("ordered")
