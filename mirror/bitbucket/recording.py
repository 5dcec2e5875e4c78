"""Recording real answers without what is anybody's business: names, addresses, secrets, free text.

Shapes, types and lengths of lists stay, because they are what a client gets wrong.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mirror.bitbucket.client import Answer
from mirror.bitbucket.endpoints import Endpoint
from mirror.model import Json, JsonObject, is_uuid

HEADERS = (
    "content-type", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
    "x-ratelimit-resource", "x-ratelimit-nearlimit", "deprecation", "sunset", "link",
)  # fmt: skip
# Text in these fields says what kind of thing it is, and stays.
_KINDS = frozenset(
    {
        "type", "state", "scm", "markup", "kind", "role", "permission", "fork_policy", "language",
        "created_on", "updated_on", "completed_on", "started_on", "date", "participated_on",
    }
)  # fmt: skip
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)")
_HASH = re.compile(r"[0-9a-f]{7,64}")
VALUES_MAX = 3


def stand_in(text: str) -> str:
    """Another text in place of `text`, the same each time, that tells nothing of it."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    if is_uuid(text):
        return "{" + "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32])) + "}"
    if _HASH.fullmatch(text):
        return digest[: len(text)].ljust(len(text), "0")
    return f"text-{digest[:8]}"


def redacted(endpoint: Endpoint, answer: Answer) -> JsonObject:
    """An answer as it may be shared: endpoint, chosen headers, and the body with stand-ins."""
    return {
        "endpoint": endpoint.name,
        "template": endpoint.template,
        "status": 200,
        "headers": _headers(answer.headers),
        "body": _body(answer.data, ""),
    }


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in HEADERS if name in headers}


def _body(value: Json, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _body(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_body(item, name) for item in value[:VALUES_MAX]]
    if not isinstance(value, str) or name in _KINDS or _TIME.fullmatch(value) or value == "":
        return value
    if value.startswith(("http://", "https://")):
        parts = urlsplit(value)
        host = parts.hostname or "host"
        return f"{parts.scheme}://{host}/{stand_in(parts.path + parts.query)}"
    return value if name == "name" and value.isupper() else stand_in(value)
