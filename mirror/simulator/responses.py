"""HTTP responses in the form that Bitbucket sends."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

JSON = "application/json; charset=utf-8"


def json_response(document: Any, status: int = 200) -> Response:
    """A response whose body is `document` as JSON."""
    return Response(json.dumps(document), status, media_type=JSON)


def error_response(status: int, message: str, **more: Any) -> Response:
    """An error response. `more` are further fields of the error (`detail`, `data`)."""
    return json_response({"type": "error", "error": {"message": message, **more}}, status)
