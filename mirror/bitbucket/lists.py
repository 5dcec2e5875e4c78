"""Reading a list to its end, and knowing whether that was its end.

`next` is followed as given. A failure on any page is a failure of the list: what came before is
never taken for all there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from mirror.bitbucket import fields
from mirror.bitbucket.client import Client
from mirror.bitbucket.endpoints import Endpoint, Query
from mirror.bitbucket.failures import ApiError, BadAnswer
from mirror.logs import get_logger
from mirror.model import JsonObject, dumps

PAGES_MAX = 200_000

_log = get_logger("bitbucket")


@dataclass(frozen=True)
class Page:
    """Entries of a list not seen on an earlier page. `size` is what the list says it has in all."""

    values: tuple[JsonObject, ...]
    number: int
    size: int | None = None


async def pages(
    client: Client, endpoint: Endpoint, query: Query | None = None, **parts: str | int
) -> AsyncIterator[Page]:
    """The pages of a list, entries once each.

    Where fewer entries came than the list says it has (it shifts while it is read), it is read once
    more for what was missed. Raises BadAnswer where it still falls short, for loops, and for what is
    not a list; and whatever asking raises.
    """
    seen: set[str] = set()
    for again in (False, True):
        size: int | None = None
        async for page in _walk(client, endpoint, query, parts):
            size = page.size if page.size is not None else size
            fresh = []
            for value in page.values:
                # Entries of some lists (activity) have nothing to be told apart by.
                key = fields.identity(value) or ("" if again else f"#{len(seen)}")
                if key and key not in seen:
                    seen.add(key)
                    fresh.append(value)
            if fresh or not again:
                yield Page(tuple(fresh), page.number, page.size)
        if size is None or len(seen) >= size:
            return
        _log.warning(
            "bitbucket.list_short", endpoint=endpoint.name, told=size, got=len(seen), again=not again
        )
    raise BadAnswer(
        f"{endpoint.name}: the list says it has {size} entries, and {len(seen)} came", endpoint=endpoint.name
    )


async def all_of(
    client: Client, endpoint: Endpoint, query: Query | None = None, **parts: str | int
) -> list[JsonObject]:
    """The whole list at once; for lists that are known to be short."""
    return [value async for page in pages(client, endpoint, query, **parts) for value in page.values]


async def _walk(
    client: Client, endpoint: Endpoint, query: Query | None, parts: dict[str, str | int]
) -> AsyncIterator[Page]:
    number = 1
    url: str | None = _first(client, endpoint, query, parts, number)
    asked: set[str] = set()
    before = b""
    while url is not None:
        if url in asked or len(asked) >= PAGES_MAX:
            raise BadAnswer(f"{endpoint.name}: the list runs in a circle", endpoint=endpoint.name)
        asked.add(url)
        try:
            answer = await client.fetch(endpoint, url)
        except ApiError as error:
            if not (number == 1 and error.status == 400 and "pagelen" in error.message.lower()):
                raise
            if not client.shrink_page(endpoint):
                raise
            url = _first(client, endpoint, query, parts, number)
            continue
        data = answer.object(endpoint.name)
        values = data.get("values")
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise BadAnswer(f"{endpoint.name}: the answer is not a list of objects", endpoint=endpoint.name)
        print_of = hashlib.sha256(dumps(values)).digest()
        if values and print_of == before:
            raise BadAnswer(f"{endpoint.name}: the same page came twice", endpoint=endpoint.name)
        before = print_of
        size = fields.list_size(data)
        yield Page(tuple(values), number, size)
        following = data.get("next")
        number += 1
        if isinstance(following, str) and following:
            client.check_own(following, endpoint)
            url = following
        elif following is not None:
            raise BadAnswer(f"{endpoint.name}: `next` is not an address", endpoint=endpoint.name)
        elif endpoint.counts_pages and _may_go_on(client, endpoint, data, values):
            url = _first(client, endpoint, query, parts, number)
        else:
            url = None


def _may_go_on(client: Client, endpoint: Endpoint, data: JsonObject, values: list[JsonObject]) -> bool:
    """Whether a list without `next` may have another page: this one was full."""
    told = data.get("pagelen")
    full = told if isinstance(told, int) and told > 0 else client.page_size(endpoint) or 10
    return len(values) >= full


def _first(
    client: Client, endpoint: Endpoint, query: Query | None, parts: dict[str, str | int], number: int
) -> str:
    paging: dict[str, str] = {}
    if size := client.page_size(endpoint):
        paging["pagelen"] = str(size)
    if number > 1:
        paging["page"] = str(number)
    return client.url(endpoint, {**(query or {}), **paging}, **parts)
