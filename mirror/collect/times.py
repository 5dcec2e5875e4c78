"""Times as upstream and earlier runs wrote them."""

from __future__ import annotations

from datetime import UTC, datetime

from mirror.model import time_from_text

# Times up to this one count as none, so that a span can be subtracted from any time.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: object) -> datetime | None:
    """The time that `text` gives; None where it gives none, or one that no calendar has."""
    try:
        when = time_from_text(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
    return when if when is not None and when > _EPOCH else None


def latest(*texts: str) -> str:
    """The latest of some times, as it was written; the first one where none is a time."""
    return max(texts, key=lambda text: parse_time(text) or _EPOCH)


def earliest(one: str, other: str) -> str:
    """The earlier of two times, as it was written; what is no time comes first."""
    return min(one, other, key=lambda text: parse_time(text) or _EPOCH)


def seconds_of(text: str) -> float:
    """A time in seconds since the epoch; 0.0 where `text` is no time."""
    when = parse_time(text)
    return 0.0 if when is None else when.timestamp()
