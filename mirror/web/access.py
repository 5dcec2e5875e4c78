"""Who may read the page: this machine alone, who has the token, or who a trusted proxy names.

A token is sent as `Authorization: Bearer …`, or typed once at `/login`. The cookie of a sign-in is not the
token: it holds when the sign-in ends, and a MAC of that under a key made from the token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass, field

from starlette.datastructures import Headers

from mirror.auth.secrets import Secret
from mirror.config import Address, IpNetwork
from mirror.errors import UsageError
from mirror.model import Clock

# A token that a machine can guess protects nothing.
TOKEN_LEAST = 16
# How long a sign-in lasts, in seconds.
SESSION_SECONDS = 12 * 3600
COOKIE = "mirror_session"
# The header in which a trusted proxy names the person who signed in. One only: a proxy that replaces one
# header would let others through.
USER_HEADER = "x-forwarded-user"
# After this many wrong tokens from one address, more are refused for a while.
TRIES_MOST = 5
TRIES_SECONDS = 60.0
# How many addresses are remembered for that.
_ADDRESSES_MOST = 1024
_ADDRESS_LONGEST = 45
_LOOPBACK_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_SALT = b"sessions of the mirror page"


@dataclass(frozen=True)
class Visitor:
    """Who asks: a name that the page shows, and whether a cookie signed them in: then they can sign out."""

    name: str = ""
    has_session: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused: an HTTP status and sentences for a person. `can_sign_in`: with a token."""

    status: int
    title: str
    text: str
    can_sign_in: bool = False


@dataclass
class _Tries:
    """The wrong tokens of each address. Bounded; the oldest addresses are forgotten first."""

    clock: Clock
    wrong: dict[str, tuple[int, float]] = field(default_factory=dict)

    def are_too_many(self, peer: str) -> bool:
        count, since = self.wrong.get(peer, (0, 0.0))
        return count >= TRIES_MOST and self.clock.monotonic() - since < TRIES_SECONDS

    def add(self, peer: str) -> None:
        count, since = self.wrong.pop(peer, (0, 0.0))
        now = self.clock.monotonic()
        if now - since >= TRIES_SECONDS:
            count = 0
        self.wrong[peer] = (count + 1, now)
        while len(self.wrong) > _ADDRESSES_MOST:
            del self.wrong[next(iter(self.wrong))]


class Access:
    """The rules of one listener."""

    def __init__(
        self,
        *,
        clock: Clock,
        listen: Address,
        token: Secret | None = None,
        proxies: tuple[IpNetwork, ...] = (),
        key: str = "web.token",
    ) -> None:
        """Raises UsageError where these rules would protect nothing."""
        if not listen.is_loopback and token is None and not proxies:
            raise UsageError(
                f"the page on {listen.text} would let everybody who reaches it read the store",
                hint="set web.token or web.trusted_proxies in the configuration; or listen on 127.0.0.1, and "
                "reach it from elsewhere with ssh -L 9321:127.0.0.1:9321",
            )
        if token is not None and len(token.reveal()) < TOKEN_LEAST:
            raise UsageError(
                f"{key} is shorter than {TOKEN_LEAST} characters, so it can be guessed",
                hint="make one with: openssl rand -hex 32",
            )
        self._clock = clock
        self._listen = listen
        self._token = token
        self._proxies = proxies
        self._tries = _Tries(clock)
        # Slow on purpose, once: from a stolen cookie nobody finds a token by trying.
        self._key = (
            hashlib.scrypt(token.reveal().encode(), salt=_SALT, n=2**14, r=8, p=1)
            if token is not None
            else b""
        )

    @property
    def has_token(self) -> bool:
        """Whether a person can sign in with a token."""
        return self._token is not None

    def judge(self, headers: Headers, cookies: dict[str, str], peer: str) -> Visitor | Refusal:
        """Whether a request from the address `peer` may read the page."""
        bearer = _bearer(headers)
        if self._token is not None:
            if bearer is not None:
                return self._judge_bearer(bearer, self._guesser(headers, peer))
            if self._is_session(cookies.get(COOKIE, "")):
                return Visitor(has_session=True)
        if self._proxies and self._is_proxy(peer):
            return self._judge_proxied(headers)
        if self._token is not None:
            return Refusal(401, "Sign in", "This page needs its token.", can_sign_in=True)
        if self._proxies:
            return Refusal(403, "Not this way", "This page is reached through its proxy only.")
        return self._host_fault(headers) or Visitor()

    def sign_in(self, typed: str, headers: Headers, peer: str) -> str | Refusal:
        """The value of the cookie for a token that was typed at the address `peer`, or why there is none."""
        if self._token is None:
            return Refusal(404, "Nothing to sign in to", "This page has no token.")
        refusal = self._judge_bearer(typed.strip(), self._guesser(headers, peer))
        if isinstance(refusal, Refusal):
            return refusal
        ends = int(self._clock.now().timestamp()) + SESSION_SECONDS
        return f"{ends}.{self._mac(ends)}"

    def _guesser(self, headers: Headers, peer: str) -> str:
        """Whose wrong tokens count together. Behind a trusted proxy it is whom the proxy saw: else one would
        keep everybody out. Of IPv6, where people have networks, it is the network."""
        if self._is_proxy(peer):
            # The last one is what the proxy saw; those before are what it was told.
            seen = ",".join(headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
            peer = seen[:_ADDRESS_LONGEST] or peer
        try:
            address = ipaddress.IPv6Address(peer)
        except ValueError:
            return peer
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))

    def _judge_bearer(self, token: str, guesser: str) -> Visitor | Refusal:
        assert self._token is not None
        if self._tries.are_too_many(guesser):
            text = f"After {TRIES_MOST} wrong tokens, wait a minute and try again."
            return Refusal(429, "Too many tries", text)
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token.reveal().encode()):
            self._tries.add(guesser)
            return Refusal(401, "Wrong token", "This is not the token of this page.", can_sign_in=True)
        return Visitor()

    def _is_session(self, value: str) -> bool:
        ends, _, mac = value.partition(".")
        if not re.fullmatch(r"[0-9]{1,12}", ends) or not mac.isascii():
            return False
        return hmac.compare_digest(mac, self._mac(int(ends))) and self._clock.now().timestamp() < int(ends)

    def _mac(self, ends: int) -> str:
        return hmac.new(self._key, str(ends).encode(), hashlib.sha256).hexdigest()

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._proxies)

    def _judge_proxied(self, headers: Headers) -> Visitor | Refusal:
        users = [one.strip() for one in headers.getlist(USER_HEADER)]
        if len(users) > 1:
            text = "Two names came in X-Forwarded-User: the proxy must replace what a browser sends there."
            return Refusal(403, "Who is it?", text)
        user = users[0] if users else ""
        if not user:
            text = "The proxy named nobody in X-Forwarded-User: sign in there, or see docs/page.md."
            return Refusal(401, "Sign in", text, can_sign_in=self.has_token)
        return self._host_fault(headers) or Visitor(user[:200])

    def _host_fault(self, headers: Headers) -> Refusal | None:
        """A page elsewhere may lead its own name to this machine, and read what a browser here may read."""
        if not self._listen.is_loopback or _LOOPBACK_HOST.fullmatch(headers.get("host", "")):
            return None
        text = f"This page answers to the name localhost and to {self._listen.text} only."
        return Refusal(421, "Not this name", text)


def _bearer(headers: Headers) -> str | None:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None
