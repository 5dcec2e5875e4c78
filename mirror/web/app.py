"""The application: routes, who may ask for them, the headers of every response, and pages for errors."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware

from mirror.browse.watch import Watch
from mirror.config import Config
from mirror.model import Clock
from mirror.model.live import Live
from mirror.web import errors, routes
from mirror.web.access import Access
from mirror.web.context import LookAtCluster, Page
from mirror.web.guard import Guard
from mirror.web.headers import SecurityHeaders
from mirror.web.metrics import figures_for


def make_app(
    store: Path,
    *,
    clock: Clock,
    access: Access,
    config: Config | None = None,
    live: Live | None = None,
    cluster: LookAtCluster | None = None,
) -> Starlette:
    """The page over the store at `store`. It need not exist yet: a page says so."""
    app = Starlette(
        routes=[*routes.OPEN, *routes.ROUTES],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(errors.Unexpected),
            Middleware(Guard, is_open=routes.OPEN),
        ],
        exception_handlers=errors.HANDLERS,
    )
    page = Page(store, clock, access, Watch(store), config, live, cluster)
    app.state.page, app.state.figures = page, figures_for(page)
    return app
