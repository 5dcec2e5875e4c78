"""The fields that a request sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files


@cache
def settable_fields() -> Mapping[str, tuple[str, ...]]:
    """By request (method and path template), the dotted names of the fields that its body sets."""
    text = files(__package__).joinpath("settable.json").read_text(encoding="utf-8")
    return {request: tuple(names) for request, names in json.loads(text).items()}
