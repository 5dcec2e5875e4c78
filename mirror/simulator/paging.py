"""Lists as Bitbucket gives them: pages, filters, sorting, and partial answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

Document = dict[str, Any]
Pairs = Sequence[tuple[str, str]]
DEFAULT_PAGE = 10


class BadRequest(Exception):
    """The request asks for what cannot be given; the message is Bitbucket's."""


def value_at(document: Any, path: str) -> Any:
    """The value at a dotted path, or None."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


_CLAUSE = re.compile(r"""\s*([\w.]+)\s*(>=|<=|!=|=|>|<|~)\s*("(?:[^"\\]|\\.)*"|[^\s"]+)\s*""")


def filtered(documents: list[Document], query: str) -> list[Document]:
    """What a `q` leaves: clauses joined by AND."""
    tests: list[Callable[[Document], bool]] = []
    for part in re.split(r"\s+AND\s+", query, flags=re.IGNORECASE):
        found = _CLAUSE.fullmatch(part)
        if found is None:
            raise BadRequest(f"Invalid query: {part}")
        tests.append(_test(found[1], found[2], found[3].strip('"')))
    return [one for one in documents if all(test(one) for test in tests)]


def _test(path: str, operator: str, text: str) -> Callable[[Document], bool]:
    def compare(document: Document) -> bool:
        value = value_at(document, path)
        if value is None:
            return text == "null" and operator == "="
        left: Any = value
        right: Any = text
        if re.match(r"\d{4}-\d\d-\d\d", text):
            try:
                left, right = _time(str(value)), _time(text)
            except ValueError:
                raise BadRequest(f"Invalid date: {text}") from None
        elif isinstance(value, bool):
            left = str(value).lower()
        elif isinstance(value, int):
            right = int(text) if text.isdigit() else -1
        results: dict[str, bool] = {
            "=": left == right,
            "!=": left != right,
            ">": left > right,
            "<": left < right,
            ">=": left >= right,
            "<=": left <= right,
            "~": str(right).lower() in str(left).lower(),
        }
        return results[operator]

    return compare


def _time(text: str) -> datetime:
    when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo is not None else datetime.fromisoformat(text + "+00:00")


def sorted_by(documents: list[Document], sort: str) -> list[Document]:
    """Sorted by one field, `-` for descending."""
    name = sort.removeprefix("-")
    return sorted(documents, key=lambda one: str(value_at(one, name) or ""), reverse=sort.startswith("-"))


def page(
    documents: list[Document],
    pairs: Pairs,
    *,
    base: str,
    cap: int,
    tell_next: bool = True,
    tell_size: bool = True,
    opaque: bool = False,
) -> Document:
    """One page of a list. `base` is the list's own address without a query."""
    wanted = dict(pairs)
    text = wanted.get("pagelen", str(DEFAULT_PAGE))
    if not text.isdigit() or not 1 <= int(text) <= cap:
        raise BadRequest("Invalid pagelen")
    length = int(text)
    number = _page_number(wanted.get("page", "1"), len(documents) // length + 2, base)
    start = (number - 1) * length
    result: Document = {"values": documents[start : start + length], "pagelen": length, "page": number}
    if tell_size:
        result["size"] = len(documents)
    rest = [(name, value) for name, value in pairs if name != "page"]
    if tell_next and start + length < len(documents):
        token = _token(number + 1, base) if opaque else str(number + 1)
        result["next"] = f"{base}?{urlencode([*rest, ('page', token)])}"
    if number > 1 and not opaque:
        result["previous"] = f"{base}?{urlencode([*rest, ('page', str(number - 1))])}"
    return result


def _token(number: int, base: str) -> str:
    return hashlib.sha256(f"{base} {number}".encode()).hexdigest()[:4] if number > 1 else "1"


def _page_number(text: str, most: int, base: str) -> int:
    if text.isdigit() and int(text) >= 1 and len(text) < 4:
        return int(text)
    for number in range(1, most + 1):
        if _token(number, base) == text:
            return number
    raise BadRequest("Invalid page")


def partial(document: Document, spec: str, hidden: Callable[[Document], Document]) -> Document:
    """A `fields=` answer: `-x` drops, `+x` adds, bare names alone remain.

    `hidden` gives what a list leaves out unless it is asked for.
    """
    names = [name.strip() for name in spec.split(",") if name.strip()]
    result = document
    bare = [name for name in names if name[0] not in "+-"]
    if bare:
        result = {}
        for name in bare:
            _copy(document, result, name.split("."))
    for name in names:
        if name[0] == "-":
            _drop(result, name[1:].split("."))
        elif name[0] == "+":
            _add(result, name[1:].split("."), hidden)
    return result


def _copy(source: Any, target: Document, path: list[str]) -> None:
    name, rest = path[0], path[1:]
    if not isinstance(source, dict):
        return
    for key in list(source) if name == "*" else [name] if name in source else []:
        value = source[key]
        if not rest:
            target[key] = value
        elif isinstance(value, list):
            items = target.setdefault(key, [{} for _ in value])
            for item, inner in zip(value, items, strict=True):
                _copy(item, inner, rest)
        else:
            _copy(value, target.setdefault(key, {}), rest)


def _drop(target: Any, path: list[str]) -> None:
    if isinstance(target, list):
        for item in target:
            _drop(item, path)
    elif isinstance(target, dict):
        if len(path) == 1:
            target.pop(path[0], None)
        elif path[0] in target:
            _drop(target[path[0]], path[1:])


def _add(target: Document, path: list[str], hidden: Callable[[Document], Document]) -> None:
    """Add what is left out: `values.x` to each entry of a list, `x` to a single answer."""
    entries = target.get("values", []) if path[0] == "values" else [target]
    name = path[1] if path[0] == "values" and len(path) > 1 else path[0]
    for entry in entries:
        more = hidden(entry)
        if name in more:
            entry[name] = more[name]
