"""Reading a list to its end, and knowing whether that was its end.

`next` is followed as given. A failure on any page is a failure of the list: what came before is
never taken for all there is.
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
# A list that says it has one entry too many, or one of so many, counts what it does not show.
LACKING_MAX = 100

_log = get_logger("bitbucket")


@dataclass(frozen=True)
class Page:
    """Entries of a list not seen on an earlier page. `size` is what the list says it has in all;
    `next` is where it goes on, for one who wants to go on there another day."""

    values: tuple[JsonObject, ...]
    number: int
    size: int | None = None
    next: str | None = None
    # Whether it has fewer entries than it says a full page has.
    has_room: bool = False
    # How many of its entries are none: null, or no objects.
    lost: int = 0


@dataclass(frozen=True)
class Resume:
    """Where an earlier reading of a list stopped: the next page's address and number, and how many
    entries came before it."""

    next: str
    number: int
    got: int


@dataclass
class _Reading:
    """One reading of a list from its first page to its last."""

    before: int = 0
    keys: set[bytes] = field(default_factory=set)
    sizes: list[int] = field(default_factory=list)
    # Whether its last page had room for more, by the list's own word.
    has_ended: bool = False
    # How many came.
    count: int = 0

    def is_sound(self) -> bool:
        """Whether nothing can have slipped away between two pages.

        An entry that goes while the list is read moves the others up, and one of them from a page
        still to come to one that has been read. Entries that are added do no harm.
        """
        shrank = any(later < earlier for earlier, later in zip(self.sizes, self.sizes[1:], strict=False))
        return not shrank and (not self.sizes or self.before + len(self.keys) >= self.sizes[0])

    def is_as(self, other: _Reading) -> bool:
        """Whether two readings from the first page to the last tell the same, and nothing is wrong with it
        but the size: much that is lacking is missed in the same way each time."""
        stood_still = len({*self.sizes, *other.sizes}) == 1 and self.has_ended and other.has_ended
        are_whole = self.before == other.before == 0 and self.count == other.count and self.keys == other.keys
        lacking = self.sizes[0] - self.count
        return (
            stood_still and are_whole and self.count > 0 and lacking <= max(1, self.sizes[0] // LACKING_MAX)
        )


async def pages(
    client: Client,
    endpoint: Endpoint,
    query: Query | None = None,
    resume: Resume | None = None,
    /,
    **parts: str | int,
) -> AsyncIterator[Page]:
    """The pages of a list, entries once each; with `resume` those that an earlier reading had not got
    to.

    Where the list shrinks while it is read, or fewer entries came than it says it has, it is read
    once more for what was missed. Where the very same comes again, and the size is all the time the same
    and hardly larger, it is the size that is wrong, which is logged. Raises ListShort where that is no
    better; BadAnswer for loops, for what is not a list and for a later page that is refused; and whatever
    asking for the first raises.
    """
    seen: set[bytes] = set()
    before: _Reading | None = None
    # What is gone on with is no whole reading, and takes two more to be compared.
    for start in (resume, None, None) if resume is not None else (None, None):
        reading = _Reading(start.got if start is not None else 0)
        if before is None:
            reading.keys = seen  # the same so far, and long lists have many
        try:
            async for page in _walk(client, endpoint, query, parts, start):
                fresh = []
                for value in page.values:
                    key = _key(value)
                    if key not in seen:
                        seen.add(key)
                        fresh.append(value)
                    reading.keys.add(key)
                # They came, and count as much.
                reading.keys.update(_digest(f"{page.number} {number}") for number in range(page.lost))
                if page.size is not None:
                    reading.sizes.append(page.size)
                reading.has_ended = page.has_room
                if fresh or page.lost or before is None:
                    yield replace(page, values=tuple(fresh))
        except CredentialRefused:
            if before is not None:
                raise
            # Revoked between two pages. Whoever else may read it reads it whole: it may be another list.
            before = reading
            continue
        told, reading.count = max(reading.sizes, default=0), len(reading.keys)
        if reading.is_sound():
            return
        if before is not None and reading.is_as(before):
            _log.warning("bitbucket.list_size_wrong", endpoint=endpoint.name, told=told, got=len(seen))
            return
        before = reading
        _log.warning("bitbucket.list_unstable", endpoint=endpoint.name, told=told, got=len(seen))
    raise ListShort(
        f"{endpoint.name}: the list changed while it was read, or falls short, twice "
        f"(it says it has {told} entries, and {len(seen)} came)",
        endpoint=endpoint.name,
    )


async def all_of(
    client: Client, endpoint: Endpoint, query: Query | None = None, **parts: str | int
) -> list[JsonObject]:
    """The whole list at once; for lists that are known to be short.

    Raises what `pages` raises; a ListShort carries the entries received, and so does EntriesLost, for
    entries that are none.
    """
    values, lost = await all_told(client, endpoint, query, **parts)
    if lost is not None:
        raise lost
    return values


async def all_told(
    client: Client, endpoint: Endpoint, query: Query | None = None, **parts: str | int
) -> tuple[list[JsonObject], EntriesLost | None]:
    """The whole list at once, and a message about entries that are null or no objects.

    Raises what `pages` raises; a ListShort carries what came.
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
    """The message about a list with so many entries that are null or no objects."""
    text = f"{endpoint.name}: {lost} of the list's entries {'is' if lost == 1 else 'are'} null or no object"
    error = EntriesLost(text, endpoint=endpoint.name)
    error.values = tuple(values)
    return error


