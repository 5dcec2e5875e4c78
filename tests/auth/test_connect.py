"""JSON Web Tokens, compared with values that other programs computed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from mirror.auth import connect

# `printf '%s' 'GET&/&' | sha256sum`; Atlassian's forums quote the same value for a bare GET.
BARE_GET = "c88caad15a1c1a900b8ac08aa9686f4e8184539bea1deda36e2f649430df3239"
# Each canonical request is written by hand from Atlassian's description of the query hash.
CANONICAL = [
    ("get", "https://api.example.test", "GET&/&"),
    ("GET", "https://api.example.test/?param=foo", "GET&/&param=foo"),
    ("POST", "https://api.example.test/user", "POST&/user&"),
    ("GET", "https://api.example.test/2.0/addon/", "GET&/2.0/addon&"),
    ("GET", "https://api.example.test/a?jwt=abc", "GET&/a&"),
    ("GET", "https://api.example.test/a?b=2&jwt=abc&a=1", "GET&/a&a=1&b=2"),
    ("GET", "https://api.example.test/a?x=b&x=a", "GET&/a&x=a,b"),
    ("GET", "https://api.example.test/a?x=a+b&y=%2A", "GET&/a&x=a%20b&y=%2A"),
    ("GET", "https://api.example.test/a?empty", "GET&/a&empty="),
    ("GET", "https://api.example.test/a&b?x=1", "GET&/a%26b&x=1"),
    ("GET", "https://api.example.test/a?n=~-._!", "GET&/a&n=~-._%21"),
]


def test_the_hash_of_a_bare_get_is_the_published_one() -> None:
    assert connect.query_hash("GET", "https://bitbucket.example.test/") == BARE_GET


@pytest.mark.parametrize(("method", "url", "canonical"), CANONICAL)
def test_the_query_hash_is_of_the_canonical_request(method: str, url: str, canonical: str) -> None:
    assert connect.query_hash(method, url) == hashlib.sha256(canonical.encode()).hexdigest()


def test_a_token_is_signed_with_the_shared_secret_and_holds_the_claims() -> None:
    token = connect.sign(
        app_key="app",
        client_key="client",
        shared_secret="shared",
        method="GET",
        url="https://x.example.test/",
        issued_at=1000,
    )
    head, body, mac = token.split(".")

    def read(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    assert json.loads(read(head)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(read(body)) == {
        "iss": "app",
        "sub": "client",
        "iat": 1000,
        "exp": 1180,
        "qsh": BARE_GET,
    }
    assert read(mac) == hmac.digest(b"shared", f"{head}.{body}".encode(), "sha256")
    assert "=" not in token
