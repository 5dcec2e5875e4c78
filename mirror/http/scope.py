"""The URLs that a credential of an API may be sent to."""

from __future__ import annotations

import httpx

from mirror.http.origins import origin


class Scope:
    """The URLs below a root: of its scheme, host and port, and with a path that begins with its own.

    The credential for the root is sent to these and to no others, whoever names them: a list's `next`, a
    redirect, or a document.
    """

    def __init__(self, root_url: str) -> None:
        self.url = root_url.rstrip("/")
        self._root = httpx.URL(self.url)
        self._origin = origin(str(self._root))
        self._prefix = self._root.path.rstrip("/") + "/"

    @property
    def host(self) -> str:
        """The host, for messages."""
        return self._root.host

    def contains(self, url: str) -> bool:
        """Whether `url` is below this root, as the HTTP library parses it."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            return False
        # httpx decodes the path, so that an escaped `..` or slash counts too.
        path = parsed.path
        return (
            origin(str(parsed)) == self._origin
            and not parsed.userinfo
            and ".." not in path.replace("\\", "/").split("/")
            and path.startswith(self._prefix)
        )
