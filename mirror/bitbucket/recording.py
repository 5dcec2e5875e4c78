"""Records real responses without private content: names, URLs, secrets, free text.

Structures and types are kept, because clients get these wrong. Of a list the first few entries are kept. A
text is kept only in fields that are known to hold a fixed vocabulary.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mirror.bitbucket.client.client import Answer
from mirror.bitbucket.endpoints import Endpoint
from mirror.model import Json, JsonObject, is_uuid

HEADERS = (
    "content-type", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
    "x-ratelimit-resource", "x-ratelimit-nearlimit", "deprecation", "sunset", "x-accepted-oauth-scopes",
    "x-credential-type",
)  # fmt: skip
VALUES_MAX = 3
# Fields with a fixed vocabulary; their text is kept where it looks like a word of one.
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
# Well-known hosts; any other could be private.
_HOSTS = ("bitbucket.org", "atlassian.com", "atlassian.net", "atl-paas.net", "gravatar.com", "wp.com")


class Recording:
    """One recording, in which a text always has the same stand-in. The salt is random and never stored, so
    that a guessed text cannot be compared with a stand-in."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(32)

    def redacted(self, endpoint: Endpoint, answer: Answer) -> JsonObject:
        """A response that may be shared: the endpoint, selected headers, and the body with stand-ins."""
        return {
            "endpoint": endpoint.name,
            "method": "GET",
            "template": endpoint.template,
            "status": 200,
            "headers": _headers(answer.headers),
            "body": self._body(answer.data, ""),
        }

    def _stand_in(self, text: str) -> str:
        """A stand-in that reveals nothing of `text`: for a uuid a uuid, for a hash a hash of its length, for
        `a/b` two names with a slash between."""
        digest = hmac.digest(self._salt, text.encode("utf-8", "surrogatepass"), "sha256").hex()
        if is_uuid(text):
            parts = (digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32])
            return "{" + "-".join(parts) + "}"
        if _HASH.fullmatch(text):
            return digest[: len(text)]
        if re.fullmatch(r"[^/\s]+/[^/\s]+", text):
            return "/".join(self._stand_in(part) for part in text.split("/"))
        return f"text-{digest[:8]}"

    def _body(self, value: Json, name: str) -> Any:
        if isinstance(value, dict):
            # A key that is no field name is a user's text.
            return {
                key if _FIELD.fullmatch(key) else self._stand_in(key): self._body(item, key)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._body(item, name) for item in value[:VALUES_MAX]]
        return self._text(value, name) if isinstance(value, str) else value

    def _text(self, text: str, name: str) -> str:
        if text == "" or _TIME.fullmatch(text) or (name in _KINDS and _KIND.fullmatch(text)):
            return text
        if name == "name" and text in _STATES:
            return text
        if text.startswith(("http://", "https://")):
            return self._address(text)
        return self._stand_in(text)

    def _address(self, text: str) -> str:
        try:
            parts = urlsplit(text)
            host = (parts.hostname or "").lower()
        except ValueError:
            return self._stand_in(text)
        if not any(host == known or host.endswith("." + known) for known in _HOSTS):
            host = "host.example"
        return f"{parts.scheme}://{host}/{self._stand_in(f'{parts.path}?{parts.query}')}"


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    chosen = {name: headers[name] for name in HEADERS if name in headers}
    if "deprecation" in headers.get("link", ""):
        chosen["link"] = headers["link"]
    return chosen
