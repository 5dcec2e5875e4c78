"""Connections that cost little, whoever is at their other end.

The door for webhooks is open to the internet, in a process that needs its open files for backups. So there
are so many connections and no more; one that asks nothing, or that takes no answer, is given up.
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

# So many are open at a time. For one more, the one that has asked nothing for longest is closed.
CONNECTIONS_MOST = 128
# So many are accepted before the first of them is counted.
BACKLOG = 64
# A whole request must have arrived within so many seconds.
REQUEST_SECONDS = 20.0
# Whoever takes nothing of an answer for so many seconds gets no more of it.
STUCK_SECONDS = 60.0


class Connection(H11Protocol):
    """A connection of uvicorn, with these limits."""

    _asking: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._since = self.loop.time()
        self._watch()
        if len(self.connections) > CONNECTIONS_MOST:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        for timer in (self._asking, self._stuck):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See H11Protocol."""
        self._since = self.loop.time()
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._stuck = self.loop.call_later(STUCK_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()

    @property
    def is_idle(self) -> bool:
        """Whether no answer is being made."""
        none_yet = self.cycle is None
        return none_yet or self.cycle.response_complete

    def _watch(self) -> None:
        """Have the time of the request run until all of it is there."""
        is_asking = (self.is_idle or self.cycle.more_body) and not self.transport.is_closing()
        if is_asking and self._asking is None:
            self._asking = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        elif not is_asking and self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _make_room(self) -> None:
        others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
        idle = [one for one in others if one.is_idle]
        given_up = min(idle, key=lambda one: one._since, default=self)
        # It is counted until its transport says that it is closed: not again for the next one.
        self.connections.discard(given_up)
        given_up.transport.abort()
