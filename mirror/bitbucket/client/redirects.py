"""Redirects of API responses."""

from __future__ import annotations

import httpx

from mirror.bitbucket.failures import BadAnswer
from mirror.http import origins
from mirror.http.origins import RedirectRefused


def redirect_target(response: httpx.Response, what: str) -> str | None:
    """The URL that `response` redirects to; None where it is no redirect. Raises BadAnswer for a redirect
    that is not followed."""
    status, location = response.status_code, response.headers.get("location")
    if status not in origins.REDIRECTS:
        return None
    try:
        # Joined by httpx first, so that the URL that is checked is the URL that is requested.
        joined = str(response.url.join(location)) if location else None
        return origins.redirect_target(status, str(response.url), joined)
    except (httpx.InvalidURL, ValueError):
        raise BadAnswer(f"{what}: a redirect to nowhere", endpoint=what) from None
    except RedirectRefused as error:
        raise BadAnswer(f"{what}: {error}", status=0 if location else status, endpoint=what) from None
