"""Pages for what goes wrong. None shows a traceback; the log has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mirror.errors import MirrorError, NoStore, UsageError
from mirror.logs import get_logger
from mirror.store.reading.reader import StoreDamaged
from mirror.web.access import Refusal
from mirror.web.render import render

_log = get_logger("web")

_TEXTS = {
    404: ("There is nothing here", "The address may be mistyped, or what it showed was pruned or erased."),
    405: ("This page only reads", "It answers to GET and HEAD, and changes nothing."),
}


def refused(request: Request, refusal: Refusal) -> Response:
    """The page of a refused request."""
    response = _page(request, refusal.status, refusal.title, refusal.text)
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if refusal.status == 429:
        response.headers["Retry-After"] = "60"
    return response


def _page(request: Request, status: int, title: str, text: str, hint: str | None = None) -> Response:
    return render(request, "error.html", status=status, title=title, text=text, hint=hint)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title, text = _TEXTS.get(error.status_code, (HTTPStatus(error.status_code).phrase, error.detail))
    response = _page(request, error.status_code, title, text)
    response.headers.update(error.headers or {})
    return response


def _no_store(request: Request, error: Exception) -> Response:
    assert isinstance(error, NoStore)
    return _page(request, 503, "There is no store", error.message, error.hint)


def _damaged(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreDamaged)
    hint = "mirror verify lists everything that is damaged, and what to do about it."
    return _page(request, 500, "The store is damaged", f"{error.file}: {error.problem}", hint)


def _not_so(request: Request, error: Exception) -> Response:
    assert isinstance(error, UsageError)
    return _page(request, 404, "There is nothing here", error.message, error.hint)


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, MirrorError)
    return _page(request, 500, "This could not be read", error.message, error.hint)


class Unexpected:
    """ASGI middleware that answers with a page where a handler raises what no handler of errors knows."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens."""
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:  # noqa: BLE001 - the last line of defence: never a traceback
            request = Request(scope, receive)
            _log.error("web.failed", path=request.url.path, exc_info=error)
            if not has_begun:
                response = await run_in_threadpool(_unexpected, request)
                await response(scope, receive, send)


def _unexpected(request: Request) -> Response:
    text = "The page met an error that it does not know. The log says where."
    return _page(request, 500, "Something went wrong", text, "mirror status shows the same from a terminal.")


HANDLERS: Mapping[Any, Callable[[Request, Exception], Response]] = {
    HTTPException: _http,
    NoStore: _no_store,
    StoreDamaged: _damaged,
    UsageError: _not_so,
    MirrorError: _failed,
}
