"""Fault injection: the next responses to matching requests fail in a chosen way."""

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
    """Breaks the next `times` responses to requests that match.

    `match` is a glob for method and path (`GET /2.0/repositories/*`), or for the path alone. The first
    `skip` matching requests succeed; of the others, every `each`th fails. `kind` is one of:

    - `status`: this status with `headers`, and `message` as JSON or `body` as plain text
    - `html`: an HTML page
    - `truncate`: the body ends early
    - `reset`: the connection is reset
    - `slow`: the response starts after `seconds`
    - `stall`: the response pauses for `seconds` after `after` bytes
    - `trickle`: one byte every `seconds`
    - `redirect`: to `location`
    - `loop`: the `next` of a list is its own address
    - `shrink`: a list lacks its first entry
    - `cut_pack`, `corrupt_pack`: a pack ends, or has a bit flipped, after `after` bytes
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

    def matches(self, method: str, path: str) -> bool:
        """Whether a request matches."""
        return fnmatchcase(f"{method} {path}" if " " in self.match else path, self.match)

    def response(self) -> Response | None:
        """The response that replaces the real one, or None where the real one is changed."""
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
        """Send the real response with the fault applied."""
        match self.kind:
            case "corrupt_pack":
                content = bytearray(bytes(response.body))
                content[min(self.after, len(content) - 1)] ^= 0x10
                spoilt = Response(bytes(content), response.status_code, media_type=response.media_type)
                await spoilt(scope, receive, send)
            case "truncate" | "cut_pack":
                await self._send_part(response, send)
                # The server closes a connection whose body is shorter than its Content-Length.
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
        """Announce the whole length, and send only a part."""
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
    """The active faults, oldest first."""

    _standing: list[_Standing] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def order(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._standing.append(_Standing(fault, fault.skip, fault.times))

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, counted as used once; None where no fault matches."""
        with self._lock:
            for one in self._standing:
                if one.left > 0 and one.fault.matches(method, path):
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
        """Remove all faults."""
        with self._lock:
            self._standing.clear()
