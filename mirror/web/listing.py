"""The list of repositories as the query of a page asks for it: filtered, sorted, in pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from mirror.browse import RepositoryStatus

ROWS = 50
SHOWN = {"": "All", "attention": "Needs attention", "well": "Well", "settled": "Gone, erased, excluded"}
SORTS = {
    "": "Most urgent first", "name": "Name", "confirmed": "Longest unconfirmed first",
    "size": "Largest first", "snapshots": "Most snapshots first",
}  # fmt: skip
_QUERY_MOST = 200


@dataclass(frozen=True)
class Query:
    """What a person asked for. Values that are not known count as not given."""

    text: str = ""
    shown: str = ""
    workspace: str = ""
    sort: str = ""
    page: int = 1

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Query:
        """The query of a page's parameters."""
        shown, sort, page = params.get("show", ""), params.get("sort", ""), params.get("page", "1")
        return cls(
            params.get("q", "").strip()[:_QUERY_MOST],
            shown if shown in SHOWN else "",
            params.get("workspace", "")[:_QUERY_MOST],
            sort if sort in SORTS else "",
            int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
        )

    @property
    def is_plain(self) -> bool:
        """Whether everything is listed."""
        return not (self.text or self.shown or self.workspace)

    def address(self, page: int) -> str:
        """The query of another page of the same list."""
        given = {
            "q": self.text, "show": self.shown, "workspace": self.workspace, "sort": self.sort,
            "page": str(page) if page > 1 else "",
        }  # fmt: skip
        return "?" + urlencode({name: value for name, value in given.items() if value}) + "#repositories"


@dataclass(frozen=True)
class Listing:
    """One page of the list: its rows, how many match in all, and the query with the page that is shown."""

    rows: tuple[RepositoryStatus, ...]
    count: int
    pages: int
    query: Query


def listing(several: Sequence[RepositoryStatus], urgency: Mapping[str, int], query: Query) -> Listing:
    """The page that `query` asks for. `urgency` is of what needs attention, by name: the lowest first."""
    words = query.text.lower().split()
    found = [
        one
        for one in several
        if all(word in one.name.lower() for word in words)
        and (not query.workspace or one.name.partition("/")[0] == query.workspace)
        and _is_shown(one, urgency, query.shown)
    ]
    found.sort(key=_key(query.sort, urgency))
    pages = max(1, -(-len(found) // ROWS))
    page = min(max(1, query.page), pages)
    rows = tuple(found[(page - 1) * ROWS : page * ROWS])
    return Listing(rows, len(found), pages, replace(query, page=page))


def _is_shown(one: RepositoryStatus, urgency: Mapping[str, int], shown: str) -> bool:
    if shown == "attention":
        return one.name in urgency
    if shown == "well":
        return one.name not in urgency and not one.is_settled
    return shown != "settled" or one.is_settled


def _key(sort: str, urgency: Mapping[str, int]) -> Callable[[RepositoryStatus], tuple[Any, ...]]:
    def key(one: RepositoryStatus) -> tuple[Any, ...]:
        first: tuple[Any, ...] = ()
        if sort == "confirmed":
            first = (one.is_settled, *_oldest(one))
        elif sort == "size":
            first = (-one.bytes,)
        elif sort == "snapshots":
            first = (-one.snapshots,)
        elif sort != "name":
            first = (one.is_settled, urgency.get(one.name, 99), *_oldest(one))
        return (*first, one.name.lower(), one.folder)

    return key


def _oldest(one: RepositoryStatus) -> tuple[bool, float]:
    return one.last_confirmed is not None, one.last_confirmed.timestamp() if one.last_confirmed else 0.0
