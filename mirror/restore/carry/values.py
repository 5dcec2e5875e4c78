"""Values of a plan: what stands in them for another step's answer or a secret, and whether two agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mirror.model import Json
from mirror.restore.plan.steps import Made, Secret


def resolved(value: object, resolve: Callable[[Made | Secret], Json]) -> Any:
    """The JSON of a value of a plan, with `resolve` asked for what stands in it for something else."""
    if isinstance(value, Made | Secret):
        return resolve(value)
    if isinstance(value, Mapping):
        return {name: resolved(one, resolve) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(one, resolve) for one in value]
    return value


def agrees(wanted: Json, found: Json) -> bool:
    """Whether what the target has is what was wanted. What the target has beyond that does not count, nor do
    the order of a list, the ends of lines, and the difference between nothing and an empty text or list."""
    if wanted in (None, "", [], {}):
        return found in (None, "", [], {})
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            agrees(one, found.get(name)) for name, one in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and _same_members(wanted, found)
    if isinstance(wanted, str) and isinstance(found, str):
        return wanted == found or _plain(wanted) == _plain(found)
    return bool(wanted == found)


def _same_members(wanted: list[Json], found: list[Json]) -> bool:
    left = list(found)
    for one in wanted:
        match = next((other for other in left if agrees(one, other)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").strip()
