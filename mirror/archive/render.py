"""Pages from templates, as HTML or as Markdown. Whatever a template shows is escaped unless it was made safe
in `text`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mirror.archive import text as texts
from mirror.git.difference import Line

TEMPLATES = Path(__file__).parent / "templates"
# What a state means, where it means something.
_TONES = {
    "good": "merged successful passed approved complete resolved closed done enabled",
    "bad": "failed error declined denied stopped halted expired changes_requested partial wontfix invalid",
    "open": "open new in_progress inprogress pending running paused on_hold draft",
}
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words.split()}
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Form:
    """A form of pages: how their files end, and what the first page of a folder is called."""

    name: str
    suffix: str
    index: str
    assets: tuple[str, ...] = ()


HTML = Form("html", ".html", "index.html", ("style.css", "search.js"))
MARKDOWN = Form("markdown", ".md", "README.md")
FORMS = {form.name: form for form in (HTML, MARKDOWN)}


class Plain(str):
    """A piece of Markdown that is one on purpose."""

    __slots__ = ()


class Renderer:
    """Renders the templates of one form."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self._environment = _environment(form.name)

    def page(self, template: str, place: str, **context: Any) -> bytes:
        """The page at `place`, a path below the archive's folder. Templates reach that folder by `root`, and
        the repository's (the first two parts of `place`) by `home`."""
        depth = place.count("/")
        more = {
            "root": Plain("../" * depth),
            "home": Plain("../" * max(0, depth - 2)),
            "suffix": Plain(self.form.suffix),
            "index": Plain(self.form.index),
        }
        made = self._environment.get_template(template + self.form.suffix).render(**more, **context)
        return made.encode("utf-8", "replace")


def html_environment(*folders: Path) -> Environment:
    """The environment of HTML templates, looked for in `folders` first and then among those of the archive.

    Every value is escaped, and its control characters are replaced, unless `text` made it safe.
    """
    made = _plain_environment(FileSystemLoader([*folders, TEMPLATES]), is_html=True)
    made.filters |= _HTML_FILTERS
    return made


@cache
def _environment(name: str) -> Environment:
    if name == HTML.name:
        return html_environment()
    made = _plain_environment(FileSystemLoader(TEMPLATES), is_html=False)
    made.filters |= _MARKDOWN_FILTERS
    return made


def _plain_environment(loader: BaseLoader, *, is_html: bool) -> Environment:
    made = Environment(
        loader=loader,
        autoescape=is_html,  # noqa: S701 - `_markdown_value` escapes what goes into Markdown
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, auto_reload=False, finalize=_html_value if is_html else _markdown_value,
    )  # fmt: skip
    made.filters |= {"size": size, "duration": duration, "line": texts.one_line, "tone": tone, "word": word}
    return made


def _html_value(value: object) -> object:
    return value if isinstance(value, Markup) or not isinstance(value, str) else texts.clean(value)


def _markdown_value(value: object) -> object:
    return value if isinstance(value, Plain) or not isinstance(value, str) else texts.to_inline(value)


def tone(state: str) -> str:
    """What the colour of a state means: good, bad, open or plain."""
    return _TONE_OF.get(state.strip().lower().replace(" ", "_"), "plain")


def word(state: str) -> str:
    """A state as a reader reads it."""
    return texts.one_line(state, 60).replace("_", " ").capitalize() or "Unknown"


def size(number: int) -> str:
    """A number of bytes in a unit that suits it."""
    value = float(number)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"


def duration(seconds: int | None) -> str:
    """A time span in words; empty where it is not known."""
    if seconds is None:
        return ""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    pieces = [f"{hours} h"] if hours else []
    pieces += [f"{minutes} min"] if minutes else []
    return " ".join([*pieces, f"{seconds} s"] if not hours and (seconds or not pieces) else pieces)


def _time(value: str | int) -> datetime | None:
    try:
        if isinstance(value, int):
            return datetime.fromtimestamp(value, UTC)
        when = datetime.fromisoformat(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def moment(value: str | int) -> str:
    """A time for people, UTC; a text that is no time as it is."""
    when = _time(value)
    return texts.one_line(str(value), 60) if when is None else f"{when.day} {when:%b %Y, %H:%M}"


def _html_moment(value: str | int) -> Markup:
    when = _time(value)
    if when is None:
        return Markup("{}").format(moment(value))
    return Markup('<time datetime="{:%Y-%m-%dT%H:%M:%SZ}">{}</time>').format(when, moment(value))


def _link(href: str, words: str) -> Markup:
    """A link to somewhere else, where it is one that a page may have."""
    if not texts.is_safe(href):
        return Markup("{}").format(texts.one_line(words))
    return Markup('<a href="{}" rel="noreferrer">{}</a>').format(texts.clean(href), texts.one_line(words))


def _markdown_link(href: str, words: str) -> Plain:
    if not texts.is_safe(href) or not re.fullmatch(r"[!-~]+", href) or set(href) & set('<>()[]\\`"'):
        return Plain(texts.to_inline(words))
    return Plain(f"[{texts.to_inline(words)}](<{href}>)")


def _nested(block: str) -> Plain:
    """A block of Markdown as what stands below another."""
    return Plain("\n".join(f"> {line}".rstrip() for line in block.strip().split("\n")))


def _diff(lines: Sequence[Line]) -> Plain:
    """A run of lines that differ, as git shows it."""
    old, new = [line.old for line in lines if line.old], [line.new for line in lines if line.new]
    sides = f"-{old[0] if old else 0},{len(old)} +{new[0] if new else 0},{len(new)}"
    text = "\n".join(line.sign + texts.code(line.text) for line in lines)
    return Plain(texts.fenced(f"@@ {sides} @@\n{text}", "diff"))


def _safe(function: Callable[..., str]) -> Callable[..., Plain]:
    return lambda *values: Plain(function(*values))


_HTML_FILTERS: Mapping[str, Callable[..., Any]] = {
    "markdown": texts.to_html, "when": _html_moment, "code": texts.code, "away": _link,
}  # fmt: skip
_MARKDOWN_FILTERS: Mapping[str, Callable[..., Any]] = {
    "quote": _safe(texts.to_quote), "when": _safe(moment), "code": texts.code, "away": _markdown_link,
    "diff": _diff, "fence": _safe(texts.fenced), "plain": Plain, "nested": _nested,
}  # fmt: skip
