"""What a server says in its own words, made fit to be shown."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from mirror.logs import redact

TEXT_MAX = 300
# So much of an answer is read for the sentence in it.
BODY_MAX = 16 * 1024

_TAGS = re.compile(r"<(?:script|style)\b.*?</(?:script|style)\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.DOTALL | re.IGNORECASE)
_XML_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)


def plain(text: object) -> str:
    """Text from a server, made fit for a terminal: one line, no control characters, not long, and
    without what it may repeat of our own secrets."""
    words = " ".join(redact(str(text)[: 8 * TEXT_MAX]).split())
    clean = "".join(sign for sign in words if sign.isprintable())
    return clean if len(clean) <= TEXT_MAX else clean[:TEXT_MAX] + "…"


def media_type(content_type: str | None) -> str:
    """The type of a Content-Type header, lower-case and without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def said(content_type: str | None, body: bytes) -> str:
    """The server's own sentence in the body of a refusal, whatever form it has; empty where there is
    none."""
    kind = media_type(content_type)
    text = body[:BODY_MAX].decode("utf-8", "replace")
    if kind.endswith(("/json", "+json")):
        return _of_json(text)
    if kind.endswith(("/xml", "+xml")) and (found := _XML_MESSAGE.search(text)):
        return plain(html.unescape(found[1]))
    if kind in ("text/html", "application/xhtml+xml") or kind.endswith(("/xml", "+xml")):
        title = _TITLE.search(text)
        return plain(html.unescape(_TAGS.sub(" ", title[1] if title else text)))
    return plain(text) if kind.startswith("text/") else ""


def _of_json(text: str) -> str:
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(data, dict):
        data = data.get("error", data)
    if isinstance(data, str):
        return plain(data)
    if not isinstance(data, dict):
        return ""
    return plain("; ".join(data[name] for name in ("message", "detail") if isinstance(data.get(name), str)))


def after_colon(text: str) -> str:
    """A sentence as the end of one of ours."""
    return f": {text}" if text else ""