@dataclass
class _Walk:
    """How far a reading has come. All its pages are asked for by one sign-in: another may see
    another list."""

    client: Client
    endpoint: Endpoint
    query: Query | None
    parts: dict[str, str | int]
    page_size: int
    number: int = 1
    got: int = 0
    # Whether the address of the page to come is our own counting, not the server's word.
    guessed: bool = False
    sign_in: SignIn | None = None
    asked: set[str] = field(default_factory=set)
    prints: set[bytes] = field(default_factory=set)

    def numbered(self) -> str:
        """The address of page `number` as we count pages."""
        paging: dict[str, str] = {}
        if self.page_size:
            paging["pagelen"] = str(self.page_size)
        if self.number > 1:
            paging["page"] = str(self.number)
        return self.client.url(self.endpoint, {**(self.query or {}), **paging}, **self.parts)

    async def ask(self, url: str) -> Answer | None:
        """The page at `url`; None where it is not to be had that way: the first one is to be asked for
        again, with smaller pages, and a later one that was only guessed is not there."""
        if url in self.asked or len(self.asked) >= PAGES_MAX:
            raise BadAnswer(f"{self.endpoint.name}: the list runs in a circle", endpoint=self.endpoint.name)
        self.asked.add(url)
        try:
            answer = await self.client.fetch(self.endpoint, url, by=self.sign_in)
        except ApiError as error:
            if self.guessed and error.status == 400 and "page" in error.message.lower():
                return None  # a list that knows `next`, gave none, and does not count pages
            if self.number > 1:
                # Not what the list is, but that the rest of it could not be had.
                text = f"{self.endpoint.name}: page {self.number} of the list failed: {error.message}"
                raise BadAnswer(text, status=error.status, endpoint=self.endpoint.name) from error
            if error.status != 400 or "pagelen" not in error.message.lower() or not self.page_size:
                raise
            self.page_size = self.client.page_size_refused(self.endpoint, self.page_size)
            return None
        self.sign_in = answer.sign_in
        return answer

    def values(self, data: JsonObject) -> list[Json]:
        """The entries of a page. Raises BadAnswer where there is no list of them, or it came before."""
        values, name = data.get("values"), self.endpoint.name
        if not isinstance(values, list):
            raise BadAnswer(f"{name}: the answer is not a list of objects", endpoint=name)
        if values:
            print_of = _digest(values)
            if print_of in self.prints:
                raise BadAnswer(
                    f"{self.endpoint.name}: the same page came twice", endpoint=self.endpoint.name
                )
            self.prints.add(print_of)
        self.got += len(values)
        return values

    def following(self, data: JsonObject, values: list[Json]) -> str | None:
        """The address of the next page, None at the end. Call after `number` was raised."""
        told = data.get("next")
        self.guessed = False
        if isinstance(told, str) and told:
            self.client.check_own(told, self.endpoint)
            return told
        if told is not None:
            raise BadAnswer(f"{self.endpoint.name}: `next` is not an address", endpoint=self.endpoint.name)
        if self.endpoint.counts_pages and values and self._may_go_on(data, values):
            self.guessed = True
            return self.numbered()
        return None

    def _may_go_on(self, data: JsonObject, values: list[Json]) -> bool:
        """Whether a list without `next` may have another page.

        Only its own word for the size of a page tells a last page from one that was made smaller
        than we asked for; without it, the end is an empty page.
        """
        size, told = fields.list_size(data), fields.page_length(data)
        if size is not None and self.got >= size:
            return False
        return told is None or len(values) >= told


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
        except BadAnswer as error:  # the entries received are of use all the same
            url, broken = None, error
        has_room = len(values) < (fields.page_length(data) or 0)
        good = tuple(value for value in values if isinstance(value, dict))
        size, lost = fields.list_size(data), len(values) - len(good)
        yield Page(good, number, size, url, has_room, lost)
        if broken is not None:
            raise broken


def _key(value: JsonObject) -> bytes:
    """What tells one entry of a list from the others, in few bytes: a list may have many."""
    identity = fields.identity(value)
    if identity is None:
        return _digest(value)
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()[:16]


def _digest(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(b"digest:" + text.encode("ascii")).digest()[:16]
