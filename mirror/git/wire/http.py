"""HTTP to git and LFS servers: sending a request, following redirects, reading a response, naming errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError

from mirror.errors import UsageError
from mirror.git.failures import GitFailed, GitUnreachable
from mirror.git.workers.clock import Watch
from mirror.http.failures import failure_reason
from mirror.http.headers import wait_from_headers
from mirror.http.messages import BODY_MAX, server_message
from mirror.http.origins import REDIRECTS_MAX, RedirectRefused, authority, redirect_target
from mirror.http.pools import Pools
from mirror.http.rates import RateMeter

# The rest of an unwanted response is read in at most so many chunks, to keep its connection.
_REST_CHUNKS_MAX = 4
# How long the error message of a response may take, in seconds.
_MESSAGE_SECONDS = 10.0


class Silent(GitUnreachable):
    """The server sent no byte for as long as it may be silent."""


def send(
    pools: Pools, method: str, url: str, *, headers: Mapping[str, str], body: Any, silence: float
) -> urllib3.BaseHTTPResponse:
    """Send one request; the body of the response is not read yet. `silence` is in seconds without a byte.

    Raises Silent, GitUnreachable (with a hint where only a person can help), and GitFailed for a malformed
    URL and unusable certificates.
    """
    try:
        return pools.request(method, url, headers=headers, body=body, silence=silence)
    except ReadTimeoutError as error:
        raise Silent(f"{authority(url)} fell silent") from error
    except LocationParseError as error:
        raise GitFailed("the server gave a malformed URL") from error
    except (HTTPError, OSError) as error:
        reason, hint = failure_reason(error)
        raise GitUnreachable(f"{authority(url)} cannot be reached: {reason}", hint=hint) from error
    except UsageError as error:
        raise GitFailed(error.message, hint=error.hint) from error


def follow_redirects(
    url: str,
    send_to: Callable[[str], urllib3.BaseHTTPResponse],
    before_redirect: Callable[[str, str], None],
    *,
    has_body: bool,
) -> tuple[urllib3.BaseHTTPResponse, str]:
    """Send a request with `send_to` and follow its redirects; returns the last response and its URL.

    `before_redirect` gets the old and the new URL and raises GitFailed where the redirect is not allowed.
    Raises GitFailed, and what the two functions raise.
    """
    for _ in range(REDIRECTS_MAX):
        response = send_to(url)
        try:
            location = response.headers.get("Location")
            target = redirect_target(response.status, url, location, has_body=has_body)
        except RedirectRefused as error:
            release(response)
            raise GitFailed(f"{authority(url)} sends {error}; not followed") from None
        if target is None:
            return response, url
        release(response)
        before_redirect(url, target)
        url = target
    raise GitFailed(f"{authority(url)} redirects more than {REDIRECTS_MAX} times")


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """Convert errors while a response of `url` is read. Raises Silent and GitUnreachable."""
    try:
        yield
    except ReadTimeoutError as error:
        raise Silent(f"{authority(url)} fell silent") from error
    except (HTTPError, OSError) as error:
        raise GitUnreachable(f"{authority(url)} broke off the transfer") from error


def release(response: urllib3.BaseHTTPResponse) -> None:
    """Give up the rest of a response, and keep its connection where little of it is left."""
    with contextlib.suppress(HTTPError, OSError):
        for _ in range(_REST_CHUNKS_MAX):
            if not response.read1(1 << 14):
                response.release_conn()
                return
    response.close()


def message_in(response: urllib3.BaseHTTPResponse, pools: Pools, watch: Watch) -> str:
    """The server's message in an error response, which is released; empty where there is none."""
    body = bytearray()
    meter = RateMeter(watch.monotonic, pools.network.minimum_rate, _MESSAGE_SECONDS)
    try:
        while len(body) < BODY_MAX and (chunk := response.read1(BODY_MAX)):
            body += chunk
            if meter.is_too_slow(len(chunk)):
                break
        release(response)
    except (HTTPError, OSError):
        response.close()
    return server_message(response.headers.get("Content-Type"), bytes(body))


def delay_asked(response: urllib3.BaseHTTPResponse, watch: Watch) -> float | None:
    """The seconds that a refusal asks to wait; None where it does not say."""
    return wait_from_headers(response.headers, datetime.fromtimestamp(watch.now(), UTC))
