"""Long lists that a later run resumes at the page where an interrupted one stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint, Query
from mirror.bitbucket.failures import ApiError, Gone
from mirror.bitbucket.lists import Page, Resume, pages
from mirror.collect.context import Context
from mirror.collect.ranges import format_ranges, parse_ranges
from mirror.collect.state import ListingProgress
from mirror.logs import get_logger
from mirror.model import JsonObject

_log = get_logger("collect")


class HasListing(Protocol):
    """A section of the state that remembers one listing."""

    walk: ListingProgress | None


class ResumableListing:
    """One reading of a list, remembered in `state.walk` from page to page.

    `key` names what is read (a query, or where the reading ends): progress under another key is dropped.
    `seen` are the numbers of the entries read so far. `memory` is kept with the page it belongs to.
    """

    def __init__(self, context: Context, state: HasListing, key: str) -> None:
        self._context = context
        self._state = state
        self._resume: Resume | None = None
        self.key = key
        self.seen: set[int] = set()
        self.memory: JsonObject = {}
        # Set while entries of a page are not in the draft yet: progress must not move past them.
        self.is_paused = False
        self._progress: ListingProgress | None = None
        saved = state.walk
        if saved is None or saved.key != key:
            return
        if saved.next is not None and saved.number is not None and saved.got is not None:
            self._resume = Resume(saved.next, saved.number, saved.got)
            self.seen = parse_ranges(saved.seen)
            self.memory = dict(saved.memory or {})

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier run has read a part of the list."""
        return self._resume is not None

    async def pages(
        self, client: Client, endpoint: Endpoint, query: Query | None, start: Resume | None = None
    ) -> AsyncIterator[Page]:
        """The pages that are still to be read. The caller puts the entries of a page into the draft before
        it asks for the next one. Raises what reading a list raises."""
        got = self._resume.got if self._resume is not None else 0
        try:
            async for page in pages(client, endpoint, query, self._resume or start, **self._context.names):
                yield page
                got += len(page.values)
                self._note(page, got)
        except Gone:
            raise
        except ApiError as error:
            if self._resume is None or got > self._resume.got:
                raise
            # The page where the last run stopped does not exist any more: start at the first page.
            _log.info("collect.listing_restarted", endpoint=endpoint.name, reason=error.message)
            self._resume, self.seen, self.memory = None, set(), {}
            self._state.walk = None
            async for page in self.pages(client, endpoint, query, start):
                yield page

    def _note(self, page: Page, got: int) -> None:
        if page.next is None:
            return
        self._progress = ListingProgress(
            key=self.key,
            next=page.next,
            number=page.number + 1,
            got=got,
            seen=format_ranges(self.seen),
            memory=dict(self.memory),
        )
        if not self.is_paused:
            self.save()
        self._context.checkpoint_if_due()

    def save(self) -> None:
        """Move the progress to the last page that was read: all its entries are in the draft."""
        if self._progress is not None:
            self._state.walk = self._progress

    def finish(self) -> None:
        """The list was read to its end: forget the progress."""
        self._state.walk = None
