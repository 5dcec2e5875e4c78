"""What an answer's status, headers and body mean, and whether to ask again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
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
from mirror.http.failures import failure_reason
from mirror.http.headers import retry_after, wait_from_headers
from mirror.http.messages import after_colon, json_message, media_type, server_message
from mirror.http.rates import TooSlow
from mirror.http.retries import is_retryable
from mirror.model import JsonObject, NotCanonical, loads

# What may go wrong on the way; all of it may pass.
NETWORK_ERRORS = (httpx.TransportError, httpx.DecodingError, TooSlow, SignInTrouble)


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
    told = after_colon(message)
    if status == 401:
        text = f"{name}: Bitbucket refused the credential ({kind}){told}"
        if expires is not None and expires < now.date():
            text += f"; most likely because it expired on {expires}, as the configuration says"
        refused = Refused(text, hint=when_refused(kind))
        refused.said = told
        return Verdict(refused)
    if status in (404, 410) and is_html(response):
        # A page of the front end; the API says it in JSON. Nothing is known of the thing itself.
        text = f"{name}: answered {status} with a web page"
        return Verdict(BadAnswer(text, status=status, endpoint=name), again=True)
    if status in (402, 403):
        return Verdict(_denied(name, status, told, error, response.headers))
    if status == 404:
        return Verdict(NotFound(f"{name}: not found (404){told}", status=404, endpoint=name))
    if status == 410:
        return Verdict(_gone(name, told, error))
    if status == 429:
        wait = wait_from_headers(response.headers, now)
        return Verdict(RateLimited(f"{name}: too many requests{told}"), again=True, wait=wait)
    if status >= 500:
        wait = retry_after(response.headers.get("retry-after"), now)
        return Verdict(ServerTrouble(f"{name}: the server answered {status}{told}"), again=True, wait=wait)
    return Verdict(
        ApiError(f"{name}: answered {status}{told}", status=status, endpoint=name), again=is_retryable(status)
    )


def judge_elsewhere(endpoint: Endpoint, response: httpx.Response, body: bytes) -> Verdict | None:
    """What the answer of a place means that the API has redirected to; None where it is content.

    Its 401 and 403 say nothing of our credential, which it never got: mostly the address has lapsed,
    and the API gives another.
    """
    status = response.status_code
    name = endpoint.name
    if status == 200:
        return None
    told = after_colon(server_message(response.headers.get("content-type"), body))
    text = f"{name}: the storage it is kept in answered {status}{told}"
    if status in (404, 410):
        return Verdict(NotFound(text, status=status, endpoint=name))
    if is_retryable(status):
        return Verdict(ServerTrouble(text), again=True)
    return Verdict(BadAnswer(text, status=status, endpoint=name), again=status in (401, 403))


def judge_failure(endpoint: Endpoint, error: Exception) -> Verdict:
    """What it means that no answer came, or that it broke off."""
    if isinstance(error, SignInTrouble):
        return Verdict(error, again=True)
    reason, hint = failure_reason(error)
    trouble = ServerTrouble(f"{endpoint.name}: the connection failed ({reason})", hint=hint)
    trouble.__cause__ = error
    # A fault that a person must mend does not pass by itself.
    return Verdict(trouble, again=hint is None)


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
    return media_type(response.headers.get("content-type"))


def _not_json(endpoint: Endpoint, response: httpx.Response) -> Verdict:
    # The front end shows a page when what is behind it has trouble.
    what = plain(_media_type(response)) or "no content type"
    return Verdict(
        BadAnswer(f"{endpoint.name}: answered with {what}, not JSON", endpoint=endpoint.name), again=True
    )


def _error_of(response: httpx.Response, body: bytes) -> tuple[str, JsonObject]:
    """The message and the error object of a failure, whatever shape it has."""
    words = server_message(response.headers.get("content-type"), body)
    # The document itself types the errors of logs as bytes, and they are the same objects.
    if is_html(response):
        return words, {}
    try:
        data: Any = loads(body)
    except NotCanonical:
        return words, {}
    error = data.get("error") if isinstance(data, dict) else None
    return json_message(data), error if isinstance(error, dict) else {}


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (plain(value),)
    return tuple(plain(item) for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _denied(name: str, status: int, told: str, error: JsonObject, headers: Mapping[str, str]) -> Denied:
    detail = error.get("detail")
    required = _texts(detail.get("required")) if isinstance(detail, dict) else ()
    granted = _texts(detail.get("granted")) if isinstance(detail, dict) else ()
    granted = granted or tuple(plain(one) for one in headers.get("x-oauth-scopes", "").split(",") if one)
    needs = f" (needs the scope {', '.join(required)})" if required else ""
    denied = Denied(f"{name}: denied ({status}){needs}{told}", status=status, endpoint=name)
    denied.required, denied.granted = required, granted
    denied.said = told.removeprefix(": ") if error else None
    return denied


def not_given(endpoint: Endpoint, refused: Refused) -> Denied:
    """The 401 of an endpoint that refuses a credential which is good elsewhere."""
    text = f"{endpoint.name}: not given to this credential (401){refused.said}"
    denied = Denied(text, status=401, endpoint=endpoint.name)
    denied.said = refused.said.removeprefix(": ") or None
    return denied


def _gone(name: str, told: str, error: JsonObject) -> Gone:
    gone = Gone(f"{name}: no longer there (410){told}", status=410, endpoint=name)
    data = error.get("data")
    link = data.get("announcement_url") if isinstance(data, dict) else None
    gone.announcement = plain(link) if isinstance(link, str) else None
    return gone
