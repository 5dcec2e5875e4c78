"""Any other document as a table: settings, members, environments, deployments."""

from __future__ import annotations

from mirror.bitbucket.readable.parts import get, string
from mirror.bitbucket.readable.values import Table
from mirror.model import Json

_COLUMNS_MAX = 7
_LIST_MAX = 50
# Of no use to a reader in a table; the document itself stands beside it.
_LEFT_OUT = frozenset({"type", "links", "uuid", "account_id", "subject_type", "repository", "workspace"})
# What stands for a thing that is an object: the first that there is.
_NAMES = (
    "display_name", "full_name", "name", "slug", "key", "label", "kind", "nickname", "hash", "raw", "uuid",
)  # fmt: skip
_FIRST = (
    "name", "display_name", "key", "label", "title", "kind", "pattern", "description", "number",
    "nickname", "user", "group", "permission",
)  # fmt: skip


def table_of(document: Json) -> Table:
    """A table of a document: a row for each thing of a list, else for each property of the one thing."""
    if isinstance(document, list):
        things = [one for one in document if isinstance(one, dict)]
        if len(things) != len(document):
            return Table(("Value",), [(cell(one),) for one in document])
        columns = _columns(things)
        return Table(
            [name.replace("_", " ") for name in columns],
            [[cell(one.get(name)) for name in columns] for one in things],
        )
    if isinstance(document, dict):
        rows = [(name, cell(value)) for name, value in document.items() if name not in _LEFT_OUT]
        return Table(("Property", "Value"), [(name.replace("_", " "), text) for name, text in rows if text])
    return Table(("Value",), [(cell(document),)] if cell(document) else [])


def _columns(things: list[dict[str, Json]]) -> list[str]:
    """The properties that say something, the telling ones first."""
    names = dict.fromkeys(name for one in things for name in one if name not in _LEFT_OUT)
    used = [name for name in names if any(cell(one.get(name)) for one in things)]
    order = {name: place for place, name in enumerate(_FIRST)}
    used.sort(key=lambda name: (order.get(name, len(order)), name))
    return used[:_COLUMNS_MAX]


def cell(value: Json) -> str:
    """A value in a few words."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return _name_of(value)
    if isinstance(value, list):
        found = [one for one in map(cell, value[:_LIST_MAX]) if one]
        more = len(value) - _LIST_MAX
        return ", ".join(found) + (f" and {more} more" if more > 0 else "")
    return str(value)


def _name_of(value: Json) -> str:
    inner = get(value, "user") or get(value, "group")
    if isinstance(inner, dict):
        return _name_of(inner)
    for name in _NAMES:
        if string(value, name):
            return string(value, name)
    found = {name: cell(one) for name, one in value.items() if name not in _LEFT_OUT and not _is_deep(one)}
    return ", ".join(f"{name.replace('_', ' ')}: {text}" for name, text in found.items() if text)


def _is_deep(value: Json) -> bool:
    return isinstance(value, dict | list)
