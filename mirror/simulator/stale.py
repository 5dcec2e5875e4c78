"""Answers from before a change: a server announces a change before all of its replicas have it."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

# How many answers are remembered, and the size of the largest in bytes.
REMEMBERED_MAX = 10_000
SIZE_MAX = 1 << 16
# Headers that an answer depends on.
_HEADERS = ("accept", "authorization", "git-protocol", "if-none-match")
Key = tuple[str, ...]


class StaleAnswers:
    """Remembers the last answer to each request, and gives it once more after `hold`."""

    def __init__(self) -> None:
        self._last: OrderedDict[Key, Response] = OrderedDict()
        self._stale: dict[Key, Response] = {}
        self._lock = threading.Lock()

    def hold(self, slug: str, uuid: str) -> None:
        """Give the remembered answers about a repository once more, each to the next equal request."""
        names = (f"/{slug}", f"/{uuid}", f"/{quote(uuid)}")
        with self._lock:
            for key in [key for key in self._last if any(name in key[1] for name in names)]:
                self._stale[key] = self._last.pop(key)

    def answer(self, request: Request, raw: str, body: bytes, now: Response) -> Response:
        """The answer to send: the held one, where there is one, instead of `now`."""
        headers = [request.headers.get(name, "") for name in _HEADERS]
        digest = hashlib.sha256(body).hexdigest()
        key = (request.method, raw, request.url.query, digest, *headers)
        with self._lock:
            held = self._stale.pop(key, None)
            if held is not None:
                return Response(bytes(held.body), held.status_code, dict(held.headers))
            if len(bytes(now.body)) <= SIZE_MAX:
                self._last[key] = now
                self._last.move_to_end(key)
                if len(self._last) > REMEMBERED_MAX:
                    self._last.popitem(last=False)
        return now
