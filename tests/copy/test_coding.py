"""What is encrypted comes back, and only to its recipients; faults have their own kind."""

from __future__ import annotations

import errno
import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.auth.secrets import Secret
from mirror.copy.coding import (
    Coding,
    Undecodable,
    WrongIdentity,
    decrypting,
    encrypting,
    plain,
    read_identities,
)
from mirror.errors import UsageError

pyrage = pytest.importorskip("pyrage")

KEY = Secret("0123456789abcdef-names-0123456789abcdef")


def encoded(coding: Coding, data: bytes) -> bytes:
    target = io.BytesIO()
    coding.encode(io.BytesIO(data), target)
    return target.getvalue()


def decoded(coding: Coding, data: bytes) -> bytes:
    target = io.BytesIO()
    coding.decode(io.BytesIO(data), target)
    return target.getvalue()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Coding, Path]:
    identity = pyrage.x25519.Identity.generate()
    path = tmp_path / "key.txt"
    path.touch(0o600)
    path.write_text(f"# created: today\n# public key: {identity.to_public()}\n\n{identity}\n")
    return encrypting([str(identity.to_public())], KEY), path


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 1_000_003])
async def test_comes_back(keys: tuple[Coding, Path], size: int) -> None:
    coding, path = keys
    data = bytes(range(251)) * (size // 251 + 1)
    sent = encoded(coding, data[:size])
    assert sent.startswith(b"age-encryption.org/v1\n")
    assert decoded(decrypting(await read_identities([path])), sent) == data[:size]
    assert decoded(plain(), encoded(plain(), data[:size])) == data[:size]


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
async def test_keys_of_openssh(tmp_path: Path, kind: str) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", tmp_path / "key"], check=True)
    public = (tmp_path / "key.pub").read_text().strip()
    other = pyrage.x25519.Identity.generate()
    sent = encoded(encrypting([str(other.to_public()), public], KEY), b"hello")
    assert decoded(decrypting(await read_identities([tmp_path / "key"])), sent) == b"hello"


async def test_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "key")]
    subprocess.run(command, check=True)
    with pytest.raises(UsageError, match="locked by a passphrase"):
        await read_identities([tmp_path / "key"])


async def test_wrong_identity_and_none(keys: tuple[Coding, Path], tmp_path: Path) -> None:
    sent = encoded(keys[0], b"hello")
    with pytest.raises(UsageError, match="no key that opens it") as none:
        decoded(decrypting(()), sent)
    assert none.value.exit_code == 2 and "--identity" in str(none.value.hint)
    stranger = tmp_path / "stranger"
    stranger.touch(0o600)
    stranger.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    with pytest.raises(WrongIdentity) as wrong:
        decoded(decrypting(await read_identities([stranger])), sent)
    assert wrong.value.exit_code == 12
    both = await read_identities([stranger, keys[1]])
    assert decoded(decrypting(both), sent) == b"hello"


async def test_every_cut_and_change_is_seen(keys: tuple[Coding, Path]) -> None:
    reader = decrypting(await read_identities([keys[1]]))
    sent = encoded(keys[0], b"hello" * 20_000)
    places = [*range(0, 400, 7), len(sent) // 2, len(sent) - 1]
    for place in places:
        changed = bytearray(sent)
        changed[place] ^= 1
        for bad in (sent[:place], bytes(changed)):
            with pytest.raises((Undecodable, WrongIdentity)):
                decoded(reader, bad)
    with pytest.raises(Undecodable):
        decoded(reader, sent + b"more")


async def test_failing_streams_keep_their_error(keys: tuple[Coding, Path]) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    class Broken(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    coding, path = keys
    reader = decrypting(await read_identities([path]))
    sent = encoded(coding, b"hello")
    full: list[Callable[[], None]] = [
        lambda: coding.encode(io.BytesIO(b"x" * 200_000), Full()),
        lambda: reader.decode(io.BytesIO(sent), Full()),
    ]
    broken: list[Callable[[], None]] = [
        lambda: coding.encode(Broken(), io.BytesIO()),
        lambda: reader.decode(Broken(), io.BytesIO()),
    ]
    for calls, code in ((full, errno.ENOSPC), (broken, errno.EIO)):
        for call in calls:
            with pytest.raises(OSError, match=r"No space|Input") as failed:
                call()
            assert failed.value.errno == code


def test_names_tell_nothing_and_are_lasting() -> None:
    one = str(pyrage.x25519.Identity.generate().to_public())
    coding, other = (
        encrypting([one], KEY),
        encrypting([one], Secret("another key of names, as long as the first")),
    )
    name = coding.blob_name("a" * 64)
    # By hand: printf 'blob\0aaa…' | openssl dgst -sha256 -hmac 0123456789abcdef…
    digest = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", KEY.reveal()],
        input=b"blob\0" + b"a" * 64,
        capture_output=True,
        check=True,
    ).stdout.split()[-1]
    assert name == digest.decode()
    assert coding.folder_name("store") not in (name, other.folder_name("store"), "store")
    assert coding.names_check() != other.names_check()
    assert plain().blob_name("a" * 64) == "a" * 64 and plain().folder_name("store") == "store"
    assert KEY.reveal() not in repr(coding)


def test_faulty_recipients_are_refused() -> None:
    secret = str(pyrage.x25519.Identity.generate())
    for text in ("age1nonsense", "ssh-ed25519 AAAA", "me@example.org", secret, ""):
        with pytest.raises(UsageError) as refused:
            encrypting([text], KEY)
        assert secret not in f"{refused.value.message} {refused.value.hint}"
    with pytest.raises(UsageError, match="names_key"):
        encrypting([str(pyrage.x25519.Identity.generate().to_public())], Secret("short"))


async def test_files_without_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    for text in ("# nothing\n", "AGE-SECRET-KEY-1NONSENSE\n", "age-encryption.org/v1\n"):
        path.write_text(text)
        with pytest.raises(UsageError, match="holds no key"):
            await read_identities([path])
    path.write_text(str(pyrage.x25519.Identity.generate()))
    path.chmod(0o644)
    with pytest.raises(UsageError, match="can be read by everybody"):
        await read_identities([path])
