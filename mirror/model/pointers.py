"""Pointers from documents to stored files."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.model.canonical import Json, JsonObject

_KEYS = frozenset({"sha256", "size", "name"})


def pointers(document: Json) -> Iterator[JsonObject]:
    """Every `{"sha256", "size", "name"}` at any depth of a document."""
    todo = [document]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if value.keys() == _KEYS and isinstance(value["sha256"], str):
                yield value
            else:
                todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
