"""JSON Web Tokens as Connect apps sign them: HS256, with a hash of the request they are for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qsl, quote, urlsplit

JWT_SECONDS = 180


def query_hash(method: str, url: str) -> str:
    """The `qsh` claim: SHA-256 of method, path and sorted query in Atlassian's canonical form.

    Values of a repeated parameter are sorted and joined by commas; the parameter `jwt` is left out.
    """
    parts = urlsplit(url)
    path = "/" + parts.path.strip("/")
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name != "jwt":
            values.setdefault(name, []).append(value)
    query = "&".join(
        f"{_encode(name)}={','.join(_encode(value) for value in sorted(values[name]))}"
        for name in sorted(values)
    )
    canonical = "&".join((method.upper(), path.replace("&", "%26"), query))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def _encode(text: str) -> str:
    return quote(text, safe="-._~")


def sign(*, app_key: str, client_key: str, shared_secret: str, method: str, url: str, issued_at: int) -> str:
    """A signed token for one request; `issued_at` is in seconds since 1970."""
    header = {"alg": "HS256", "typ": "JWT"}
    claims = {
        "iss": app_key,
        "sub": client_key,
        "iat": issued_at,
        "exp": issued_at + JWT_SECONDS,
        "qsh": query_hash(method, url),
    }
    signing = b".".join(_part(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    mac = hmac.new(shared_secret.encode("utf-8"), signing, hashlib.sha256).digest()
    return (signing + b"." + _part(mac)).decode("ascii")


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
