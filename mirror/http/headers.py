"""Headers as servers really write them: how long to wait, what is left of a limit, who signs in."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mirror.logs import register_secret

# A reset time larger than this is a time of day, not the seconds that are left.
SECONDS_LEFT_MAX = 86_400.0
# X-RateLimit-NearLimit is true once less than this share of the requests is left.
NEAR_LIMIT_SHARE = 0.2


def basic(username: str, password: str) -> str:
    """The value of an Authorization header; neither it nor the password may appear in a log."""
    pair = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
    register_secret(password)
    register_secret(pair)
    return f"Basic {pair}"


def number(text: str | None) -> float | None:
    """The first number of a header that may hold several, or parameters (`60, 60;w=3600`)."""
    found = re.match(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:$|[,;])", text or "")
    return float(found[1]) if found else None


def retry_after(text: str | None, now: datetime) -> float | None:
    """The seconds that a Retry-After header asks to wait: a number, or an HTTP date. None where it does
    not say."""
    told = (text or "").strip()
    seconds = number(told)
    if seconds is not None or not told:
        return seconds
    try:
        when = parsedate_to_datetime(told)
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return max(0.0, (when - now).total_seconds())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def wait_told(headers: Mapping[str, str], now: datetime) -> float | None:
    """How many seconds a refusal asks us to wait; None where it does not say.

    `Retry-After` may be seconds or an HTTP date. `X-RateLimit-Reset` is the seconds left, whatever
    other services mean by that name; a value that can only be a time of day is read as one.
    """
    after = retry_after(headers.get("retry-after"), now)
    if after is not None:
        return after
    seconds = number(headers.get("x-ratelimit-reset"))
    if seconds is not None and seconds > SECONDS_LEFT_MAX:
        return max(0.0, seconds - now.timestamp())
    return seconds


def rate_told(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Limit and remaining requests of an hour as the headers tell (`60, 60;w=3600` is a limit of 60).

    Where only `X-RateLimit-NearLimit: true` speaks of what remains, that is all that may be left. What
    they say of another window than an hour is left out.
    """
    told = headers.get("x-ratelimit-limit", "")
    windows = {int(text) for text in re.findall(r";\s*w=([0-9]{1,9})", told)}
    if windows and windows != {3600}:
        return None, None
    limit, remaining = number(told), number(headers.get("x-ratelimit-remaining"))
    if limit is not None and headers.get("x-ratelimit-nearlimit", "").strip().lower() == "true":
        most = float(int(limit * NEAR_LIMIT_SHARE))
        remaining = most if remaining is None else min(remaining, most)
    return (
        int(limit) if limit is not None else None,
        int(remaining) if remaining is not None else None,
    )
