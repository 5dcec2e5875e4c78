"""How templates show values: times, sizes, counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from markupsafe import Markup

from mirror.model import words
from mirror.model.words import age, label, size

# The kinds of documents that a page shows together.
_PAGES = frozenset({"settings", "deployments", "environments", "downloads", "projects", "snippets"})


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


def day(text: str, *, month_only: bool = False) -> str:
    """A day (`2026-11-23`) for people, or its month; what is none stays as it is."""
    try:
        when = date.fromisoformat(text)
    except ValueError:
        return text
    return f"{when:%B %Y}" if month_only else f"{when:%A}, {when.day} {when:%B %Y}"


def name(value: bytes) -> str:
    """A name of git as people can read it: bytes that are not UTF-8 are escaped."""
    return value.decode("utf-8", "backslashreplace")


def document_page(path: str) -> str:
    """The page of a document, below a snapshot; empty where no page shows it alone."""
    numbered = re.fullmatch(r"(pull-requests|issues|pipelines)/[0-9]+/([0-9]+)\.json", path)
    if numbered:
        return f"{numbered[1]}/{numbered[2]}"
    commit = re.fullmatch(r"commit-comments/[0-9a-f]{2}/([0-9a-f]{40})\.json", path)
    if commit:
        return f"commits/{commit[1]}"
    kind = path.partition("/")[0].removesuffix(".json")
    pages = {"environments": "deployments", "projects": "settings"}
    return pages.get(kind, kind) if kind in _PAGES else ""


def heading(name: str) -> str:
    """The label of a part or a kind, with a capital letter: `lfs` → LFS, `pull_requests` → Pull requests."""
    text = label(name)
    return text[:1].upper() + text[1:]


FILTERS: Mapping[str, Callable[..., Any]] = {
    "moment": moment, "relative": relative, "age": age, "count": counted, "size": size,
    "day": day, "name": name, "document_page": document_page,
    "heading": heading, "label": label, "counted": words.counted,
}  # fmt: skip
