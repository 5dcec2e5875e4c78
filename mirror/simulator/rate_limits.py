"""Rate limits: requests counted for each identity and group of resources, over a rolling hour."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

from starlette.responses import Response

from mirror.simulator.authentication import ACCESS_TOKENS
from mirror.simulator.responses import error_response
from mirror.simulator.switches import Switches
from mirror.simulator.world.people import Token
from mirror.simulator.world.world import World

_HOOKS = re.compile(r"/hooks(/[^/]+)?/?$")
HOUR = timedelta(hours=1)
TEXT = "Rate limit for this resource has been exceeded"


def group_of(path: str) -> str:
    """The group of resources that a path is counted in."""
    if not path.startswith("/2.0/"):
        return "git"
    if "/downloads/" in path:
        return "files"
    return "hooks" if _HOOKS.search(path) else "api"


@dataclass(frozen=True)
class Count:
    """The requests of an identity in the last hour. `reset` is in seconds from now."""

    group: str
    limit: int
    made: int
    reset: int
    is_over: bool


class RateLimits:
    """Counts requests, and builds the headers and the response about the limit."""

    def __init__(self, world: World, switches: Switches) -> None:
        self._world = world
        self._switches = switches
        self._made: dict[tuple[str, str], deque[datetime]] = {}
        self._lock = threading.Lock()

    def count(self, token: Token, path: str) -> Count:
        """Count a request, unless the limit is reached already."""
        group = group_of(path)
        if token.kind == "anonymous" and group != "git":
            limit = self._world.limits["anonymous"]
        else:
            limit = self._world.limits.get(group, self._world.limit)
        now = self._world.clock()
        with self._lock:
            made = self._made.setdefault((token.identity, group), deque())
            while made and made[0] <= now - HOUR:
                made.popleft()
            is_over = len(made) >= limit
            if not is_over:
                made.append(now)
            reset = int((made[0] + HOUR - now).total_seconds()) + 1 if made else 3600
            return Count(group, limit, len(made), reset, is_over)

    def headers(self, token: Token, count: Count) -> dict[str, str]:
        """The headers about the limit. `X-RateLimit-Reset` is in seconds from now."""
        everybody = self._switches.rate_limit_headers_for_all or token.kind == "anonymous"
        if not (everybody or (token.kind in ACCESS_TOKENS and self._switches.rate_limit_headers)):
            return {}
        if self._switches.rate_limit_headers_as_policy or token.kind == "anonymous":
            return {
                "X-Ratelimit-Limit": f"{count.limit}, {count.limit};w=3600",
                "X-Ratelimit-Remaining": str(count.limit - count.made),
                "X-Ratelimit-Reset": str(count.reset),
            }
        headers = {
            "X-RateLimit-Limit": str(count.limit),
            "X-RateLimit-Resource": count.group,
            "X-RateLimit-NearLimit": str(count.made > count.limit * 0.8).lower(),
        }
        if count.is_over:
            headers["X-RateLimit-Reset"] = str(count.reset)
        return headers

    def refuse(self, token: Token, count: Count) -> Response:
        """The 429 response."""
        if self._switches.rate_limit_refusal_is_text:
            response = Response(TEXT, 429, media_type="text/plain")
        else:
            response = error_response(429, TEXT)
        if self._switches.retry_after:
            when = format_datetime(self._world.clock() + timedelta(seconds=count.reset), usegmt=True)
            is_date = self._switches.retry_after_is_a_date
            response.headers["Retry-After"] = when if is_date else str(count.reset)
        response.headers.update(self.headers(token, count))
        return response
