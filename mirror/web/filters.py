"""How templates show values: times, sizes, counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from markupsafe import Markup

from mirror.model.words import age, size


def moment(when: datetime | None) -> Markup:
    """A time in UTC; a dash where there is none."""
    if when is None:
        return Markup('<span class="none">never</span>')
    return Markup('<time datetime="{:%Y-%m-%dT%H:%M:%SZ}">{} {:%b %Y, %H:%M}</time>').format(
        when, when.day, when
    )


def relative(when: datetime, now: datetime) -> str:
    """A time as people say it: 3 h ago, in 5 min."""
    return f"{age(now - when)} ago" if when <= now else f"in {age(when - now)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 repository, 3 repositories."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "moment": moment, "relative": relative, "age": age, "count": counted, "size": size,
}  # fmt: skip
