"""Which addresses are the API's own, and which redirects are followed.

The credential goes to addresses below the API's root and to no others, whoever names them: a list's
`next`, a redirect, or a document.
"""

from __future__ import annotations

import httpx

from mirror.auth.flows import origin
from mirror.bitbucket.failures import BadAnswer
from mirror.http.origins import REDIRECTS, Misled, redirected


class Root:
    """The root of an API: scheme, host, port and the path that all its addresses begin with."""

    def __init__(self, api_url: str) -> None:
        self.url = api_url.rstrip("/")
        self._root = httpx.URL(self.url)
        self._prefix = self._root.path.rstrip("/") + "/"

    @property
    def host(self) -> str:
        """The host, for messages."""
        return self._root.host

    def owns(self, url: str) -> bool:
        """Whether `url` is below this root, as the HTTP library reads it."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            return False
        # The path is taken with its escapes undone, so that an escaped `..` or slash counts.
        path = parsed.path
        return (
            origin(parsed) == origin(self._root)
            and not parsed.userinfo
            and ".." not in path.replace("\\", "/").split("/")
            and path.startswith(self._prefix)
        )


def clone_address(href: str, git_url: str) -> str | None:
    """The address that a thing says it can be cloned from, without the user name that may stand in it.

    None where it is not below `git_url`: the credential goes there and nowhere else.
    """
    try:
        found = httpx.URL(href)
        address = str(found.copy_with(username=None, password=None, query=None, fragment=None))
    except (httpx.InvalidURL, TypeError, ValueError):
        return None
    return address if Root(git_url).owns(address) else None


def redirect_target(response: httpx.Response, what: str) -> str | None:
    """Where `response` redirects to; None where it is no redirect.

    Raises BadAnswer for a redirect to nowhere, to another scheme than HTTP, and away from HTTPS.
    """
    if response.status_code not in REDIRECTS:
        return None
    location = response.headers.get("location")
    if not location:
        raise BadAnswer(f"{what}: a redirect to nowhere", status=response.status_code, endpoint=what)
    try:
        # As the HTTP library reads it, too: what is checked is what is asked.
        return redirected(str(response.url), str(response.url.join(location)))
    except (httpx.InvalidURL, ValueError):
        raise BadAnswer(f"{what}: a redirect to nowhere", endpoint=what) from None
    except Misled as error:
        raise BadAnswer(f"{what}: {error}", endpoint=what) from None
