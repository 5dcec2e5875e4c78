"""Mirror clones a snippet only from below the configured git server's URL."""

from __future__ import annotations

import pytest

from mirror.bitbucket.clone_urls import clone_url
from mirror.bitbucket.fields import clone_addresses

GIT = "https://bitbucket.org"


@pytest.mark.parametrize(
    ("href", "address"),
    [
        ("https://bitbucket.org/snippets/acme/kypj/x.git", "https://bitbucket.org/snippets/acme/kypj/x.git"),
        ("https://ann@bitbucket.org/snippets/acme/x.git", "https://bitbucket.org/snippets/acme/x.git"),
        ("https://ann:secret@bitbucket.org/x.git?a=1#b", "https://bitbucket.org/x.git"),
        ("https://BITBUCKET.org:443/x.git", "https://bitbucket.org/x.git"),
        ("http://bitbucket.org/x.git", None),
        ("https://bitbucket.org:8443/x.git", None),
        ("https://bitbucket.org.evil.example/x.git", None),
        ("https://evil.example/bitbucket.org/x.git", None),
        ("https://bitbucket.org@evil.example/x.git", None),
        ("https://bitbucket.org\\@evil.example/x.git", None),
        ("https://bitbucket.org/%2e%2e/x.git", None),
        ("https://bitbucket.org/a\nb", None),
        ("file:///etc/passwd", None),
        ("", None),
    ],
)
def test_only_the_git_servers_own_address_without_a_user(href: str, address: str | None) -> None:
    assert clone_url(href, GIT) == address


def test_a_path_that_the_git_server_has_must_be_there_too() -> None:
    assert clone_url("https://host.example/git/x.git", "https://host.example/git") is not None
    assert clone_url("https://host.example/other/x.git", "https://host.example/git") is None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (
            {"links": {"clone": [{"name": "ssh", "href": "git@x:y"}, {"href": "https://x/y"}]}},
            ["https://x/y"],
        ),
        ({"links": {"clone": None}}, []),
        ({"links": {"clone": [None, 3, {"href": 7}]}}, []),
        ({"links": {"clone": {"href": "https://x/y"}}}, []),
        ({}, []),
        (None, []),
    ],
)
def test_whatever_stands_there_is_read_or_passed_over(data: object, found: list[str]) -> None:
    assert clone_addresses(data) == found
