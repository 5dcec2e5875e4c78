"""`/healthz`: the process answers. `/readyz`: backups are made when they should be. Both for everybody."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mirror.web.context import page_of


async def _lives(_: Request) -> Response:
    return JSONResponse({"lives": True})


async def _ready(request: Request) -> Response:
    """200, or 503 with the reasons. A page without a service is ready when it answers."""
    live = page_of(request).live
    reasons = list(live.not_ready()) if live is not None else []
    return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


ROUTES = (
    Route("/healthz", _lives, name="healthz"),
    Route("/readyz", _ready, name="readyz"),
)
