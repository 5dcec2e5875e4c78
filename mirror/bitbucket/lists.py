"""Reads paged lists completely.

`next` is followed as given. A failure on any page is a failure of the list: the entries before it are never
taken for the whole list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from mirror.auth.signin import SignIn
from mirror.bitbucket import fields
from mirror.bitbucket.client.client import Answer, Client
from mirror.bitbucket.endpoints import Endpoint, Query
from mirror.bitbucket.failures import ApiError, BadAnswer, EntriesLost, ListShort
from mirror.errors import CredentialRefused
from mirror.logs import get_logger
from mirror.model import Json, JsonObject

PAGES_MAX = 200_000
# A list may be short of one entry, or of one in this many: its size counts entries that it does not show.
MISSING_MAX = 100

_log = get_logger("bitbucket")


@dataclass(frozen=True)
class Page:
    """The entries of a page that were not on an earlier one. `size` is the reported size of the whole list;
    `next` is the URL of the next page, to resume there later."""

    values: tuple[JsonObject, ...]
    number: int
    size: int | None = None
    next: str | None = None
    # Whether it has fewer entries than the reported page size.
    has_room: bool = False
    # How many of its entries are null or no objects.
    lost: int = 0


@dataclass(frozen=True)
class Resume:
    """Where an earlier reading of a list stopped: the URL and number of the next page, and the number of
    entries before it."""

    next: str
    number: int
    got: int


@dataclass
class _Reading:
    """One reading of a list from its first page to its last."""

    before: int = 0
    keys: set[bytes] = field(default_factory=set)
    sizes: list[int] = field(default_factory=list)
    # Whether its last page had room for more entries.
    has_ended: bool = False
    # The number of distinct entries.
    count: int = 0

    def add(self, page: Page, seen: set[bytes]) -> tuple[JsonObject, ...]:
        """Count a page; returns its entries that are not in `seen`, and adds them there."""
        fresh = []
        for value in page.values:
            key = _key(value)
            if key not in seen:
                seen.add(key)
                fresh.append(value)
            self.keys.add(key)
        # Lost entries count as entries.
        self.keys.update(_digest(f"{page.number} {number}") for number in range(page.lost))
        if page.size is not None:
            self.sizes.append(page.size)
        self.has_ended = page.has_room
        return tuple(fresh)

    def is_consistent(self) -> bool:
        """Whether no entry can have been missed between two pages.

        An entry that is removed during the reading moves a later one from an unread page to one that was read
        already. Added entries do no harm.
        """
        shrank = any(later < earlier for earlier, later in zip(self.sizes, self.sizes[1:], strict=False))
        return not shrank and (not self.sizes or self.before + len(self.keys) >= self.sizes[0])

    def equals(self, other: _Reading) -> bool:
        """Whether two complete readings gave the same entries, and only the reported size is too large, by
        little: if many entries were missing, both readings would lack them too."""
        is_stable = len({*self.sizes, *other.sizes}) == 1 and self.has_ended and other.has_ended
        are_whole = self.before == other.before == 0 and self.count == other.count and self.keys == other.keys
        missing = self.sizes[0] - self.count
        return is_stable and are_whole and self.count > 0 and missing <= max(1, self.sizes[0] // MISSING_MAX)


async def pages(
    client: Client,
    endpoint: Endpoint,
    query: Query | None = None,
    resume: Resume | None = None,
    /,
    **parts: str | int,
) -> AsyncIterator[Page]:
    """Yield the pages of a list, each entry once; with `resume` those after an earlier reading.

    If the list shrinks during the reading, or has fewer entries than it reports, it is read once more. If the
    same entries come again, and the reported size is stable and only slightly larger, the size is wrong; that
    is logged. Raises ListShort where the second reading is incomplete too; BadAnswer for loops, for anything
    but a list, and for a later page that is refused; and any error of the first page.
    """
    seen: set[bytes] = set()
    before: _Reading | None = None
    # A resumed reading is not complete: it takes two more to compare.
    for start in (resume, None, None) if resume is not None else (None, None):
        reading = _Reading(start.got if start is not None else 0)
        if before is None:
            reading.keys = seen  # equal in the first reading; long lists have many
        try:
            async for page in _walk(client, endpoint, query, parts, start):
                fresh = reading.add(page, seen)
                if fresh or page.lost or before is None:
                    yield replace(page, values=fresh)
        except CredentialRefused:
            if before is not None:
                raise
            # Revoked between two pages. Another sign-in reads from the start: it may see another list.
            before = reading
            continue
        size, reading.count = max(reading.sizes, default=0), len(reading.keys)
        if reading.is_consistent():
            return
        if before is not None and reading.equals(before):
            _log.warning(
                "bitbucket.list_size_wrong", endpoint=endpoint.name, reported=size, received=len(seen)
            )
            return
        before = reading
        _log.warning("bitbucket.list_unstable", endpoint=endpoint.name, reported=size, received=len(seen))
    raise ListShort(
        f"{endpoint.name}: the list changed during the reading, or was incomplete, twice "
        f"(it reports {size} entries, and {len(seen)} came)",
        endpoint=endpoint.name,
    )


async def all_of(
    client: Client, endpoint: Endpoint, query: Query | None = None, **parts: str | int
) -> list[JsonObject]:
    """The whole list at once; for lists that are known to be short.

    Raises what `pages` raises, and EntriesLost for entries that are null or no objects; ListShort and
    EntriesLost carry the received entries.
    """
    values, lost = await all_with_lost(client, endpoint, query, **parts)
    if lost is not None:
        raise lost
    return values


async def all_with_lost(
    client: Client, endpoint: Endpoint, query: Query | None = None, **parts: str | int
) -> tuple[list[JsonObject], EntriesLost | None]:
    """The whole list at once, and an error about entries that are null or no objects.

    Raises what `pages` raises; a ListShort carries the received entries.
    """
    values: list[JsonObject] = []
    lost = 0
    try:
        async for page in pages(client, endpoint, query, **parts):
            values += page.values
            lost += page.lost
    except ListShort as error:
        error.values = tuple(values)
        raise
    return values, entries_lost(endpoint, lost, values) if lost else None


def entries_lost(endpoint: Endpoint, lost: int, values: Sequence[JsonObject] = ()) -> EntriesLost:
    """The error about a list with `lost` entries that are null or no objects."""
    text = f"{endpoint.name}: {lost} of the list's entries {'is' if lost == 1 else 'are'} null or no object"
    error = EntriesLost(text, endpoint=endpoint.name)
    error.values = tuple(values)
    return error


@dataclass
class _Walk:
    """The progress of one reading. One sign-in requests all its pages, because another may see another
    list."""

    client: Client
    endpoint: Endpoint
    query: Query | None
    parts: dict[str, str | int]
    page_size: int
    number: int = 1
    got: int = 0
    # Whether the URL of the next page is computed from the page number, not given by the server.
    guessed: bool = False
    sign_in: SignIn | None = None
    asked: set[str] = field(default_factory=set)
    fingerprints: set[bytes] = field(default_factory=set)

    def numbered(self) -> str:
        """The URL of page `number`, computed."""
        paging: dict[str, str] = {}
        if self.page_size:
            paging["pagelen"] = str(self.page_size)
        if self.number > 1:
            paging["page"] = str(self.number)
        return self.client.url(self.endpoint, {**(self.query or {}), **paging}, **self.parts)

    async def ask(self, url: str) -> Answer | None:
        """The page at `url`. None where the first page must be requested again with a smaller page size, or a
        guessed later page does not exist."""
        if url in self.asked or len(self.asked) >= PAGES_MAX:
            raise BadAnswer(f"{self.endpoint.name}: the list is a loop", endpoint=self.endpoint.name)
        self.asked.add(url)
        try:
            answer = await self.client.fetch(self.endpoint, url, by=self.sign_in)
        except ApiError as error:
            if self.guessed and error.status == 400 and "page" in error.message.lower():
                return None  # a list with `next` that had none and has no page numbers
            if self.number > 1:
                # This failure is not about the list itself: the rest of it could not be read.
                text = f"{self.endpoint.name}: page {self.number} of the list failed: {error.message}"
                raise BadAnswer(text, status=error.status, endpoint=self.endpoint.name) from error
            if error.status != 400 or "pagelen" not in error.message.lower() or not self.page_size:
                raise
            self.page_size = self.client.page_size_refused(self.endpoint, self.page_size)
            return None
        self.sign_in = answer.sign_in
        return answer

    def values(self, data: JsonObject) -> list[Json]:
        """The entries of a page. Raises BadAnswer where there is no list, or the same page came before."""
        values, name = data.get("values"), self.endpoint.name
        if not isinstance(values, list):
            raise BadAnswer(f"{name}: the response is not a list of objects", endpoint=name)
        if values:
            fingerprint = _digest(values)
            if fingerprint in self.fingerprints:
                raise BadAnswer(
                    f"{self.endpoint.name}: the same page came twice", endpoint=self.endpoint.name
                )
            self.fingerprints.add(fingerprint)
        self.got += len(values)
        return values

    def following(self, data: JsonObject, values: list[Json]) -> str | None:
        """The URL of the next page, None at the end. Call it after `number` was increased."""
        url = data.get("next")
        self.guessed = False
        if isinstance(url, str) and url:
            self.client.check_own(url, self.endpoint)
            return url
        if url is not None:
            raise BadAnswer(f"{self.endpoint.name}: `next` is not a URL", endpoint=self.endpoint.name)
        if self.endpoint.counts_pages and values and self._may_continue(data, values):
            self.guessed = True
            return self.numbered()
        return None

    def _may_continue(self, data: JsonObject, values: list[Json]) -> bool:
        """Whether a list without `next` may have another page.

        Only the reported page size distinguishes a last page from one that the server made smaller than
        requested; without it, the list ends with an empty page.
        """
        size, length = fields.list_size(data), fields.page_length(data)
        if size is not None and self.got >= size:
            return False
        return length is None or len(values) >= length


async def _walk(
    client: Client,
    endpoint: Endpoint,
    query: Query | None,
    parts: dict[str, str | int],
    start: Resume | None,
) -> AsyncIterator[Page]:
    walk = _Walk(client, endpoint, query, parts, client.page_size(endpoint))
    url: str | None = walk.numbered()
    if start is not None:
        client.check_own(start.next, endpoint)
        url, walk.number, walk.got = start.next, start.number, start.got
    while url is not None:
        answer = await walk.ask(url)
        if answer is None:
            url = None if walk.guessed else walk.numbered()
            continue
        data = answer.object(endpoint.name)
        values = walk.values(data)
        number, walk.number = walk.number, walk.number + 1
        broken: BadAnswer | None = None
        try:
            url = walk.following(data, values)
        except BadAnswer as error:  # the received entries are still useful
            url, broken = None, error
        has_room = len(values) < (fields.page_length(data) or 0)
        good = tuple(value for value in values if isinstance(value, dict))
        size, lost = fields.list_size(data), len(values) - len(good)
        yield Page(good, number, size, url, has_room, lost)
        if broken is not None:
            raise broken


def _key(value: JsonObject) -> bytes:
    """A short key that identifies an entry of a list; a list may have many."""
    identity = fields.identity(value)
    if identity is None:
        return _digest(value)
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()[:16]


def _digest(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(b"digest:" + text.encode("ascii")).digest()[:16]
