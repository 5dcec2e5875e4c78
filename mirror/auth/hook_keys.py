"""The secrets of the hooks of one store: the address that they make, and whose signature they prove.

Bitbucket signs the raw body: `X-Hub-Signature: sha256=<hex of HMAC-SHA256>` (support.atlassian.com, "Manage
webhooks"). The address has no secret of its own, but nobody guesses it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from mirror.auth.secrets import Secret
from mirror.errors import UsageError

# A secret of fewer characters could be found by trying. Bitbucket takes no more than the other number
# (`maxLength` of its OpenAPI document).
SECRET_LEAST, SECRET_MOST = 32, 128
FOLDER = "/hooks/"
_PATH_DIGITS = 32
_PREFIX = "sha256="


@dataclass(frozen=True)
class HookKeys:
    """The secret of the hooks of the store `store_id`, and the one before it, while that still counts."""

    secret: Secret
    previous: Secret | None
    store_id: str
    _secrets: tuple[bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        several = [one for one in (self.secret, self.previous) if one is not None]
        object.__setattr__(self, "_secrets", tuple(one.reveal().encode("utf-8") for one in several))

    @property
    def path(self) -> str:
        """The path of the hooks' address."""
        return self._path(self._secrets[0])

    def has_path(self, path: str) -> bool:
        """Whether `path` is that of the secret, or of the one before. Takes the same time for any path."""
        given = path.encode("utf-8", "surrogateescape")
        return _any([hmac.compare_digest(self._path(one).encode("ascii"), given) for one in self._secrets])

    def are_signed(self, body: bytes, signature: str) -> bool:
        """Whether `signature` (the header's value) proves that the sender of `body` knows a secret. Takes the
        same time for any signature of that form."""
        if not is_signature(signature):
            return False
        given = signature.removeprefix(_PREFIX)
        return _any([hmac.compare_digest(_hmac(one, body), given) for one in self._secrets])

    def _path(self, secret: bytes) -> str:
        return FOLDER + _hmac(secret, self.store_id.encode("utf-8"))[:_PATH_DIGITS]


def is_signature(text: str) -> bool:
    """Whether `text` has the form of a signature."""
    digits = text.removeprefix(_PREFIX)
    return text.startswith(_PREFIX) and len(digits) == 64 and set(digits) <= set("0123456789abcdef")


def signature_of(secret: Secret, body: bytes) -> str:
    """The signature of `body`, as the header has it."""
    return _PREFIX + _hmac(secret.reveal().encode("utf-8"), body)


def check_secret(secret: Secret, key: str) -> None:
    """Raise UsageError where a hooks' secret is too short or too long; `key` is its key of the
    configuration."""
    length = len(secret.reveal())
    if SECRET_LEAST <= length <= SECRET_MOST:
        return
    text = (
        f"at least {SECRET_LEAST}" if length < SECRET_LEAST else f"at most {SECRET_MOST}, as Bitbucket does"
    )
    raise UsageError(
        f"the secret of {key} has {length} characters; mirror wants {text}",
        hint="make one with: openssl rand -hex 32",
    )


def _hmac(secret: bytes, data: bytes) -> str:
    return hmac.new(secret, data, hashlib.sha256).hexdigest()


def _any(answers: list[bool]) -> bool:
    """Whether one is true; each was computed."""
    return any(answers)
