"""Why a server could not be reached: one message, whichever HTTP library raised the error."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator

from mirror.http.rates import TooSlow

HINT_CERTIFICATE = "name the certificate of its authority in network.ca_file or SSL_CERT_FILE"
HINT_PROXY = "check network.proxy, or HTTPS_PROXY and NO_PROXY, and the proxy's user name and password"

_AROUND = " )'\""
_TUNNEL = re.compile(r"(?:Tunnel connection failed: )?\b([1-5][0-9][0-9]) ([ -~]{1,80})")


def failure_reason(error: BaseException) -> tuple[str, str | None]:
    """The reason for a failed connection in a few words, and a hint where a person can mend it."""
    if isinstance(error, TooSlow):
        return str(error), None
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {one.verify_message}", HINT_CERTIFICATE
        if isinstance(one, socket.gaierror):
            return "its name cannot be resolved", None
        if isinstance(one, ConnectionRefusedError):
            return "the connection was refused", None
        if type(one).__name__ in ("ProxyError", "MaxRetryError") and (status := _TUNNEL.search(str(one))):
            return f"the proxy answered {status[1]} {status[2].strip(_AROUND)}", HINT_PROXY
    return type(error).__name__, None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes, the innermost first."""
    seen: list[BaseException] = []
    todo: list[BaseException] = [error]
    while todo and len(seen) < 30:
        one = todo.pop()
        if any(one is other for other in seen):
            continue
        seen.append(one)
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        todo += [each for each in inner if isinstance(each, BaseException)]
    yield from reversed(seen)
