"""Canonical JSON: each value has one text, so equal documents are equal bytes.

Sorted keys, two-space indent, UTF-8, a final newline. Numbers keep their source text, lone surrogates stay
escaped, duplicate keys and NaN are refused, and depth and size are limited, because servers are not trusted.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring
from typing import Any

Json = Any
JsonObject = dict[str, Any]

DEPTH_MAX = 100
BYTES_MAX = 64 * 1024 * 1024

_SURROGATE = re.compile("[\ud800-\udfff]")
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class NotCanonical(ValueError):
    """The text is no JSON that can be stored without loss; the message says why."""


class Number(float):
    """A number that float or int would not write back as its source text (`1.10`, `1e400`, `-0`)."""

    text: str

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        return Number, (self.text,)


def _parse_float(text: str) -> float:
    value = float(text)
    return value if repr(value) == text else Number(text)


def _parse_int(text: str) -> int | float:
    # `-0`, and integers above Python's limit for decimal conversion.
    return Number(text) if text == "-0" or len(text) > 4000 else int(text)


def _refuse_constant(text: str) -> Json:
    raise NotCanonical(f"{text} is not JSON")


def _unique(pairs: list[tuple[str, Json]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotCanonical(f"the key {twice!r} stands twice in one object")
    return result


def loads(data: bytes | str, *, limit: int | None = None) -> Json:
    """Parse JSON text without loss.

    Raises NotCanonical for anything that could not be written back: malformed JSON, duplicate keys, NaN, more
    than DEPTH_MAX levels or `limit` bytes (left out: BYTES_MAX).
    """
    limit = BYTES_MAX if limit is None else limit
    if len(data) > limit:
        raise NotCanonical(f"larger than {limit} bytes")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        value = json.loads(
            text,
            parse_float=_parse_float,
            parse_int=_parse_int,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except NotCanonical:
        raise
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"not JSON: {error}") from error
    _check_depth(value, DEPTH_MAX)
    return value


def _check_depth(value: Json, left: int) -> None:
    if isinstance(value, dict | list):
        if left == 0:
            raise NotCanonical(f"nested deeper than {DEPTH_MAX} levels")
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)


def _quote(text: str) -> str:
    quoted = encode_basestring(text)
    if quoted.isascii():
        return quoted
    if _SPLIT_PAIR.search(quoted):
        # Escaped one by one they would be read back as one character.
        raise NotCanonical("a text holds a character split into two surrogates")
    return _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", quoted)


def _write(value: Json, indent: str, out: list[str]) -> None:
    if isinstance(value, str):
        out.append(_quote(value))
    elif value is None:
        out.append("null")
    elif value is True:
        out.append("true")
    elif value is False:
        out.append("false")
    elif isinstance(value, Number):
        out.append(value.text)
    elif isinstance(value, int):
        try:
            out.append(int.__repr__(value))
        except ValueError as error:  # above Python's limit for decimal conversion
            raise NotCanonical(f"not a number that can be written: {error}") from error
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise NotCanonical(f"{value} is not JSON")
        out.append(repr(value))
    elif isinstance(value, dict):
        _write_items(sorted(value.items()), "{", "}", indent, out)
    elif isinstance(value, list | tuple):
        _write_items([(None, item) for item in value], "[", "]", indent, out)
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")


def _write_items(
    items: list[tuple[Any, Json]], opening: str, closing: str, indent: str, out: list[str]
) -> None:
    if len(indent) >= 2 * DEPTH_MAX:
        raise NotCanonical(f"nested deeper than {DEPTH_MAX} levels")
    if not items:
        out.append(opening + closing)
        return
    inner = indent + "  "
    separator = opening + "\n" + inner
    for key, item in items:
        out.append(separator)
        if key is not None:
            if not isinstance(key, str):
                raise TypeError(f"a key of type {type(key).__name__} has no JSON form")
            out.append(_quote(key) + ": ")
        _write(item, inner, out)
        separator = ",\n" + inner
    out.append("\n" + indent + closing)


def dumps(value: Json, *, limit: int | None = None) -> bytes:
    """The canonical bytes of `value`, at most `limit` (BYTES_MAX). Raises NotCanonical where it
    has none, or exceeds the limits."""
    out: list[str] = []
    _write(value, "", out)
    out.append("\n")
    data = "".join(out).encode("utf-8")
    limit = BYTES_MAX if limit is None else limit
    if len(data) > limit:
        raise NotCanonical(f"larger than {limit} bytes")
    return data
