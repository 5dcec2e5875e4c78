"""Reading an archive as a browser, or a renderer of Markdown, does."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_EMPTY = {"meta", "link", "img", "br", "hr", "input"}


class Words(HTMLParser):
    """The text of HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


class Page(Words):
    """A page of HTML: its text, its links, its elements with their attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _EMPTY, tag
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        # What HTML leaves open is not written here: each element ends where it should.
        assert self.open and self.open.pop() == tag, f"</{tag}>"

    @property
    def text(self) -> str:
        """Its text, with one space wherever there is any."""
        return " ".join("".join(self.words).split())

    def links(self) -> Iterator[str]:
        """Whatever its elements lead to or load."""
        for _, attributes in self.elements:
            yield from (value for name, value in attributes.items() if name in ("href", "src"))


def page(path: Path) -> Page:
    """The page at `path`."""
    return Page(path.read_text(encoding="utf-8"))


def pages(folder: Path) -> dict[str, Page]:
    """Every page below a folder, by its path there."""
    return {str(path.relative_to(folder)): page(path) for path in sorted(folder.rglob("*.html"))}


def is_away(link: str) -> bool:
    """Whether a link leads out of the archive."""
    return bool(urlsplit(link).scheme)


def target(folder: Path, at: str, link: str) -> Path:
    """The file that a link on the page `at` leads to."""
    return (folder / at).parent / unquote(urlsplit(link).path) if urlsplit(link).path else folder / at


def tokens(source: str) -> list[Token]:
    """Every token of Markdown, as the most willing renderer reads it."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    found, waiting = [], parser.parse(source)
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += one.children or []
    return found


def words_of(source: str) -> str:
    """The text of Markdown, without its markup."""
    found = Words()
    found.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(source))
    return " ".join("".join(found.words).split())
