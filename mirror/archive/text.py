"""Texts that other people wrote, made safe to show: as HTML, or as Markdown.

Markup is rendered by markdown-it with raw HTML off. Links lead to http, https and mailto only; a picture
from elsewhere becomes a link, so that a page asks nobody for anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from mirror.bitbucket.readable.mentions import replace_mentions
from mirror.bitbucket.readable.values import Text

SCHEMES = frozenset({"http", "https", "mailto"})
# Longer texts are shown as they are: what renders markup takes long over hostile ones.
MARKUP_MAX = 64 * 1024
_PRE = '<pre tabindex="0">'
_TAG = re.compile(r"<[a-zA-Z/!?]")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$^])")
_LEADING = re.compile(r"^([-+=]|[0-9]+(?=[.)]))")
# Signs that change the direction of what follows. In code they hide what it does.
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")


def with_names(text: Text) -> str:
    """The text with a name in the place of each mention's id."""
    return replace_mentions(text, lambda name: f"@{name}")


def clean(text: str) -> str:
    """A text that every encoding and browser takes: lone surrogates and control characters are replaced."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign if sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cs") else "\ufffd"
        for sign in text.replace("\r\n", "\n")
    )


def one_line(text: str, most: int = 500) -> str:
    """A text as one line of at most `most` characters."""
    line = " ".join(clean(text[: most * 4]).split())
    return line if len(line) <= most and len(text) <= most * 4 else line[:most] + "…"


def code(text: str) -> str:
    """A line of code: signs that turn its direction are named instead of obeyed."""
    return _DIRECTION.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", clean(text))


def log_text(data: bytes) -> str:
    """A log, without what colours it on a terminal."""
    return code(_ANSI.sub("", data.decode("utf-8", "replace")))


def is_safe(url: str) -> bool:
    """Whether a page may link to `url`."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return False
    return parts.scheme.lower() in SCHEMES and (bool(parts.netloc) or parts.scheme.lower() == "mailto")


class _Safe(RendererHTML):
    """Pictures become links; links name nobody who sends and open beside the archive."""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """The picture's text, leading to where it is."""
        token = tokens[idx]
        url = str(token.attrs.get("src", ""))
        words = self.renderInlineAsText(token.children or [], options, env) or url
        return f'<a href="{escape(url)}" rel="noreferrer">{escape(words)} (picture)</a>'

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """As usual, and the keyboard reaches what must be scrolled."""
        return super().fence(tokens, idx, options, env).replace("<pre>", _PRE, 1)

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """As `fence`."""
        return super().code_block(tokens, idx, options, env).replace("<pre>", _PRE, 1)

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """As usual, without a referrer."""
        tokens[idx].attrSet("rel", "noreferrer")
        return self.renderToken(tokens, idx, options, env)


@cache
def _renderer() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True}, renderer_cls=_Safe)
    made.enable(["table", "strikethrough"])
    made.validateLink = is_safe  # type: ignore[method-assign]
    return made


@cache
def _parser() -> MarkdownIt:
    """Finds whatever somebody else's renderer might take for HTML or for a link."""
    made = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    made.validateLink = lambda url: True  # type: ignore[method-assign]  # noqa: ARG005
    return made


def to_html(text: Text) -> Markup:
    """A text as HTML. Headings in it go below those of the page."""
    source = clean(with_names(text))
    if len(source) > MARKUP_MAX:
        return Markup(_PRE + "{}</pre>").format(source)  # noqa: S704 - a constant
    tokens = _renderer().parse(source)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "p"
            if token.nesting > 0:
                token.attrSet("class", "heading")
    return Markup(_renderer().renderer.render(tokens, _renderer().options, {}))  # noqa: S704 - html is off


def to_quote(text: Text) -> str:
    """A text as a quotation in Markdown: as it is where it is harmless everywhere, else as literal text."""
    source = clean(with_names(text))
    lines = (source if _is_harmless(source) else fenced(source)).split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)


def fenced(text: str, language: str = "") -> str:
    """A text between fences that it does not hold."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"


def to_inline(text: str) -> str:
    """A text as one line of Markdown that means nothing but itself."""
    escaped = _SPECIAL.sub(r"\\\1", one_line(text))
    return _LEADING.sub(lambda found: f"\\{found[0]}" if found[0] in "-+=" else f"{found[0]}\\", escaped)


def _is_harmless(source: str) -> bool:
    """Whether no renderer finds HTML in it, nor a link that leads to anything but a page or an address."""
    if len(source) > MARKUP_MAX:
        return False
    env: dict[str, dict[str, dict[str, str]]] = {}
    waiting = _parser().parse(source, env)
    urls = [one["href"] for one in env.get("references", {}).values()]
    while waiting:
        token = waiting.pop()
        waiting += token.children or []
        urls += [str(token.attrs[name]) for name in ("href", "src") if name in token.attrs]
        is_code = token.type in ("fence", "code_block", "code_inline", "inline")
        if token.type in ("html_block", "html_inline", "image") or (
            not is_code and _TAG.search(token.content)
        ):
            return False
    return all(is_safe(url) for url in urls)
