"""Headers as servers really write them: delays, rate limits, lengths and ranges; and Basic authentication."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mirror.logs import register_secret

# A larger reset time is a time of day; up to this it is the number of seconds left.
SECONDS_LEFT_MAX = 86_400.0
# X-RateLimit-NearLimit is true once less than this share of the requests is left.
NEAR_LIMIT_SHARE = 0.2

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def basic_credentials(username: str, password: str) -> str:
    """User name and password as Basic authentication encodes them, registered as a secret for redaction."""
    encoded = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
    register_secret(password)
    register_secret(encoded)
    return encoded


def basic(username: str, password: str) -> str:
    """The value of an Authorization header with Basic authentication, registered for redaction."""
    return f"Basic {basic_credentials(username, password)}"


def number(text: str | None) -> float | None:
    """The first number of a header that may hold several, or parameters (`60, 60;w=3600`)."""
    found = re.match(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:$|[,;])", text or "")
    return float(found[1]) if found else None


def retry_after(text: str | None, now: datetime) -> float | None:
    """The seconds that a Retry-After header asks to wait, given as a number or as an HTTP date; None where
    it is absent or malformed."""
    value = (text or "").strip()
    seconds = number(value)
    if seconds is not None or not value:
        return seconds
    try:
        when = parsedate_to_datetime(value)
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return max(0.0, (when - now).total_seconds())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def wait_from_headers(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that a refusal asks to wait; None where it does not say.

    `Retry-After` comes first, else `X-RateLimit-Reset`. The latter is the number of seconds left, whatever
    other services mean by that name; a value that can only be a time of day is read as one. `headers` is
    case-insensitive or has lower-case names.
    """
    after = retry_after(headers.get("retry-after"), now)
    if after is not None:
        return after
    seconds = number(headers.get("x-ratelimit-reset"))
    if seconds is not None and seconds > SECONDS_LEFT_MAX:
        return max(0.0, seconds - now.timestamp())
    return seconds


def rate_limit_from_headers(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Limit and remaining requests of an hour (`60, 60;w=3600` is a limit of 60); None where not given.

    Where `X-RateLimit-NearLimit` is true, at most that share of the limit is left. Limits of another window
    than an hour are ignored.
    """
    limit_text = headers.get("x-ratelimit-limit", "")
    windows = {int(text) for text in re.findall(r";\s*w=([0-9]{1,9})", limit_text)}
    if windows and windows != {3600}:
        return None, None
    limit, remaining = number(limit_text), number(headers.get("x-ratelimit-remaining"))
    if limit is not None and headers.get("x-ratelimit-nearlimit", "").strip().lower() == "true":
        most = float(int(limit * NEAR_LIMIT_SHARE))
        remaining = most if remaining is None else min(remaining, most)
    return (
        int(limit) if limit is not None else None,
        int(remaining) if remaining is not None else None,
    )


def content_length(headers: Mapping[str, str]) -> int | None:
    """The length of a body in bytes; None where the header is absent or malformed."""
    text = headers.get("content-length") or ""
    return int(text) if text.isdecimal() else None


@dataclass(frozen=True)
class ContentRange:
    """Which part of a file a response holds: its first byte, and the file's size where that is given."""

    start: int
    size: int | None


def content_range(headers: Mapping[str, str]) -> ContentRange | None:
    """The Content-Range of a partial response; None where it is absent or malformed."""
    found = _RANGE.fullmatch((headers.get("content-range") or "").strip())
    if found is None:
        return None
    return ContentRange(int(found[1]), None if found[2] == "*" else int(found[2]))
