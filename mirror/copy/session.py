"""What the parts of one copy run share."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from mirror.bucket.bucket import Bucket
from mirror.copy.coding import Coding
from mirror.copy.format import BLOBS, MANIFESTS, NUMBER_DIGITS, RUNS, Manifest, blob_key
from mirror.copy.memory import Memory
from mirror.errors import MirrorError
from mirror.model import Clock, Progress
from mirror.store.writing.writer import StoreWriter

# So many blobs go up at once, and so many folders are worked on.
UPLOADS = 6
FOLDERS = 4
# An age file is at most so much larger than what it holds: its header, and 16 bytes for each 64 KiB.
_AGE_HEAD = 64 << 10
Work = Callable[[], Awaitable[None]]


class Doubt(MirrorError):
    """The copy is not what this host remembers: somebody else writes there, or what stood there is gone."""


@dataclass
class Listing:
    """What stands in the bucket: the sizes of blobs by name, the highest number by folder of manifests, and
    the keys of run records and lists."""

    blobs: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)

    def has(self, folder: str, manifest: Manifest) -> bool:
        """Whether `manifest` is the newest in its folder of manifests, and all that it names stands there."""
        return self.numbers.get(folder) == manifest.number and manifest.blobs.items() <= self.blobs.items()

    def lost(self, folder: str, manifest: Manifest) -> tuple[bool, list[str]]:
        """What this host sent and is no longer there: whether that is `manifest`, the last one that it sent
        to a folder of manifests; and of the blobs that it names those that are not there, or of another size.

        None of it where a later manifest stands there: then another host, or somebody who forges, writes
        there, too, and what only older manifests name may be pruned.
        """
        newest = self.numbers.get(folder, 0)
        if newest > manifest.number:
            return False, []
        gone = sorted(name for name, size in manifest.blobs.items() if self.blobs.get(name) != size)
        return newest < manifest.number, gone


@dataclass
class Session:
    """One pass over the store. `listing` is None where memory says what stands there."""

    bucket: Bucket
    coding: Coding
    memory: Memory
    store: StoreWriter
    clock: Clock
    progress: Progress
    lock_wait: float
    listing: Listing | None = None
    objects: int = 0
    moved: int = 0
    # Blobs that were not sent because the listing has them.
    relied: set[str] = field(default_factory=set)
    # Blobs that are not there as they were sent: what stands in their place is sent over.
    gone: set[str] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=dict)
    # Tells the folders of this run apart, over all passes.
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    # Set when the pass ends: no thread goes on reading for it.
    ended: threading.Event = field(default_factory=threading.Event)
    _uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS))
    _underway: dict[str, asyncio.Lock] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The store."""
        return self.store.reader.path

    def now(self) -> datetime:
        """The time."""
        return self.clock.now()

    async def put(self, key: str, source: Path | bytes | BinaryIO, size: int) -> None:
        """Send one object of `size` bytes, and count it."""
        handed = 0

        def sent(count: int) -> None:
            nonlocal handed
            handed += count
            self.moved += count
            self.progress.received(0, count)

        async with self._uploads:
            await self.bucket.put(key, source, sent=sent)
        self.objects += 1
        self.moved += size - handed
        self.progress.received(1, size - handed)

    def standing(self, name: str, size: int) -> int | None:
        """The size as stored of a blob of `size` plain bytes that needs not be sent; None where it must."""
        found = self.sent.get(name)
        if found is None and self.listing is not None and name not in self.gone:
            found = self.listing.blobs.get(name)
            if found is not None:
                self.relied.add(name)
        return found if found is not None and self._is_size(found, size) else None

    async def found(self, name: str, size: int) -> int | None:
        """As `standing`, of what is there though this pass listed nothing: a request. With encryption the
        same bytes are another object each time, of another size: where folders share a blob, the second would
        take from the first what its manifest names."""
        if self.listing is not None or not self.coding.is_encrypted:
            return None
        stored = await self.bucket.size(blob_key(name, self.coding.suffix))
        if stored is None or not self._is_size(stored, size):
            return None
        self.relied.add(name)
        self.sent[name] = stored
        return stored

    async def lacking(self) -> set[str]:
        """Of the blobs that were relied on, those that stand there no more."""
        if self.listing is not None:
            return self.relied - (await read_listing(self.bucket, self.coding.suffix)).blobs.keys()
        return {
            name for name in self.relied if await self.bucket.size(blob_key(name, self.coding.suffix)) is None
        }

    def _is_size(self, stored: int, plain: int) -> bool:
        if not self.coding.is_encrypted:
            return stored == plain
        return plain < stored <= plain + plain // 2048 + _AGE_HEAD

    def one_at_a_time(self, name: str) -> asyncio.Lock:
        """The lock of those who would send the same blob."""
        return self._underway.setdefault(name, asyncio.Lock())

    def note_blob(self, name: str, size: int) -> None:
        """Remember that a blob went up, as `size` bytes."""
        self.sent[name] = size
        self.memory.note_sent(name, size, self.now())

    async def newest_number(self, folder: str, known: int) -> int:
        """The highest number in a folder of manifests, 0 for none; `known` is the last that is known. The
        cost does not depend on how many there are."""
        prefix, newest = f"{MANIFESTS}/{folder}", 0
        after = f"{prefix}/{known - 1:0{NUMBER_DIGITS}}~" if known else ""
        async for one in self.bucket.list(prefix, after=after):
            if "/" in one.key.removeprefix(f"{prefix}/"):
                break  # the folders of repositories, which come after all numbers
            newest = max(newest, number_of(one.key, self.coding.suffix) or 0)
        return newest


def number_of(key: str, suffix: str) -> int | None:
    """The number of a manifest by its key, which ends with `suffix`; None for other keys."""
    digits = key.rpartition("/")[2].removesuffix(f".json{suffix}")
    is_number = len(digits) == NUMBER_DIGITS and digits.isascii() and digits.isdigit()
    return int(digits) if is_number else None


async def read_listing(bucket: Bucket, suffix: str) -> Listing:
    """Ask for everything that stands there: a request for each 1000 objects. What does not end as the keys of
    this copy do (`suffix`) is not of it."""
    found = Listing()
    async for one in bucket.list(BLOBS):
        name = one.key.rpartition("/")[2].removesuffix(suffix)
        if one.key == blob_key(name, suffix):
            found.blobs[name] = one.size
    async for one in bucket.list(MANIFESTS):
        folder, number = one.key.removeprefix(f"{MANIFESTS}/").rpartition("/")[0], number_of(one.key, suffix)
        if number is not None:
            found.numbers[folder] = max(number, found.numbers.get(folder, 0))
    async for one in bucket.list(RUNS):
        found.runs.add(one.key)
    return found


async def do_all(works: Iterable[Work], at_once: int, done: Callable[[int], None] = lambda _: None) -> None:
    """Do everything, `at_once` at a time; the first failure ends the others and is raised. `done` hears how
    many are done."""
    left, count = iter(works), 0

    async def worker() -> None:
        nonlocal count
        for work in left:
            await work()
            count += 1
            done(count)

    tasks = [asyncio.ensure_future(worker()) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
