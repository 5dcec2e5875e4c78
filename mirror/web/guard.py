"""The door of the page: reading only, and only for whom `access` lets in."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from mirror.web.access import Access, Refusal, Visitor
from mirror.web.errors import refused
from mirror.web.sign_in import LOGIN

READING = ("GET", "HEAD")


class Guard:
    """ASGI middleware. Who is let in is the request's `state.visitor`."""

    def __init__(self, app: ASGIApp, is_open: Sequence[BaseRoute]) -> None:
        self._app = app
        self._open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        request.state.visitor = Visitor()
        is_open = any(route.matches(scope)[0] == Match.FULL for route in self._open)
        if request.method not in READING and not _is_from_here(request):
            refusal: Refusal | None = Refusal(403, "Not from here", "The form of another site was sent here.")
        else:
            refusal = self._judge(request, must=not is_open)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        response = await run_in_threadpool(_response, request, refusal)
        await response(scope, receive, send)

    def _judge(self, request: Request, *, must: bool) -> Refusal | None:
        access: Access = request.app.state.page.access
        peer = request.client.host if request.client is not None else ""
        found = access.judge(request.headers, request.cookies, peer)
        if isinstance(found, Refusal):
            return found if must else None
        request.state.visitor = found
        return None


def _is_from_here(request: Request) -> bool:
    """Whether a form was sent by a page of this origin: browsers say so, where the connection is secure."""
    return request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _response(request: Request, refusal: Refusal) -> Response:
    wants_page = "text/html" in request.headers.get("accept", "")
    if refusal.status == 401 and refusal.can_sign_in and wants_page and request.method in READING:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{LOGIN}?next={quote(path, safe='')}" if path != "/" else LOGIN, 303)
    return refused(request, refusal)
