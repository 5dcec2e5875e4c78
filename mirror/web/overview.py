"""The overview: which repositories need attention, and why."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mirror.browse import status
from mirror.web.context import page_of
from mirror.web.render import render


def _overview(request: Request) -> Response:
    page = page_of(request)
    return render(request, "overview.html", found=status(page.store))


ROUTES = (Route("/", _overview, name="overview"),)
