"""How templates show values: times, sizes, counts, states."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup

from mirror.browse import Concern, CopyStatus, RepositoryStatus
from mirror.model import JsonObject, time_from_text, words
from mirror.model.words import age, label, result_of, size, state_label
from mirror.web.context import Page

# The kinds of documents that a page shows together.
_PAGES = frozenset({"settings", "deployments", "environments", "downloads", "projects", "snippets"})
# Commands that need a configuration.
_CONFIGURED = ("backup", "copy", "doctor")
_TONES = {
    "saved": "good", "confirmed": "good", "pruned": "good", "kept": "good", "accepted": "good",
    "arrived": "good", "departed": "none", "erased": "none", "excluded": "none", "gone": "none",
    "failed": "bad",
}  # fmt: skip


def moment(when: datetime | None) -> Markup:
    """A time in UTC."""
    if when is None:
        return Markup('<span class="quiet">never</span>')
    return Markup('<time datetime="{:%Y-%m-%dT%H:%M:%SZ}">{} {:%b %Y, %H:%M}</time>').format(
        when, when.day, when
    )


def relative(when: datetime, now: datetime) -> str:
    """A time as people say it: 3 h ago, in 5 min."""
    return f"{age(now - when)} ago" if when <= now else f"in {age(when - now)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 repository, 3 repositories."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def capital(text: str) -> str:
    """A text with a capital letter."""
    return text[:1].upper() + text[1:]


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
    snippet = re.fullmatch(r"snippets/([A-Za-z0-9_-]+)\.json", path)
    if snippet:
        return f"snippets/{snippet[1]}"
    kind = path.partition("/")[0].removesuffix(".json")
    pages = {"environments": "deployments", "projects": "settings"}
    return pages.get(kind, kind) if kind in _PAGES else ""


def heading(name: str) -> str:
    """The label of a part or a kind, with a capital letter: `lfs` → LFS, `pull_requests` → Pull requests."""
    return capital(label(name))


def ended(run: JsonObject | None, now: datetime) -> Markup:
    """How long ago a run ended, by its summary."""
    if run is None:
        return Markup('<span class="quiet">never</span>')
    when = time_from_text(run["ended"])
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        run["ended"], when.strftime("%Y-%m-%d %H:%M"), relative(when, now)
    )


def outcome(run: JsonObject | None) -> str:
    """How a run ended, by its summary."""
    if run is None:
        return ""
    selectors = run.get("selectors", [])
    of = f"of {', '.join(selectors)} only: " if selectors else ""
    return of + result_of(int(run["exit_code"]))


def copy_state(one: CopyStatus) -> tuple[str, str]:
    """How a copy is, in a word or two, and what the colour of that means."""
    if one.is_configured is False:
        return "no longer configured", "none"
    if not one.is_made:
        return "never made", "warn"
    if one.damage:
        return "damaged", "bad"
    if one.failure:
        return "failing", "bad"
    return ("too old", "bad") if one.late else ("good", "good")


def outcome_tone(name: str) -> str:
    """What the colour of an outcome means."""
    return _TONES.get(name, "warn")


def repository_tone(one: RepositoryStatus, urgency: Mapping[str, int]) -> str:
    """What the colour of a repository means."""
    if one.is_settled:
        return "none"
    found = urgency.get(one.name)
    return "good" if found is None else "bad" if found < 5 else "warn"


def commands(several: Sequence[Concern], page: Page) -> str:
    """What to type next: the first command that works with this store."""
    for one in several:
        if not one.command or (page.config is None and one.command.split()[0] in _CONFIGURED):
            continue
        return f"mirror {one.command}" + (f" --store {page.store}" if page.config is None else "")
    return ""


def seconds(number: float) -> str:
    """A length of time in words."""
    return age(timedelta(seconds=number))


def address(name: str) -> str:
    """The address of the page of a repository or workspace."""
    return f"/{'repositories' if '/' in name else 'workspaces'}/{quote(name)}"


def runs_address(kind: str) -> Callable[[int], str]:
    """The addresses of the pages of a list of runs."""
    return lambda page: "/runs?" + urlencode({**({"kind": kind} if kind else {}), "page": page})


FILTERS: Mapping[str, Callable[..., Any]] = {
    "address": address, "age": age, "capital": capital, "commands": commands, "count": counted,
    "ended": ended, "label": label,
    "result": result_of, "moment": moment, "outcome": outcome, "outcome_tone": outcome_tone,
    "copy_state": copy_state,
    "relative": relative, "repository_tone": repository_tone, "runs_address": runs_address,
    "seconds": seconds, "size": size, "state": state_label,
    "day": day, "name": name, "document_page": document_page, "heading": heading,
    "counted": words.counted,
}  # fmt: skip
