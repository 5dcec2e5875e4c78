"""The clone URLs that documents name."""

from __future__ import annotations

import httpx

from mirror.http.scope import Scope


def clone_url(href: str, git_url: str) -> str | None:
    """The clone URL `href` without its user name, query and fragment; None where it is not below `git_url`,
    the only place that the credential may be sent to."""
    try:
        found = httpx.URL(href)
        url = str(found.copy_with(username=None, password=None, query=None, fragment=None))
    except (httpx.InvalidURL, TypeError, ValueError):
        return None
    return url if Scope(git_url).contains(url) else None
