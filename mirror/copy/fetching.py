"""Taking files out of blobs. Every byte is hashed on its way; what does not hash right is never left behind.

A blob is a file, or a tar with regular members alone. Its stored size is known and nothing in it is
compressed, so nothing that is read can be larger than what was listed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO

from mirror.bucket.failures import Absent
from mirror.bucket.stored import Stored
from mirror.copy.coding import Undecodable, WrongIdentity
from mirror.copy.format import File
from mirror.copy.reading import Copy, CopyDamaged
from mirror.fs.durable import create_file, sync_stream

_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE


class Mismatch(ValueError):
    """The bytes are not those that the manifest names."""


class _Hashing(io.RawIOBase):
    """Writes to `target` as long as the bytes can be those of the file, and hashes them."""

    def __init__(self, file: File, target: IO[bytes] | None) -> None:
        super().__init__()
        self._file = file
        self._target = target
        self._digest = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        """It is written to."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take bytes. Raises Mismatch where there are too many."""
        self._size += len(data)
        if self._size > self._file.size:
            raise Mismatch("it is longer than the manifest says")
        self._digest.update(data)
        if self._target is not None:
            self._target.write(data)
        return len(data)

    def check(self) -> None:
        """Raise Mismatch unless exactly the bytes of the file were written."""
        if self._size != self._file.size:
            raise Mismatch("it is shorter than the manifest says")
        if self._digest.hexdigest() != self._file.sha256:
            raise Mismatch("its content does not hash to what the manifest says")


async def fetch_blob(
    copy: Copy,
    name: str,
    size: int,
    wanted: Mapping[str, File],
    into: Path | None,
    *,
    is_durable: bool = False,
    received: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the files `wanted` (by path below `into`; their folders exist) from the blob `name`, which is
    stored with `size` bytes; without `into` they are only read and hashed.

    Every version of the blob with that size is tried. Raises CopyDamaged where none holds all of them.
    """
    key = copy.blob_key(name)
    problem = "it is missing, or has another size"
    for one in copy.objects.sized(key, size):
        try:
            await fetch_version(copy, one, wanted, into, is_durable=is_durable, received=received)
        except (Mismatch, Undecodable, WrongIdentity, Absent) as error:
            problem = str(error)
            copy.note(f"{key} of {one.modified:%Y-%m-%d %H:%M} UTC is damaged: {problem}")
        else:
            copy.say_former(one)
            return
    hint = None if copy.objects.with_versions else f"older versions were not read: {copy.objects.why_not}"
    raise CopyDamaged(f"{copy.bucket.address}: {key} is damaged: {problem}", hint=hint)


async def fetch_version(
    copy: Copy,
    one: Stored,
    wanted: Mapping[str, File],
    into: Path | None,
    *,
    is_durable: bool = False,
    received: Callable[[int], None] = lambda _: None,
) -> None:
    """As `fetch_blob`, from one version of the blob. Raises Mismatch, Undecodable, WrongIdentity, Absent."""
    path, first = next(iter(wanted.items()))
    if not first.is_bundled and not copy.coding.is_encrypted:
        with _written(path, first, into, is_durable) as target:
            await copy.bucket.download(one.key, target, version=one.version, received=received)
    else:
        with tempfile.TemporaryFile(dir=into) as raw:
            await copy.bucket.download(one.key, raw, version=one.version, received=received)
            raw.seek(0)
            await asyncio.to_thread(_decode, copy, raw, wanted, into, is_durable)
    if not first.is_bundled and into is not None:
        await asyncio.to_thread(_same_again, wanted, into, is_durable)


def _decode(
    copy: Copy, raw: BinaryIO, wanted: Mapping[str, File], into: Path | None, is_durable: bool
) -> None:
    path, first = next(iter(wanted.items()))
    if not first.is_bundled:
        with _written(path, first, into, is_durable) as target:
            copy.coding.decode(raw, target)
        return
    with ExitStack() as held:
        plain = raw
        if copy.coding.is_encrypted:
            plain = held.enter_context(tempfile.TemporaryFile(dir=into))
            copy.coding.decode(raw, plain)
            plain.seek(0)
        _unpack(plain, wanted, into, is_durable)


def _unpack(source: BinaryIO, wanted: Mapping[str, File], into: Path | None, is_durable: bool) -> None:
    """Write the members `wanted` of a tar. Raises Mismatch where one is missing or not right.

    Headers are read one by one, without the extensions of tar, which could ask for any memory.
    """
    missing = dict(wanted)
    end = source.seek(0, io.SEEK_END)
    place = source.seek(0)
    while place + _BLOCK <= end:
        header = source.read(_BLOCK)
        if not header.strip(b"\0"):
            break
        try:
            info = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise Mismatch(f"it is no tar of files: {error}") from None
        place += _BLOCK
        if not info.isreg() or not 0 <= info.size <= end - place:
            raise Mismatch("it is no tar of whole files")
        file = missing.pop(info.name, None)
        if file is not None:
            if file.size != info.size:
                raise Mismatch(f"{info.name} in it has another size than the manifest says")
            with _written(info.name, file, into, is_durable) as target:
                _transfer(source, target, info.size)
        place = source.seek(place + -(-info.size // _BLOCK) * _BLOCK)
    if missing:
        raise Mismatch(f"{min(missing)} is not in it")


def _transfer(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        data = source.read(min(size, _CHUNK))
        if not data:
            raise Mismatch("it ends too early")
        target.write(data)
        size -= len(data)


@contextlib.contextmanager
def _written(path: str, file: File, into: Path | None, is_durable: bool) -> Iterator[BinaryIO]:
    """A stream for a new file; it is removed again where the block fails, or its bytes are not the right
    ones."""
    if into is None:
        sink = _Hashing(file, None)
        yield sink  # type: ignore[misc]
        sink.check()
        return
    place = into / path
    place.unlink(missing_ok=True)
    stream = create_file(place)
    try:
        with stream:
            sink = _Hashing(file, stream)
            yield sink  # type: ignore[misc]
            sink.check()
            if is_durable:
                sync_stream(stream)
    except BaseException:
        place.unlink(missing_ok=True)
        raise


def _same_again(wanted: Mapping[str, File], into: Path, is_durable: bool) -> None:
    """Write the other files that have the content of the first one."""
    first, *others = wanted
    for path in others:
        with (into / first).open("rb") as source, _written(path, wanted[path], into, is_durable) as target:
            shutil.copyfileobj(source, target, _CHUNK)


def holds(path: Path, file: File) -> bool:
    """Whether a file on the disk is the one that a manifest names."""
    try:
        if path.is_symlink() or path.stat().st_size != file.size:
            return False
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False
