"""Answers as Bitbucket writes them."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

JSON = "application/json; charset=utf-8"


def json_response(document: Any, status: int = 200) -> Response:
    """A JSON document."""
    return Response(json.dumps(document), status, media_type=JSON)


def error_response(status: int, message: str, **more: Any) -> Response:
    """An error; `more` goes beside its message (`detail`, `data`)."""
    return json_response({"type": "error", "error": {"message": message, **more}}, status)
