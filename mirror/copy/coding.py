"""How what is sent is written: plainly, or encrypted to age recipients, under names that tell nothing.

Who writes knows recipients and the key of the names, and cannot read anything back. Who reads needs an
identity and not the key of the names: manifests say how each blob is named. Everything is streamed; nothing
is held in memory whole. The functions block: call them in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mirror.auth.secrets import Secret, SecretSource, read_secret
from mirror.errors import CredentialRefused, DamageFound, MirrorError, UsageError, missing_extra

ENCRYPTED_SUFFIX = ".age"
# Shorter keys of names could be guessed, and names then tell which files a copy holds.
NAMES_KEY_LEAST = 32
_CHUNK = 1 << 18
# What pyrage says where the file is encrypted to others. Every other message means damage.
_NO_KEY = "No matching keys found"
_NO_IDENTITY = "the copy is encrypted, and no key that opens it is given"


class WrongIdentity(CredentialRefused):
    """None of the identities opens what is encrypted."""


class Undecodable(DamageFound):
    """What was read is not what an encryption wrote: it is cut, changed, or not encrypted at all."""


@dataclass(frozen=True)
class Coding:
    """Plain, or encrypted. Made by `plain`, `encrypting` and `decrypting`.

    `recipients` and `names_key` are needed to write what is encrypted, `identities` (pyrage's) to read it.
    """

    is_encrypted: bool
    recipients: tuple[str, ...] = ()
    names_key: Secret | None = None
    identities: tuple[object, ...] = field(default=(), repr=False)
    _keys: tuple[object, ...] = field(default=(), repr=False)

    @property
    def suffix(self) -> str:
        """The end of every key but that of store.json."""
        return ENCRYPTED_SUFFIX if self.is_encrypted else ""

    def blob_name(self, sha256: str) -> str:
        """The name of the blob whose plain bytes have this sha256."""
        return self._name("blob", sha256) if self.is_encrypted else sha256

    def folder_name(self, place: str) -> str:
        """The name of the folder of manifests for the folder of the store at `place`, or for `store`."""
        return self._name("folder", place) if self.is_encrypted else place

    def names_check(self) -> str | None:
        """What tells whether two keys of names are the same, and nothing else; None where there is none."""
        return self._name("check", "names") if self.is_encrypted else None

    def encode(self, source: BinaryIO, target: BinaryIO) -> None:
        """Read `source` to its end and write what is sent to `target`. Raises OSError as the streams do."""
        if not self.is_encrypted:
            shutil.copyfileobj(source, target, _CHUNK)
            return
        pyrage = _pyrage()
        streams = _Stream(source), _Stream(target)
        try:
            pyrage.encrypt_io(*streams, self._keys)
        except (pyrage.EncryptError, OSError) as error:
            _raise_cause(streams)
            raise MirrorError(f"the encryption failed: {error}") from None

    def decode(self, source: BinaryIO, target: BinaryIO) -> None:
        """Read what was sent from `source` and write the plain bytes to `target`.

        Bytes are written before the end was checked: whoever calls discards them where this raises.
        Raises UsageError where there is no identity, WrongIdentity, Undecodable, and OSError as the streams
        do.
        """
        if not self.is_encrypted:
            shutil.copyfileobj(source, target, _CHUNK)
            return
        if not self.identities:
            raise UsageError(_NO_IDENTITY, hint="give --identity FILE, the file with the private key")
        pyrage = _pyrage()
        streams = _Stream(source), _Stream(target)
        try:
            pyrage.decrypt_io(*streams, list(self.identities))
        except (pyrage.DecryptError, OSError) as error:
            _raise_cause(streams)
            if str(error) == _NO_KEY:
                raise WrongIdentity(
                    "none of the given keys opens what is encrypted",
                    hint="give --identity FILE with a key of one of the recipients that store.json of the"
                    " copy names; it may be given several times",
                ) from None
            raise Undecodable(f"what is encrypted is damaged: {error}") from None

    def _name(self, kind: str, text: str) -> str:
        if self.names_key is None:
            raise UsageError(
                "the names of an encrypted copy need names_key", hint="add it to the entry in `copies`"
            )
        key = self.names_key.reveal().encode()
        return hmac.new(key, f"{kind}\0{text}".encode(), hashlib.sha256).hexdigest()


def plain() -> Coding:
    """Nothing is encrypted."""
    return Coding(is_encrypted=False)


def encrypting(recipients: Sequence[str], names_key: Secret) -> Coding:
    """Encrypt to `recipients`: age's `age1…`, or public keys of OpenSSH. Raises UsageError."""
    if not recipients:
        raise UsageError("an encrypted copy needs a recipient", hint="add one to `recipients`")
    if len(names_key.reveal()) < NAMES_KEY_LEAST:
        raise UsageError(
            f"names_key is shorter than {NAMES_KEY_LEAST} characters", hint="make one: openssl rand -hex 32"
        )
    keys = tuple(_recipient(one) for one in recipients)
    return Coding(True, tuple(recipients), names_key, _keys=keys)


def decrypting(identities: Iterable[object]) -> Coding:
    """Read what is encrypted with `identities`, of `read_identities`; with none, `decode` refuses."""
    return Coding(True, identities=tuple(identities))


async def read_identities(paths: Iterable[Path]) -> tuple[object, ...]:
    """The private keys in files: of age (lines, comments among them) or of OpenSSH. Raises UsageError."""
    return tuple([one for path in paths for one in await _identities(path)])


async def _identities(path: Path) -> list[object]:
    source = SecretSource("file", str(path))
    text = (await read_secret(source, environment={}, may_have_lines=True)).reveal()
    return await asyncio.to_thread(_parse_identities, text, path)


def _parse_identities(text: str, path: Path) -> list[object]:
    pyrage = _pyrage()
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    try:
        if keys and keys[0].startswith("-----BEGIN "):
            return [pyrage.ssh.Identity.from_buffer(text.encode())]
        found: list[object] = [pyrage.x25519.Identity.from_str(key) for key in keys]
    except pyrage.IdentityError as error:
        # Only what pyrage says of keys of OpenSSH is known to hold nothing of the key.
        why = "it is locked by a passphrase" if "decrypted first" in str(error) else "it is not understood"
        raise UsageError(
            f"{path} holds no key that can be used: {why}",
            hint="give a file that age-keygen made, or a private key of OpenSSH without a passphrase",
        ) from None
    if not found:
        raise UsageError(f"{path} holds no key", hint="give a file that age-keygen made")
    return found


def _recipient(text: str) -> object:
    pyrage = _pyrage()
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        hint = "write age1…, or a public key of OpenSSH: ssh-ed25519 AAAA…"
        if text.upper().startswith("AGE-SECRET-KEY"):
            raise UsageError("a recipient is a private key", hint=f"keep it elsewhere, and {hint}") from None
        raise UsageError(f"{text!r} is not a recipient", hint=hint) from None


class _Stream:
    """A stream for pyrage that remembers its own failure, which pyrage would tell as a text."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """Read as the stream does."""
        try:
            return self._stream.read(size)
        except BaseException as error:
            self.failure = error
            raise

    def write(self, data: bytes) -> int:
        """Write as the stream does."""
        try:
            return self._stream.write(data)
        except BaseException as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def _raise_cause(streams: Iterable[_Stream]) -> None:
    """Raise what a stream raised, if one did."""
    for stream in streams:
        if stream.failure is not None:
            raise stream.failure


def _pyrage() -> Any:
    """The optional package. Raises UsageError where it is not installed."""
    try:
        import pyrage
    except ImportError:
        raise missing_extra("copy", "encrypted copies need pyrage") from None
    return pyrage
