"""What an answer's status, headers and body mean, and whether to ask again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from mirror.auth.signin import APP_PASSWORDS_ARE_OFF
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


@dataclass(frozen=True)
class Verdict:
    """`error` is None for a good answer; `again` says whether asking again may help; `wait` is the
    seconds that the server asks for."""

    error: MirrorError | None = None
    again: bool = False
    wait: float | None = None


def judge(endpoint: Endpoint, response: httpx.Response, body: bytes, *, kind: str, now: datetime) -> Verdict:
    """What `response` means. `kind` is the credential's; `now` dates an HTTP date."""
    status = response.status_code
    name = endpoint.name
    if status == 200:
        if is_json(response):
            return Verdict()
        what = plain(response.headers.get("content-type", "no content type"))
        # The front end shows a page when what is behind it has trouble.
        return Verdict(BadAnswer(f"{name}: answered with {what}, not JSON", endpoint=name), again=True)
    message, error = _error_of(response, body)
    said = f": {message}" if message else ""
    if status == 401:
        hint = APP_PASSWORDS_ARE_OFF if kind == "app_password" else "run `mirror doctor` to see which and why"
        return Verdict(Refused(f"Bitbucket refused the credential ({kind}){said}", hint=hint))
    if status in (402, 403):
        return Verdict(_denied(name, status, said, error))
    if status == 404:
        return Verdict(NotFound(f"{name}: not found (404){said}", status=404, endpoint=name))
    if status == 410:
        return Verdict(_gone(name, said, error))
    if status == 429:
        return Verdict(
            RateLimited(f"{name}: too many requests{said}"), again=True, wait=wait_told(response.headers, now)
        )
    if status >= 500:
        return Verdict(ServerTrouble(f"{name}: the server answered {status}{said}"), again=True)
    return Verdict(ApiError(f"{name}: answered {status}{said}", status=status, endpoint=name))


def is_json(response: httpx.Response) -> bool:
    """Whether the answer says that it is JSON."""
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")


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
    message = error.get("message")
    return plain(message) if isinstance(message, str) else "", error


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (plain(value),)
    return tuple(plain(item) for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _denied(name: str, status: int, said: str, error: JsonObject) -> Denied:
    detail = error.get("detail")
    required = _texts(detail.get("required")) if isinstance(detail, dict) else ()
    granted = _texts(detail.get("granted")) if isinstance(detail, dict) else ()
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
        except (TypeError, ValueError, IndexError):
            when = None
        if when is not None:
            when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
            return max(0.0, (when - now).total_seconds())
    seconds = _number(headers.get("x-ratelimit-reset", "").split(",")[0].strip())
    if seconds is not None and seconds > SECONDS_LEFT_MAX:
        return max(0.0, seconds - now.timestamp())
    return seconds


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text) else None


def rate_headers(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Limit and remaining requests as the headers tell (`60, 60;w=3600` is a limit of 60)."""

    def first(name: str) -> int | None:
        number = _number(headers.get(name, "").split(",")[0].split(";")[0].strip())
        return int(number) if number is not None else None

    return first("x-ratelimit-limit"), first("x-ratelimit-remaining")
