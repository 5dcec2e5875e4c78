"""Lists as Bitbucket returns them: pages, filters, sorting and partial responses."""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

Document = dict[str, Any]
Pairs = Sequence[tuple[str, str]]
DEFAULT_PAGE = 10


class BadRequest(Exception):
    """An invalid request: 400, with Bitbucket's message."""


def value_at(document: Any, path: str) -> Any:
    """The value at a dotted path, or None."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


_CLAUSE = re.compile(r"""\s*([\w.]+)\s*(>=|<=|!=|!~|=|>|<|~)\s*("(?:[^"\\]|\\.)*"|[^\s"=<>!~][^\s"]*)\s*""")


def filtered(documents: list[Document], query: str) -> list[Document]:
    """The items that match `q`: clauses joined by AND."""
    tests: list[Callable[[Document], bool]] = []
    for part in re.split(r"\s+AND\s+", query, flags=re.IGNORECASE):
        found = _CLAUSE.fullmatch(part)
        if found is None:
            raise BadRequest(f"Invalid query: {part}")
        tests.append(_test(found[1], found[2], found[3].strip('"')))
    return [one for one in documents if all(test(one) for test in tests)]


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "~": lambda left, right: str(right).lower() in str(left).lower(),
    "!~": lambda left, right: str(right).lower() not in str(left).lower(),
}


def _test(path: str, sign: str, text: str) -> Callable[[Document], bool]:
    right: Any = text
    if re.match(r"\d{4}-\d\d-\d\d", text):
        try:
            right = _time(text)
        except ValueError:
            raise BadRequest(f"Invalid date: {text}") from None

    def compare(document: Document) -> bool:
        value = value_at(document, path)
        if value is None or text == "null":
            return (value is None) == (text == "null") if sign == "=" else (value is None) != (text == "null")
        try:
            return _OPERATORS[sign](_comparable(value, right), _number(right, value))
        except (TypeError, ValueError):
            raise BadRequest(f"Invalid value for {path}: {text}") from None

    return compare


def _comparable(value: Any, other: Any) -> Any:
    if isinstance(other, datetime):
        return _time(str(value))
    return str(value).lower() if isinstance(value, bool) else value


def _number(text: Any, value: Any) -> Any:
    return int(text) if isinstance(value, int) and not isinstance(value, bool) else text


def _time(text: str) -> datetime:
    """A time; UTC where it has no zone."""
    when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def sorted_by(documents: list[Document], sort: str) -> list[Document]:
    """Items sorted by one field, `-` for descending. Items without a value come first."""
    name = sort.removeprefix("-")

    def key(document: Document) -> tuple[bool, float, str]:
        value = value_at(document, name)
        is_number = isinstance(value, int | float)
        return value is not None, float(value) if is_number else 0.0, "" if is_number else str(value)

    return sorted(documents, key=key, reverse=sort.startswith("-"))


@dataclass(frozen=True)
class PageOptions:
    """How a list is paged. `cap` is the largest page."""

    cap: int = 100
    cut: bool = False
    has_next: bool = True
    has_size: bool = True
    has_page: bool = True
    opaque: bool = False
    repeat: bool = False
    once: bool = True


def page(
    items: Sequence[Any], render: Callable[[Any], Document], pairs: Pairs, *, base: str, options: PageOptions
) -> Document:
    """One page of a list. `base` is the URL of the list without a query."""
    names = [name for name, _ in pairs if name in ("page", "pagelen")]
    if options.once and len(names) != len(set(names)):
        raise BadRequest("Invalid parameters")
    wanted = dict(pairs)
    length = _length(wanted.get("pagelen", str(DEFAULT_PAGE)), options)
    number = _page_number(wanted.get("page", "1"), len(items) // length + 2, base, options)
    start = (number - 1) * length
    first = start - 1 if options.repeat and number > 1 else start
    result: Document = {"values": [render(one) for one in items[first : start + length]]}
    if options.has_page:
        result.update(pagelen=length, page=number)
    if options.has_size:
        result["size"] = len(items)
    rest = [(name, value) for name, value in pairs if name != "page"]
    if options.has_next and start + length < len(items):
        token = _token(number + 1, base) if options.opaque else str(number + 1)
        result["next"] = f"{base}?{urlencode([*rest, ('page', token)])}"
    if number > 1 and not options.opaque:
        result["previous"] = f"{base}?{urlencode([*rest, ('page', str(number - 1))])}"
    return result


def _length(text: str, options: PageOptions) -> int:
    if not text.isdigit() or int(text) < 1 or (int(text) > options.cap and not options.cut):
        raise BadRequest("Invalid pagelen")
    return min(int(text), options.cap)


def _token(number: int, base: str) -> str:
    """An opaque page name. It contains a letter, so that it never equals a number."""
    return "x" + hashlib.sha256(f"{base} {number}".encode()).hexdigest()[:7]


def _page_number(text: str, most: int, base: str, options: PageOptions) -> int:
    if text.isdigit() and int(text) >= 1 and (not options.opaque or text == "1"):
        return int(text)
    if options.opaque:
        for number in range(1, most + 1):
            if _token(number, base) == text:
                return number
    raise BadRequest("Invalid page")


def partial(document: Document, spec: str, hidden: Callable[[Document], Document]) -> Document:
    """A `fields=` response: `-x` drops, `+x` adds, bare names alone remain.

    `hidden` returns the fields that a list omits by default.
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
    """Add a hidden field: `values.x` to each entry of a list, `x` to a single document."""
    entries = target.get("values", []) if path[0] == "values" else [target]
    name = path[1] if path[0] == "values" and len(path) > 1 else path[0]
    for entry in entries:
        more = hidden(entry)
        if name in more:
            entry[name] = more[name]
