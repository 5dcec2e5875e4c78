"""The messages of servers, made safe to show."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from mirror.logs import redact

TEXT_MAX = 300
# How many bytes of a body are searched for its message.
BODY_MAX = 16 * 1024

_TAGS = re.compile(r"<(?:script|style)\b.*?</(?:script|style)\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.DOTALL | re.IGNORECASE)
_XML_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)


def plain(text: object) -> str:
    """Text from a server, made safe for a terminal: one line of at most TEXT_MAX characters, no control
    characters, our own secrets redacted."""
    words = " ".join(redact(str(text)[: 8 * TEXT_MAX]).split())
    clean = "".join(sign for sign in words if sign.isprintable())
    return clean if len(clean) <= TEXT_MAX else clean[:TEXT_MAX] + "…"


def media_type(content_type: str | None) -> str:
    """The type of a Content-Type header, lower-case and without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def server_message(content_type: str | None, body: bytes) -> str:
    """The server's message in the body of an error response: JSON, XML, HTML or plain text. Empty where
    there is none."""
    kind = media_type(content_type)
    text = body[:BODY_MAX].decode("utf-8", "replace")
    if kind.endswith(("/json", "+json")):
        try:
            return json_message(json.loads(text))
        except (ValueError, RecursionError):
            return ""
    if kind.endswith(("/xml", "+xml")) and (found := _XML_MESSAGE.search(text)):
        return plain(html.unescape(found[1]))
    if kind in ("text/html", "application/xhtml+xml") or kind.endswith(("/xml", "+xml")):
        title = _TITLE.search(text)
        return plain(html.unescape(_TAGS.sub(" ", title[1] if title else text)))
    return plain(text) if kind.startswith("text/") else ""


def json_message(data: Any) -> str:
    """The message in the JSON of an error response; empty where there is none."""
    if isinstance(data, dict):
        data = data.get("error", data)
    if isinstance(data, str):
        return plain(data)
    if not isinstance(data, dict):
        return ""
    return plain(
        "; ".join(text for name in ("message", "detail") if isinstance(text := data.get(name), str) and text)
    )


def after_colon(text: str) -> str:
    """`text` after a colon, to end one of our own messages with; empty where it is empty."""
    return f": {text}" if text else ""
