"""Signing in with the token, and out."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mirror.web.access import COOKIE, SESSION_SECONDS, Refusal
from mirror.web.context import page_of
from mirror.web.render import render

LOGIN, LOGOUT = "/login", "/logout"
# The longest form that is read, in bytes.
_FORM_MOST = 4096
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-~]*")


async def _login(request: Request) -> Response:
    page = page_of(request)
    following = request.query_params.get("next", "/")
    following = following if _LOCAL_PATH.fullmatch(following) else "/"
    if not page.access.has_token:
        return RedirectResponse("/", 303)
    if request.method != "POST":
        return await run_in_threadpool(_form, request, None, following)
    peer = request.client.host if request.client is not None else ""
    found = page.access.sign_in(await _typed(request), request.headers, peer)
    if isinstance(found, Refusal):
        return await run_in_threadpool(_form, request, found, following)
    response = RedirectResponse(following, 303)
    response.set_cookie(
        COOKIE, found, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=_is_https(request)
    )
    return response


def _form(request: Request, refusal: Refusal | None, following: str) -> Response:
    status = refusal.status if refusal is not None else 200
    return render(request, "sign_in.html", status=status, refusal=refusal, following=following)


async def _typed(request: Request) -> str:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _FORM_MOST:
            return ""
    fields = parse_qs(data.decode("utf-8", "replace"), max_num_fields=10)
    return fields.get("token", [""])[0]


def _is_https(request: Request) -> bool:
    """Whether the browser speaks https, as far as the proxy says: a lie only costs the liar the sign-in."""
    return request.headers.get("x-forwarded-proto", request.url.scheme).lower() == "https"


async def _logout(request: Request) -> Response:
    response = RedirectResponse(LOGIN, 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=_is_https(request))
    return response


ROUTES = (
    Route(LOGIN, _login, methods=["GET", "POST"], name="login"),
    Route(LOGOUT, _logout, methods=["POST"], name="logout"),
)
