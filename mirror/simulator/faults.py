"""Faults that a test orders: the next answers to matching requests go wrong in a chosen way."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mirror.simulator.responses import error_response

FaultKind = Literal[
    "status", "html", "truncate", "reset", "slow", "stall", "redirect", "loop", "shrink", "cut_pack",
    "corrupt_pack", "trickle",
]  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """The next `times` answers to a method and path like `match` (`GET /2.0/repositories/*`, or a
    path alone for any method) go wrong: a `status` (with optional headers), an `html` page, a
    `truncate`d body, a `reset` connection, a `slow` answer of `seconds`, one that falls silent for
    `seconds` after `after` bytes (`stall`), a `redirect` to `location`, a list whose `next` is a
    `loop`, a list that `shrink`s by its first entry, a pack that is `cut_pack` after `after` bytes
    or has a bit flipped there (`corrupt_pack`), one that comes a byte each `seconds` (`trickle`). A
    `status` says `message`, or `body` as plain text. `skip` matching requests are let through first; of
    the others every `each`th meets the fault.
    """

    match: str
    kind: FaultKind = "status"
    status: int = 500
    times: int = 1
    skip: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    location: str = ""
    after: int = 64
    message: str = "Something went wrong"
    body: str | None = None
    each: int = 1

    def meets(self, method: str, path: str) -> bool:
        """Whether a request is one of those."""
        return fnmatchcase(f"{method} {path}" if " " in self.match else path, self.match)

    def answer(self) -> Response | None:
        """The answer that stands in for the real one, where there is one."""
        match self.kind:
            case "status":
                if self.body is not None:
                    response: Response = Response(self.body, self.status, media_type="text/plain")
                else:
                    response = error_response(self.status, self.message)
                response.headers.update(dict(self.headers))
                return response
            case "html":
                return Response("<html>Down for maintenance</html>", 200, media_type="text/html")
            case "redirect":
                return Response(status_code=302, headers={"Location": self.location})
        return None

    async def send(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the real answer, spoilt."""
        match self.kind:
            case "corrupt_pack":
                content = bytearray(bytes(response.body))
                content[min(self.after, len(content) - 1)] ^= 0x10
                spoilt = Response(bytes(content), response.status_code, media_type=response.media_type)
                await spoilt(scope, receive, send)
            case "truncate" | "cut_pack":
                await self._send_part(response, send)
                # The server closes a connection whose answer stays behind its promise.
                raise ConnectionResetError("ordered")
            case "stall":
                await self._send_part(response, send)
                await asyncio.sleep(self.seconds)
                rest = bytes(response.body)[self._part(response) :]
                await send({"type": "http.response.body", "body": rest})
            case "trickle":
                start = {"type": "http.response.start", "status": response.status_code}
                await send({**start, "headers": response.raw_headers})
                for byte in bytes(response.body):
                    await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
                    await asyncio.sleep(self.seconds)
                await send({"type": "http.response.body", "body": b""})
            case _:
                await response(scope, receive, send)

    def _part(self, response: Response) -> int:
        return len(response.body) // 2 if self.kind == "truncate" else self.after

    async def _send_part(self, response: Response, send: Send) -> None:
        """Promise everything, and send a part."""
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        part = bytes(response.body)[: self._part(response)]
        await send({"type": "http.response.body", "body": part, "more_body": True})


@dataclass
class _Standing:
    fault: Fault
    skip: int
    left: int
    met: int = 0


@dataclass
class Faults:
    """The faults that stand, in the order they were ordered."""

    _standing: list[_Standing] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def order(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._standing.append(_Standing(fault, fault.skip, fault.times))

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, used up once."""
        with self._lock:
            for one in self._standing:
                if one.left > 0 and one.fault.meets(method, path):
                    if one.skip > 0:
                        one.skip -= 1
                        continue
                    one.met += 1
                    if one.met % one.fault.each:
                        continue
                    one.left -= 1
                    return one.fault
        return None

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._standing.clear()
