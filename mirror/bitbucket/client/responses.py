"""What the status, headers and body of a response mean, and whether to retry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from mirror.auth.flows import SignInTrouble
from mirror.auth.signin import when_refused
from mirror.bitbucket.client.change import Change
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import (
    ApiError,
    BadAnswer,
    Denied,
    Gone,
    MaybeMade,
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
from mirror.http.origins import authority
from mirror.http.rates import TooSlow
from mirror.http.retries import is_retryable
from mirror.model import JsonObject, NotCanonical, loads

# Transport errors before anything was sent.
_NOTHING_SENT = (SignInTrouble, httpx.ConnectError, httpx.ConnectTimeout)
# The words of a 401 that is about the credential.
_OF_SIGN_IN = re.compile(r"token|credential|auth|expired|sign|log.?in|password|access", re.IGNORECASE)
# Transport errors. A retry may succeed.
NETWORK_ERRORS = (httpx.TransportError, httpx.DecodingError, TooSlow, SignInTrouble)


@dataclass(frozen=True)
class Failure:
    """Why a response is a failure. `retryable`: a retry may succeed, after `wait` seconds if the server asks
    for a delay. `status` is that of a server's trouble."""

    error: MirrorError
    retryable: bool = False
    wait: float | None = None
    status: int = 0


def deprecation(response: httpx.Response) -> dict[str, str]:
    """What a response says about the end of its endpoint: since when that is announced, when it ends, and
    where to read about it (headers `Deprecation`, RFC 9745, `Sunset` and `Link`, RFC 8594); empty for most.
    Days are ISO dates where the header is a date of HTTP."""
    told = {
        name: _day(response.headers[name]) for name in ("deprecation", "sunset") if name in response.headers
    }
    link = response.headers.get("link", "")
    if "deprecation" in link:
        told["link"] = plain(response.links.get("deprecation", {}).get("url", link))
    return told


def _day(value: str) -> str:
    try:
        return parsedate_to_datetime(value).date().isoformat()
    except ValueError:
        return plain(value)


def failure_of_response(
    endpoint: Endpoint,
    response: httpx.Response,
    body: bytes,
    *,
    kind: str,
    now: datetime,
    expires: date | None = None,
) -> Failure | None:
    """The failure that a response of the API itself means; None for the requested JSON.

    `kind` and `expires` are the credential's; `now` is the reference for HTTP dates.
    """
    status = response.status_code
    name = endpoint.name
    if status == 200:
        return None if is_json(response) else _failure_of_content_type(endpoint, response)
    message, error = _error_of(response, body)
    detail = after_colon(message)
    if status == 401:
        text = f"{name}: Bitbucket refused the credential ({kind}){detail}"
        if expires is not None and expires < now.date():
            text += f"; most likely because it expired on {expires}, according to the configuration"
        refused = Refused(text, hint=when_refused(kind))
        refused.said, refused.endpoint = detail, name
        return Failure(refused)
    if status in (404, 410) and is_html(response):
        # A page of the web front end. The API would answer in JSON, so this says nothing about the resource.
        text = f"{name}: answered {status} with a web page"
        return Failure(BadAnswer(text, status=status, endpoint=name), retryable=True)
    if status in (402, 403):
        return Failure(_denied(name, status, detail, error, response.headers))
    if status == 404:
        return Failure(NotFound(f"{name}: not found (404){detail}", status=404, endpoint=name))
    if status == 410:
        return Failure(_gone(name, detail, error))
    if status == 429:
        wait = wait_from_headers(response.headers, now)
        return Failure(RateLimited(f"{name}: too many requests{detail}"), retryable=True, wait=wait)
    if status >= 500:
        wait = retry_after(response.headers.get("retry-after"), now)
        trouble = ServerTrouble(f"{name}: the server answered {status}{detail}")
        return Failure(trouble, retryable=True, wait=wait, status=status)
    return Failure(
        ApiError(f"{name}: answered {status}{detail}", status=status, endpoint=name),
        retryable=is_retryable(status),
    )


def failure_of_storage(endpoint: Endpoint, response: httpx.Response, body: bytes) -> Failure | None:
    """The failure that a response of a storage means that the API redirected to; None for content.

    Its 401 and 403 say nothing about our credential, which it never got. Usually the signed URL has expired,
    and the API issues a new one.
    """
    status = response.status_code
    name = endpoint.name
    if status == 200:
        return None
    detail = after_colon(server_message(response.headers.get("content-type"), body))
    text = f"{name}: its storage answered {status}{detail}"
    if status in (404, 410):
        return Failure(NotFound(text, status=status, endpoint=name))
    if is_retryable(status):
        return Failure(ServerTrouble(text), retryable=True)
    return Failure(BadAnswer(text, status=status, endpoint=name), retryable=status in (401, 403))


