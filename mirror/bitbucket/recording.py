"""Recording real answers without what is anybody's business: names, addresses, secrets, free text.

Shapes and types stay, because they are what a client gets wrong. Of a list the first few entries
are kept. A text stays only where it is known to say what kind of thing something is.
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
    "x-ratelimit-resource", "x-ratelimit-nearlimit", "deprecation", "sunset", "x-accepted-oauth-scopes",
)  # fmt: skip
VALUES_MAX = 3
# Text in these fields says what kind of thing it is, and stays where it looks like that.
_KINDS = frozenset(
    {
        "type", "state", "scm", "markup", "kind", "role", "permission", "fork_policy", "language",
        "status", "trigger_type",
    }
)  # fmt: skip
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,40}")
# The name of a state or of a link, as in {"name": "COMPLETED"} and {"name": "https"}.
_STATES = frozenset(
    {
        "OPEN", "MERGED", "DECLINED", "SUPERSEDED", "PENDING", "IN_PROGRESS", "RUNNING", "PAUSED", "HALTED",
        "COMPLETED", "SUCCESSFUL", "FAILED", "ERROR", "STOPPED", "EXPIRED", "NOT_RUN", "SKIPPED", "https",
        "ssh",
    }
)  # fmt: skip
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{5,20}(Z|[+-]\d\d:\d\d)")
_HASH = re.compile(r"[0-9a-f]{7,64}")
_FIELD = re.compile(r"[a-z_][a-z0-9_]{0,40}")
# Hosts that everybody knows; any other could be somebody's own.
_HOSTS = ("bitbucket.org", "atlassian.com", "atlassian.net", "atl-paas.net", "gravatar.com", "wp.com")


def stand_in(text: str) -> str:
    """Another text in place of `text`, the same each time, that tells nothing of it.

    A uuid stays a uuid, a hash a hash of its length, and `a/b` two names with a slash between.
    """
    digest = hashlib.sha256(b"stand-in " + text.encode("utf-8", "surrogatepass")).hexdigest()
    if is_uuid(text):
        return "{" + "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32])) + "}"
    if _HASH.fullmatch(text):
        return digest[: len(text)]
    if re.fullmatch(r"[^/\s]+/[^/\s]+", text):
        return "/".join(stand_in(part) for part in text.split("/"))
    return f"text-{digest[:8]}"


def redacted(endpoint: Endpoint, answer: Answer) -> JsonObject:
    """An answer as it may be shared: endpoint, chosen headers, and the body with stand-ins."""
    return {
        "endpoint": endpoint.name,
        "method": "GET",
        "template": endpoint.template,
        "status": 200,
        "headers": _headers(answer.headers),
        "body": _body(answer.data, ""),
    }


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    chosen = {name: headers[name] for name in HEADERS if name in headers}
    if "deprecation" in headers.get("link", ""):
        chosen["link"] = headers["link"]
    return chosen


def _body(value: Json, name: str) -> Any:
    if isinstance(value, dict):
        # A key that is not a field's name is somebody's own text.
        return {
            key if _FIELD.fullmatch(key) else stand_in(key): _body(item, key) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_body(item, name) for item in value[:VALUES_MAX]]
    return _text(value, name) if isinstance(value, str) else value


def _text(text: str, name: str) -> str:
    if text == "" or _TIME.fullmatch(text) or (name in _KINDS and _KIND.fullmatch(text)):
        return text
    if name == "name" and text in _STATES:
        return text
    if text.startswith(("http://", "https://")):
        return _address(text)
    return stand_in(text)


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").lower()
    except ValueError:
        return stand_in(text)
    if not any(host == known or host.endswith("." + known) for known in _HOSTS):
        host = "host.example"
    return f"{parts.scheme}://{host}/{stand_in(f'{parts.path}?{parts.query}')}"
