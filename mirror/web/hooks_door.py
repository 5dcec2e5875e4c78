"""The door for Bitbucket's hooks, as an ASGI application.

A hook says that something changed in a repository, and nothing else is read of it. Whatever is not signed by
the configured secret costs neither a request of ours nor a look at the store: it is counted, and refused.
Bitbucket waits ten seconds for an answer, so the work begins after it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from mirror.auth.hook_keys import HookKeys, is_signature
from mirror.config import Address, HooksConfig
from mirror.connect.hooks import hook_keys
from mirror.logs import get_logger
from mirror.model import Clock, is_uuid
from mirror.model.live import HookEvents
from mirror.store.reading.reader import Store
from mirror.web.server import serving

# Bitbucket sends at most 256 KB.
BODY_MAX = 1 << 20
# A body must have arrived within so many seconds.
BODY_SECONDS = 5.0
# So many bodies are read side by side; Bitbucket sends again what is answered with a 5xx.
READING_MAX = 64
# What was refused is logged at most once in so many seconds.
LOGGED_EVERY = 60.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = get_logger("hooks")


class HooksDoor:
    """`POST /hooks/…` with a true signature goes to `events`; everything else is refused.

    404: another path. 405: another method. 413: a body over BODY_MAX. 408: a body that is too slow. 400: one
    that ends early. 403: no signature, or a wrong one. 503: too many at a time.
    """

    def __init__(self, keys: HookKeys, events: HookEvents, clock: Clock) -> None:
        self._keys = keys
        self._events = events
        self._refusals = Refusals(clock)
        self._reading = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] != "http":
            return None  # the server closes what it cannot hand over
        status, headers = await self._answer(scope, receive)
        if status is not HTTPStatus.NO_CONTENT:
            self._refusals.add(status)
            self._events.refuse()
        length = [] if status is HTTPStatus.NO_CONTENT else [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": int(status), "headers": [*headers, *length]})
        await send({"type": "http.response.body", "body": b""})
        return None

    def close(self) -> None:
        """Log what was refused since the last line."""
        self._refusals.flush()

    async def _answer(self, scope: Message, receive: Receive) -> tuple[HTTPStatus, list[tuple[bytes, bytes]]]:
        if not self._keys.has_path(str(scope["path"])):
            return HTTPStatus.NOT_FOUND, []
        if scope["method"] != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, [(b"allow", b"POST")]
        signature = _signature(scope["headers"])
        if signature is None:
            return HTTPStatus.FORBIDDEN, []
        if self._reading >= READING_MAX:
            return HTTPStatus.SERVICE_UNAVAILABLE, [(b"retry-after", b"5")]
        self._reading += 1
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(scope["headers"], receive)
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT, []
        finally:
            self._reading -= 1
        if isinstance(body, HTTPStatus):
            return body, []
        if not self._keys.are_signed(body, signature):
            return HTTPStatus.FORBIDDEN, []
        self._events.announce(repository_uuid(body), hashlib.sha256(body).digest())
        return HTTPStatus.NO_CONTENT, []


@asynccontextmanager
async def open_hooks_door(
    hooks: HooksConfig, events: HookEvents, *, store: Path, clock: Clock, environment: Mapping[str, str]
) -> AsyncIterator[Address]:
    """Keep the door for the hooks of `store` open inside this block; yields its address.

    The secrets are read now. Raises NoStore, and UsageError where a secret cannot be used, or the address
    cannot be listened on.
    """
    with Store.open(store) as opened:
        keys = await hook_keys(hooks, opened.id, environment)
    door = HooksDoor(keys, events, clock)
    try:
        async with serving(door, hooks.listen, key="hooks.listen") as address:
            _log.info("hooks.listening", address=address.text)
            yield address
    finally:
        door.close()


class Refusals:
    """Counts what was refused, and logs it in one line a minute at most."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: Counter[HTTPStatus] = Counter()
        self._logged = -LOGGED_EVERY

    def add(self, status: HTTPStatus) -> None:
        """Count one more, and log where the last line is old enough."""
        self._counts[status] += 1
        if self._clock.monotonic() - self._logged >= LOGGED_EVERY:
            self.flush()

    def flush(self) -> None:
        """Log what was not logged yet."""
        if self._counts:
            counts = {str(int(status)): count for status, count in sorted(self._counts.items())}
            _log.warning("hooks.refused", requests=sum(self._counts.values()), by_status=counts)
            self._counts.clear()
            self._logged = self._clock.monotonic()


def repository_uuid(body: bytes) -> str | None:
    """The uuid of the repository that a hook is about, in lower case and with braces; None where it names
    none. Never raises, whatever the body is."""
    try:
        # Numbers stay text: a long one takes long to convert.
        data = json.loads(body, parse_int=str, parse_float=str)
        uuid = data["repository"]["uuid"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not isinstance(uuid, str):
        return None
    uuid = "{" + uuid.strip("{}").lower() + "}"
    return uuid if is_uuid(uuid) else None


def _signature(headers: list[tuple[bytes, bytes]]) -> str | None:
    """The signature in the headers; None where there is none, or several, or no such thing."""
    found = [value for name, value in headers if name.lower() == b"x-hub-signature"]
    if len(found) != 1:
        return None
    text = found[0].decode("latin-1")
    return text if is_signature(text) else None


async def _read(headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes | HTTPStatus:
    """The body; or the status of the refusal where it is too large, or ends early."""
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    if any(not value.isdigit() or len(value) > 9 or int(value) > BODY_MAX for value in lengths):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return HTTPStatus.BAD_REQUEST
        body += message.get("body", b"")
        if len(body) > BODY_MAX:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        if not message.get("more_body", False):
            return bytes(body)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
