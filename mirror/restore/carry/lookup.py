"""Looking for what exists at the target, by natural keys."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from mirror.bitbucket.fields import created_on
from mirror.model import Json, JsonObject, value_at
from mirror.restore.carry.api import Api
from mirror.restore.carry.values import agrees, resolved
from mirror.restore.plan.steps import Find, Made, Secret

# A list, or a single thing: the name and path of its endpoint, and the values in that.
Place = tuple[str, str, tuple[tuple[str, str], ...]]


def _any(_wanted: Find, _entry: JsonObject) -> bool:
    return True


class Lookup:
    """What exists at the target. Each list is requested once and kept, with what this restore adds to it.

    `resolve` gives what stands in a plan for something else.
    """

    def __init__(self, api: Api, resolve: Callable[[Made | Secret], Json]) -> None:
        self._api = api
        self._resolve = resolve
        self._kept: dict[Place, list[JsonObject]] = {}
        self._locks: defaultdict[Place, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def find(
        self, wanted: Find, *, again: bool = False, is_free: Callable[[Find, JsonObject], bool] = _any
    ) -> JsonObject | None:
        """What has the natural key and is free, or None; of several the oldest, because things are made in
        the order of a plan. `again`: request the list even where it is kept.

        Raises as `Api.entries`.
        """
        entries = await self._entries(wanted, again)
        several = [one for one in entries if self.matches(wanted, one) and is_free(wanted, one)]
        if several:
            return min(several, key=lambda one: created_on(one) or "")
        if wanted.otherwise is not None:
            return await self.find(wanted.otherwise, again=again, is_free=is_free)
        return None

    def note(self, wanted: Find, made: JsonObject) -> None:
        """Add what was made to its list, where that is kept."""
        kept = self._kept.get(self.place_of(wanted))
        if kept is not None:
            kept.append(made)

    def forget(self, wanted: Find) -> None:
        """Request the list anew next time: something in it was changed."""
        self._kept.pop(self.place_of(wanted), None)

    async def _entries(self, wanted: Find, again: bool) -> list[JsonObject]:
        place = self.place_of(wanted)
        async with self._locks[place]:
            if again or place not in self._kept:
                self._kept[place] = await self._api.entries(wanted.endpoint, dict(place[2]))
            return self._kept[place]

    def place_of(self, wanted: Find) -> Place:
        """Where to look. Raises Unresolved where that is not known."""
        parts = {name: str(resolved(value, self._resolve)) for name, value in wanted.parts.items()}
        return wanted.endpoint.name, wanted.endpoint.template, tuple(sorted(parts.items()))

    def matches(self, wanted: Find, entry: JsonObject) -> bool:
        """Whether something has the natural key. Raises Unresolved where that is not known."""
        if wanted.marker is not None:
            field, begins = wanted.marker
            text = value_at(entry, field)
            if not isinstance(text, str) or not text.startswith(begins):
                return False
        key = resolved(wanted.key, self._resolve)
        return all(agrees(value, value_at(entry, field)) for field, value in key.items())
