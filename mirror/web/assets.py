"""The files that every page needs: one stylesheet and one small script, under names that change with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mirror.archive.render import TEMPLATES

FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOR_EVER = "public, max-age=31536000, immutable"


# The stylesheet is the archive's, then what only the page has.
_FILES: Mapping[str, tuple[Path, ...]] = {
    "style.css": (TEMPLATES / "style.css", FOLDER / "page.css", FOLDER / "repository.css"),
    "icon.svg": (FOLDER / "icon.svg",),
    "live.js": (FOLDER / "live.js",),
}


@cache
def _content(name: str) -> tuple[bytes, str]:
    """A file and a digest of it. Raises KeyError for other names."""
    data = b"".join(path.read_bytes() for path in _FILES[name])
    return data, hashlib.sha256(data).hexdigest()[:12]


def asset(name: str) -> str:
    """The path of an asset, for templates."""
    return f"/assets/{_content(name)[1]}/{name}"


def _asset(request: Request) -> Response:
    name, digest = request.path_params["name"], request.path_params["digest"]
    try:
        data, known = _content(name)
    except KeyError:
        raise HTTPException(404) from None
    headers = {"Cache-Control": _FOR_EVER} if digest == known else {}
    return Response(data, media_type=_TYPES[Path(name).suffix], headers=headers)


ROUTES = (Route("/assets/{digest}/{name}", _asset, name="asset"),)
