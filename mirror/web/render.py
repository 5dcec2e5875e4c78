"""Pages from templates. Whatever a template shows is escaped, unless a filter made it safe."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mirror import __version__
from mirror.archive.render import html_environment
from mirror.web import filters
from mirror.web.assets import asset
from mirror.web.context import page_of

TEMPLATES = Path(__file__).parent / "templates"
# The main navigation: address and name.
NAVIGATION = (("/", "Overview"), ("/runs", "Runs"))


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """The page of a template. It knows `page`, `visitor`, `now`, and what is given."""
    page = page_of(request)
    made = _environment().get_template(template)
    text = made.render(
        page=page, visitor=request.state.visitor, now=page.clock.now(), version=__version__,
        path=request.url.path, **context,
    )  # fmt: skip
    return HTMLResponse(text.encode("utf-8", "replace"), status)


def prepare() -> None:
    """Compile the templates, so that no first visitor waits for it."""
    made = _environment()
    for name in made.list_templates(extensions=["html"]):
        made.get_template(name)


@cache
def _environment() -> Environment:
    made = html_environment(TEMPLATES, TEMPLATES / "repository")
    made.filters |= filters.FILTERS
    made.globals.update(asset=asset, navigation=NAVIGATION)
    return made
