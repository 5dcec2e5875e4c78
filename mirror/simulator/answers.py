"""Answers as Bitbucket writes them."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

JSON = "application/json; charset=utf-8"


def answer(document: Any, status: int = 200) -> Response:
    """A JSON document."""
    return Response(json.dumps(document), status, media_type=JSON)


def refusal(status: int, message: str, **more: Any) -> Response:
    """An error; `more` goes beside its message (`detail`, `data`)."""
    return answer({"type": "error", "error": {"message": message, **more}}, status)
