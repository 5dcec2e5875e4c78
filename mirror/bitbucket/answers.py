"""What an answer's status, headers and body mean, and whether to ask again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from mirror.auth.flows import SignInTrouble
from mirror.auth.signin import when_refused
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import (
    ApiError,
    BadAnswer,
    Denied,
    Gone,
    NotFound,
    RateLimited,
    Refused,
    ServerTrouble,
    plain,
)
from mirror.errors import MirrorError
from mirror.model import JsonObject, NotCanonical, loads

# A reset time larger than this is a time of day, not the seconds that are left.
SECONDS_LEFT_MAX = 86_400.0
# What may go wrong on the way; all of it may pass.
NETWORK_ERRORS = (httpx.TransportError, httpx.DecodingError, SignInTrouble)


@dataclass(frozen=True)
class Verdict:
    """Why an answer is not one. `again` says whether asking again may help; `wait` is the seconds
    that the server asks for."""

    error: MirrorError
    again: bool = False
    wait: float | None = None


def judge(
    endpoint: Endpoint,
    response: httpx.Response,
    body: bytes,
    *,
    kind: str,
    now: datetime,
    expires: date | None = None,
) -> Verdict | None:
    """What an answer of the API itself means; None where it is the JSON that was asked for.

    `kind` and `expires` are the credential's; `now` is what an HTTP date is held against.
    """
    status = response.status_code
    name = endpoint.name
    if status == 200:
        return None if is_json(response) else _not_json(endpoint, response)
    message, error = _error_of(response, body)
    said = f": {message}" if message else ""
    if status == 401:
        text = f"{name}: Bitbucket refused the credential ({kind}){said}"
        if expires is not None and expires < now.date():
            text += f"; most likely because it expired on {expires}, as the configuration says"
        return Verdict(Refused(text, hint=when_refused(kind)))
    if status in (404, 410) and is_html(response):
        # A page of the front end; the API says it in JSON. Nothing is known of the thing itself.
        text = f"{name}: answered {status} with a web page"
        return Verdict(BadAnswer(text, status=status, endpoint=name), again=True)
    if status in (402, 403):
        return Verdict(_denied(name, status, said, error, response.headers))
    if status == 404:
        return Verdict(NotFound(f"{name}: not found (404){said}", status=404, endpoint=name))
    if status == 410:
        return Verdict(_gone(name, said, error))
    if status == 429:
        wait = wait_told(response.headers, now)
        return Verdict(RateLimited(f"{name}: too many requests{said}"), again=True, wait=wait)
    if status >= 500:
        wait = wait_told({"retry-after": response.headers.get("retry-after", "")}, now)
        return Verdict(ServerTrouble(f"{name}: the server answered {status}{said}"), again=True, wait=wait)
    return Verdict(ApiError(f"{name}: answered {status}{said}", status=status, endpoint=name))


def judge_elsewhere(endpoint: Endpoint, response: httpx.Response) -> Verdict | None:
    """What the answer of a place means that the API has redirected to; None where it is content.

    Its 401 and 403 say nothing of our credential, which it never got: mostly the address has lapsed,
    and the API gives another.
    """
    status = response.status_code
    name = endpoint.name
    text = f"{name}: the storage it is kept in answered {status}"
    if status == 200:
        return None
    if status in (404, 410):
        return Verdict(NotFound(text, status=status, endpoint=name))
    if status in (408, 425, 429) or status >= 500:
        return Verdict(ServerTrouble(text), again=True)
    return Verdict(BadAnswer(text, status=status, endpoint=name), again=status in (401, 403))


def judge_failure(endpoint: Endpoint, error: Exception) -> Verdict:
    """What it means that no answer came, or that it broke off."""
    if isinstance(error, SignInTrouble):
        return Verdict(error, again=True)
    trouble = ServerTrouble(f"{endpoint.name}: the connection failed ({type(error).__name__})")
    trouble.__cause__ = error
    return Verdict(trouble, again=True)


def is_json(response: httpx.Response) -> bool:
    """Whether the answer says that it is JSON."""
    kind = _media_type(response)
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def is_html(response: httpx.Response) -> bool:
    """Whether the answer is a web page."""
    return _media_type(response) in ("text/html", "application/xhtml+xml")


def is_attachment(response: httpx.Response) -> bool:
    """Whether the answer says that it is a file to be kept, not one to be shown."""
    told: str = response.headers.get("content-disposition", "")
    return told.partition(";")[0].strip().lower() == "attachment"


def _media_type(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _not_json(endpoint: Endpoint, response: httpx.Response) -> Verdict:
    # The front end shows a page when what is behind it has trouble.
    what = plain(_media_type(response)) or "no content type"
    return Verdict(
        BadAnswer(f"{endpoint.name}: answered with {what}, not JSON", endpoint=endpoint.name), again=True
    )


def _error_of(response: httpx.Response, body: bytes) -> tuple[str, JsonObject]:
    """The message and the error object of a failure, whatever shape it has."""
    if not is_json(response):
        return "", {}
    try:
        data: Any = loads(body)
    except NotCanonical:
        return "", {}
    error = data.get("error") if isinstance(data, dict) else None
    if isinstance(error, str):
        return plain(error), {}
    if not isinstance(error, dict):
        return "", {}
    said = [text for name in ("message", "detail") if isinstance(text := error.get(name), str) and text]
    return plain("; ".join(said)), error


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (plain(value),)
    return tuple(plain(item) for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _denied(name: str, status: int, said: str, error: JsonObject, headers: Mapping[str, str]) -> Denied:
    detail = error.get("detail")
    required = _texts(detail.get("required")) if isinstance(detail, dict) else ()
    granted = _texts(detail.get("granted")) if isinstance(detail, dict) else ()
    granted = granted or tuple(plain(one) for one in headers.get("x-oauth-scopes", "").split(",") if one)
    needs = f" (needs the scope {', '.join(required)})" if required else ""
    denied = Denied(f"{name}: denied ({status}){needs}{said}", status=status, endpoint=name)
    denied.required, denied.granted = required, granted
    return denied


def _gone(name: str, said: str, error: JsonObject) -> Gone:
    gone = Gone(f"{name}: no longer there (410){said}", status=410, endpoint=name)
    data = error.get("data")
    link = data.get("announcement_url") if isinstance(data, dict) else None
    gone.announcement = plain(link) if isinstance(link, str) else None
    return gone


def wait_told(headers: Mapping[str, str], now: datetime) -> float | None:
    """How many seconds a refusal asks us to wait; None where it does not say.

    `Retry-After` may be seconds or an HTTP date. `X-RateLimit-Reset` is the seconds left, whatever
    other services mean by that name; a value that can only be a time of day is read as one.
    """
    after = headers.get("retry-after", "").strip()
    if after:
        seconds = _number(after)
        if seconds is not None:
            return seconds
        try:
            when = parsedate_to_datetime(after)
            when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
            return max(0.0, (when - now).total_seconds())
        except (TypeError, ValueError, IndexError, OverflowError):
            pass
    seconds = _number(headers.get("x-ratelimit-reset", ""))
    if seconds is not None and seconds > SECONDS_LEFT_MAX:
        return max(0.0, seconds - now.timestamp())
    return seconds


def _number(text: str) -> float | None:
    """The first number of a header that may hold several, or parameters (`60, 60;w=3600`)."""
    found = re.match(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:$|[,;])", text)
    return float(found[1]) if found else None


def rate_headers(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Limit and remaining requests of an hour as the headers tell (`60, 60;w=3600` is a limit of 60).

    What they say of another window than an hour is not what is kept here, and left out.
    """
    told = headers.get("x-ratelimit-limit", "")
    windows = {int(text) for text in re.findall(r";\s*w=([0-9]{1,9})", told)}
    if windows and windows != {3600}:
        return None, None
    limit, remaining = _number(told), _number(headers.get("x-ratelimit-remaining", ""))
    return (
        int(limit) if limit is not None else None,
        int(remaining) if remaining is not None else None,
    )