def failure_of_exception(endpoint: Endpoint, error: Exception) -> Failure:
    """The failure that a missing or interrupted response means."""
    if isinstance(error, SignInTrouble):
        return Failure(error, retryable=True)
    reason, hint = failure_reason(error)
    trouble = ServerTrouble(f"{endpoint.name}: the connection{_to(error)} failed ({reason})", hint=hint)
    trouble.__cause__ = error
    # With a hint a person must act first: a retry cannot help.
    return Failure(trouble, retryable=hint is None)


def _to(error: Exception) -> str:
    """The server of a failed request, for a message; empty where the error does not name it."""
    try:
        return f" to {authority(str(error.request.url))}" if isinstance(error, httpx.RequestError) else ""
    except RuntimeError:  # it belongs to no request
        return ""


def failure_of_change(change: Change, failure: Failure, error: Exception | None) -> Failure:
    """What a failure means for a request that changes something. `error` is that of the connection.

    A 401 that gives a reason other than the sign-in is a refusal of the change. A POST that failed after it
    was sent may have been carried out, unless a server that is unavailable (503) says when to send it again:
    a gateway may ask for a delay as well, and has passed the request on.
    """
    found = failure.error
    if isinstance(found, Refused) and found.said and not _OF_SIGN_IN.search(found.said):
        refusal = ApiError(f"{found.endpoint}: answered 401{found.said}", status=401, endpoint=found.endpoint)
        return Failure(refusal)
    if change.method != "POST" or isinstance(error, _NOTHING_SENT):
        return failure
    is_asked_again = failure.status == 503 and failure.wait is not None
    is_lost = isinstance(found, ServerTrouble | BadAnswer) or (
        isinstance(found, ApiError) and found.status == 408
    )
    if not (failure.retryable and is_lost) or is_asked_again:
        return failure
    maybe = MaybeMade(f"{found.message}; whether it was carried out is not known", hint=found.hint)
    maybe.__cause__ = found
    return Failure(maybe)


def is_json(response: httpx.Response) -> bool:
    """Whether the content type is JSON."""
    kind = _media_type(response)
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def is_html(response: httpx.Response) -> bool:
    """Whether the content type is HTML."""
    return _media_type(response) in ("text/html", "application/xhtml+xml")


def is_attachment(response: httpx.Response) -> bool:
    """Whether the content disposition is `attachment`: a file to be saved."""
    disposition: str = response.headers.get("content-disposition", "")
    return disposition.partition(";")[0].strip().lower() == "attachment"


def _media_type(response: httpx.Response) -> str:
    return media_type(response.headers.get("content-type"))


def _failure_of_content_type(endpoint: Endpoint, response: httpx.Response) -> Failure:
    # The web front end answers with a page while the API behind it fails.
    what = plain(_media_type(response)) or "no content type"
    return Failure(
        BadAnswer(f"{endpoint.name}: answered with {what}, not JSON", endpoint=endpoint.name), retryable=True
    )


def _error_of(response: httpx.Response, body: bytes) -> tuple[str, JsonObject]:
    """The message and the error object of a failed response, in any format."""
    words = server_message(response.headers.get("content-type"), body)
    # Errors of log downloads have the content type of bytes, and the same JSON.
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


def _denied(name: str, status: int, detail: str, error: JsonObject, headers: Mapping[str, str]) -> Denied:
    scopes = error.get("detail")
    required = _texts(scopes.get("required")) if isinstance(scopes, dict) else ()
    granted = _texts(scopes.get("granted")) if isinstance(scopes, dict) else ()
    granted = granted or tuple(plain(one) for one in headers.get("x-oauth-scopes", "").split(",") if one)
    needs = f" (needs the scope {', '.join(required)})" if required else ""
    denied = Denied(f"{name}: denied ({status}){needs}{detail}", status=status, endpoint=name)
    denied.required, denied.granted = required, granted
    denied.said = detail.removeprefix(": ") if error else None
    return denied


def denied_by_endpoint(endpoint: Endpoint, refused: Refused) -> Denied:
    """The error for a 401 of an endpoint that refuses a credential which is valid elsewhere."""
    text = f"{endpoint.name}: not allowed for this credential (401){refused.said}"
    denied = Denied(text, status=401, endpoint=endpoint.name)
    denied.said = refused.said.removeprefix(": ") or None
    return denied


def _gone(name: str, detail: str, error: JsonObject) -> Gone:
    gone = Gone(f"{name}: no longer there (410){detail}", status=410, endpoint=name)
    data = error.get("data")
    link = data.get("announcement_url") if isinstance(data, dict) else None
    gone.announcement = plain(link) if isinstance(link, str) else None
    return gone
