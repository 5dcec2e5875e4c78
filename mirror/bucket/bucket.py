"""One bucket: objects are put, read and listed, streamed, with bounded memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from mirror.bucket.access import Access
from mirror.bucket.address import SCHEMES, Address
from mirror.bucket.failures import Absent, error_of, unreachable
from mirror.bucket.pace import Pace
from mirror.bucket.stored import Stored
from mirror.bucket.stores import open_stores
from mirror.bucket.versions import LockState, Versions
from mirror.errors import MirrorError, TryLater, UsageError
from mirror.http.transports import NetworkTransport
from mirror.model import Clock

# Objects up to so many bytes go up in one request, larger ones in parts. Memory of an upload: a part for each
# of PARTS_AT_ONCE, and the next one.
PART = 8 << 20
PARTS_AT_ONCE = 3
# S3 takes 10,000 parts of one object.
_PARTS_MAX = 9_000
# So much of a download is written at a time.
_PIECE = 1 << 20
# Keys come in pages of so many: a request each.
_PAGE = 1000


def _nobody(_: int) -> None:
    """Hears how many bytes moved, and does nothing."""


class Bucket:
    """The objects below an address; all keys are below its prefix. Used as an async context manager.

    `requests` counts requests, without those that obstore repeats. Every method raises NoStore where there
    is no such bucket, CredentialRefused for a wrong key, Denied, Absent, and TryLater where the endpoint
    cannot be reached, fails or is too busy, after several attempts.
    """

    def __init__(
        self, address: Address, access: Access, *, clock: Clock, bandwidth: int | None = None
    ) -> None:
        self.address = address
        self.requests = 0
        self._access = access
        self._pace = Pace(bandwidth, clock)
        self._stores: Any = None
        self._opened: Versions | None = None

    async def __aenter__(self) -> Self:
        """Nothing is sent to the bucket. Raises UsageError where obstore is not installed, or does not take
        the settings, and CredentialRefused where there are no keys at all."""
        self._stores = await asyncio.to_thread(open_stores, self.address, self._access)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stores = None
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    async def put(
        self, key: str, source: Path | bytes | BinaryIO, *, sent: Callable[[int], None] = _nobody
    ) -> None:
        """Store an object, whole or not at all; one that is there is replaced. A file is read from where it
        stands to its end. `sent` hears of bytes as they are handed over. Raises OSError where the source
        cannot be read."""
        if isinstance(source, bytes):
            await self._put_whole(key, source, sent)
        elif isinstance(source, Path):
            with source.open("rb") as stream:
                await self._put_stream(key, stream, sent)
        else:
            await self._put_stream(key, source, sent)

    async def _put_stream(self, key: str, stream: BinaryIO, sent: Callable[[int], None]) -> None:
        begin = stream.tell()
        size = stream.seek(0, os.SEEK_END) - begin
        stream.seek(begin)
        if size <= PART:
            # One byte more, so that a file which grew meanwhile is noticed.
            data = await asyncio.to_thread(stream.read, PART + 1)
            if len(data) <= PART:
                await self._put_whole(key, data, sent)
                return
            stream.seek(begin)
        import obstore
        from obstore.exceptions import BaseError

        part = max(PART, -(-size // _PARTS_MAX))
        self.requests += 2 + max(1, -(-size // part))
        broken: list[OSError] = []

        async def parts() -> AsyncIterator[bytes]:
            try:
                while data := await asyncio.to_thread(stream.read, part):
                    await self._pace.wait(len(data))
                    yield data
                    sent(len(data))
            except OSError as error:
                broken.append(error)
                raise

        async with self._failures(f"writing {key}"):
            try:
                await obstore.put_async(
                    self._stores.parts, self._full(key), parts(),
                    use_multipart=True, chunk_size=part, max_concurrency=PARTS_AT_ONCE,
                )  # fmt: skip
            except (BaseError, OSError):
                if broken:  # not what became of the parts that the server has
                    raise broken[0] from None
                raise

    async def _put_whole(self, key: str, data: bytes, sent: Callable[[int], None]) -> None:
        import obstore

        await self._pace.wait(len(data))
        self.requests += 1
        async with self._failures(f"writing {key}"):
            await obstore.put_async(self._stores.whole, self._full(key), data, use_multipart=False)
        sent(len(data))

    async def get(self, key: str, *, version: str | None = None, limit: int) -> bytes:
        """The content of an object of at most `limit` bytes. Raises MirrorError where it is larger."""
        return b"".join([piece async for piece in self._read(key, version, limit)])

    async def size(self, key: str) -> int | None:
        """The size of an object; None where there is none."""
        import obstore

        self.requests += 1
        try:
            async with self._failures(f"reading {key}", key):
                found = await obstore.head_async(self._stores.parts, self._full(key))
        except Absent:
            return None
        return int(found["size"])

    async def download(
        self,
        key: str,
        target: BinaryIO,
        *,
        version: str | None = None,
        received: Callable[[int], None] = _nobody,
    ) -> None:
        """Write the content of an object to `target`. Raises TryLater where it ends too early; `target` then
        has a part of it."""
        async for piece in self._read(key, version, None):
            await asyncio.to_thread(target.write, piece)
            received(len(piece))

    async def _read(self, key: str, version: str | None, limit: int | None) -> AsyncIterator[bytes]:
        import obstore

        self.requests += 1
        async with self._failures(f"reading {key}", key):
            options: Any = {"version": version} if version is not None else None
            found = await obstore.get_async(self._stores.parts, self._full(key), options=options)
            size = found.meta["size"]
            if limit is not None and size > limit:
                raise MirrorError(f"{self.address}: {key} has {size} bytes, more than the {limit} expected")
            async for piece in found.stream(min_chunk_size=_PIECE):
                yield bytes(piece)

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[Stored]:
        """Every object below the folder `prefix`, in the order of keys; only those whose keys come later than
        `after`, which need not be there."""
        import obstore
        from obstore.exceptions import InvalidPathError

        full, last, number = self._full(prefix), self._full(after) if after else "", 0
        self.requests += 1
        async with self._failures(f"listing {prefix or 'it'}"):
            try:
                pages = obstore.list(self._stores.parts, full, offset=last or None, chunk_size=_PAGE)
                async for page in pages:
                    for one in page:
                        number += 1
                        self.requests += number > 1 and number % _PAGE == 1
                        last = one["path"]
                        yield Stored(self._own(last), one["size"], one["last_modified"])
            except InvalidPathError:
                pass
            else:
                return
        # A key such as a//b, which is never ours, ends obstore's list: anybody who may put can do that.
        async for found in _stepwise(self._beside_obstore().objects(f"{full}/" if full else "", last)):
            yield replace(found, key=self._own(found.key))

    def _beside_obstore(self) -> Versions:
        try:
            return self._versions()
        except UsageError as error:
            problem = "has a key that obstore cannot list, such as a//b"
            raise MirrorError(f"{self.address} {problem}", hint=f"remove it; or {error.hint}") from None

    async def versions(self, prefix: str = "") -> AsyncIterator[Stored]:
        """Every version and delete marker of the object `prefix` and of those below that folder, by key,
        newest first. Raises UsageError without boto3, and for other than S3."""
        full = self._full(prefix)
        async for found in _stepwise(self._versions().pages(full)):
            if not full or found.key.startswith(f"{full}/") or (prefix and found.key == full):
                yield replace(found, key=self._own(found.key))

    async def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete an object, or for good a version of it (needs boto3). It may be gone already. Raises Denied
        where the policy or a lock forbids it."""
        if version is not None:
            await asyncio.to_thread(self._versions().delete, key, version)
            return
        import obstore

        self.requests += 1
        async with self._failures(f"deleting {key}", key):
            await obstore.delete_async(self._stores.parts, self._full(key))

    async def server_time(self) -> datetime:
        """The time by the server's clock, from its answer to a request of nobody. Raises TryLater where there
        is no answer, and MirrorError where it tells no time."""
        import httpx

        url = self._access.url(self.address.scheme)
        transport = NetworkTransport(self._access.network, httpx.Limits())
        self.requests += 1
        try:
            async with httpx.AsyncClient(transport=transport, timeout=self._access.silence) as client:
                answer = await client.head(url)
        except httpx.HTTPError as error:
            hint = unreachable(self._access, self.address.scheme)
            raise TryLater(f"{self.address}: asking for the time failed: {error}", hint=hint) from None
        try:
            found = parsedate_to_datetime(answer.headers["date"])
        except (KeyError, TypeError, ValueError):
            raise MirrorError(f"{self.address}: the server does not tell its time") from None
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

    async def try_put(self, key: str) -> None:
        """See whether this credential may put objects: an upload is begun and aborted. Raises Denied; and
        UsageError without boto3, and for other than S3, where that cannot be told."""
        await asyncio.to_thread(self._versions().try_put, key)

    async def lock_state(self) -> LockState:
        """What the bucket does by itself against deletion. Raises UsageError without boto3."""
        if self.address.scheme != "s3":
            name = SCHEMES[self.address.scheme]
            return LockState(None, None, unknown=(f"versions and retention: not read from {name}",))
        return await asyncio.to_thread(self._versions().lock_state)

    async def extend(self, key: str, version: str | None, until: datetime) -> None:
        """See that nobody can delete this version (None: the newest one) before `until`, by Object Lock; a
        later date stays. Raises Denied, and UsageError without boto3."""
        await asyncio.to_thread(self._versions().extend, key, version, until)

    def _versions(self) -> Versions:
        if self._opened is None:
            self._opened = Versions(self.address, self._access, self._one_more)
        return self._opened

    def _one_more(self) -> None:
        self.requests += 1

    def _full(self, key: str) -> str:
        return "/".join(part for part in (self.address.prefix, key.strip("/")) if part)

    def _own(self, path: str) -> str:
        return path.removeprefix(f"{self.address.prefix}/") if self.address.prefix else path

    @asynccontextmanager
    async def _failures(self, doing: str, key: str = "") -> AsyncIterator[None]:
        """Turns obstore's exceptions into errors of ours."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise error_of(self.address, self._access, doing, error, key=key) from None


async def _stepwise(pages: Iterator[Sequence[Stored]]) -> AsyncIterator[Stored]:
    """The items of pages, each of which is asked for in a thread."""
    while (page := await asyncio.to_thread(next, pages, None)) is not None:
        for one in page:
            yield one
