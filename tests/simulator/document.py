"""Atlassian's own description of the API, where it lies beside the project."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

NAME = Path("shared") / "spec" / "bitbucket-openapi.json"
SPEC = next((one / NAME for one in Path(__file__).parents if (one / NAME).is_file()), None)
need_document = pytest.mark.skipif(SPEC is None, reason="Atlassian's document is not beside the project")


@cache
def document() -> dict[str, Any]:
    """Atlassian's document."""
    assert SPEC is not None
    found: dict[str, Any] = json.loads(SPEC.read_text(encoding="utf-8"))
    return found


def plain(template: str) -> str:
    """A path with nameless places, so that the two ways of naming them compare."""
    return re.sub(r"\{[^}]*\}", "{}", template).rstrip("/")


@cache
def operation(template: str, method: str = "get") -> dict[str, Any] | None:
    """What the document says of a method of a path."""
    for path, item in document()["paths"].items():
        if plain(path) == plain(template):
            found: dict[str, Any] | None = item.get(method)
            return found
    return None
