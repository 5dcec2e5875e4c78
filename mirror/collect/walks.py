"""Reading a long list so that a run that is stopped goes on where it was, and not at the beginning."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint, Query
from mirror.bitbucket.failures import ApiError, Gone
from mirror.bitbucket.lists import Page, Resume, pages
from mirror.collect.ports import Work, numbers_from, numbers_text
from mirror.logs import get_logger
from mirror.model import JsonObject

_log = get_logger("collect")


class Walk:
    """One reading of a list, remembered in `state["walk"]` from page to page.

    `key` says what is read (a query, or the day it began): a walk of something else is not gone on
    with. `seen` are the numbers of the things that came so far, `memory` what else is to be
    remembered with the page that it belongs to.
    """

    def __init__(self, work: Work, state: JsonObject, key: str) -> None:
        self._work = work
        self._state = state
        self._resume: Resume | None = None
        self.key = key
        self.seen: set[int] = set()
        self.memory: JsonObject = {}
        # While what a page brought is not put yet, the place after it is not remembered.
        self.is_held = False
        self._place: JsonObject | None = None
        saved: JsonObject = state.get("walk") or {}
        match saved:
            case {"key": str() as of, "next": str() as url, "number": int() as number, "got": int() as got}:
                if of == key:
                    self._resume = Resume(url, number, got)
                    self.seen = numbers_from(saved.get("seen"))
                    self.memory = dict(saved.get("memory") or {})

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier run has read a part of the list."""
        return self._resume is not None

    async def pages(
        self, client: Client, endpoint: Endpoint, query: Query | None, start: Resume | None = None
    ) -> AsyncIterator[Page]:
        """The pages that are still to be read. What a page brought must be put before the next is
        asked for. Raises what reading a list raises."""
        got = self._resume.got if self._resume is not None else 0
        try:
            async for page in pages(client, endpoint, query, self._resume or start, **self._work.names):
                yield page
                got += len(page.values)
                self._remember(page, got)
        except Gone:
            raise
        except ApiError as error:
            if self._resume is None or got > self._resume.got:
                raise
            # The page where the last run stopped is not there any more: the list is read anew.
            _log.info("collect.walk_begun_again", endpoint=endpoint.name, reason=error.message)
            self._resume, self.seen, self.memory = None, set(), {}
            self._state.pop("walk", None)
            async for page in self.pages(client, endpoint, query, start):
                yield page

    def _remember(self, page: Page, got: int) -> None:
        if page.next is None:
            return
        self._place = {
            "key": self.key,
            "next": page.next,
            "number": page.number + 1,
            "got": got,
            "seen": numbers_text(self.seen),
            "memory": dict(self.memory),
        }
        if not self.is_held:
            self.put_down()
        self._work.tick()

    def put_down(self) -> None:
        """What came so far is put: another day it may be gone on from here."""
        if self._place is not None:
            self._state["walk"] = self._place

    def done(self) -> None:
        """The whole list has been read."""
        self._state.pop("walk", None)
