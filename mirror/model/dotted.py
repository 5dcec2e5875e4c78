"""Fields of a document by dotted names: `target.selector.type`. An empty name means the document itself."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.model.canonical import Json, JsonObject


def value_at(document: Json, name: str) -> Json:
    """The value of a field; None where the document has none."""
    for word in name.split(".") if name else ():
        document = document.get(word) if isinstance(document, dict) else None
    return document


def with_value(document: JsonObject, name: str, value: Json) -> JsonObject:
    """The document with this value in a field, which is made where there is none. None takes
    the field away."""
    word, _, rest = name.partition(".")
    inner = document.get(word)
    new = with_value(inner if isinstance(inner, dict) else {}, rest, value) if rest else value
    if new is None:
        return {key: one for key, one in document.items() if key != word}
    return {**document, word: new}


def picked(document: JsonObject, names: Iterable[str]) -> JsonObject:
    """A document with these fields alone, those that are null or absent left out."""
    result: JsonObject = {}
    for name in names:
        value = value_at(document, name)
        if value is not None:
            result = with_value(result, name, value)
    return result
