"""Sending one folder: what is new in it goes up, then a manifest that names everything."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from mirror import __version__
from mirror.copy import bundles
from mirror.copy.aside import Aside
from mirror.copy.bundles import Hashed
from mirror.copy.format import MANIFEST_MAX, NUMBER_DIGITS, File, Manifest, blob_key, manifest_key
from mirror.copy.memory import Remembered
from mirror.copy.reading import checked_manifest
from mirror.copy.session import UPLOADS, Doubt, Session, Work, do_all
from mirror.errors import MirrorError
from mirror.store.reading.contents import Contents

Facts = Callable[[], Mapping[str, Any]]
Lock = Callable[[], AbstractAsyncContextManager[object]]
Look = Callable[[], Contents]
T = TypeVar("T")


@dataclass(frozen=True)
class _Taken:
    """A folder as it was under its lock. `known` are the hashes of files that were not set aside, `repack`
    what goes into new bundles though it stands in older ones."""

    found: Contents
    facts: Mapping[str, Any]
    aside: Aside
    known: Mapping[str, Hashed]
    repack: frozenset[str]


@dataclass(frozen=True)
class Sending:
    """One folder to send: at `place` in the store, shown as `name`; `number` tells the folders of this run
    apart. `look` says what is in it; `lock` holds its writer lock; `facts` are for the manifest, read under
    the lock."""

    session: Session
    place: str
    path: str
    name: str
    number: int
    look: Look
    lock: Lock
    facts: Facts

    async def send(self) -> bool:
        """Send it, and say whether there was anything to send: a folder may be as the last manifest says
        though its files are others. Raises Doubt, Changed, StoreDamaged, Locked and what the bucket raises.
        """
        before = await self._before()
        session = self.session
        aside = Aside(session.root, self.path, session.memory.key, self.number, session.ended)
        try:
            async with self.lock():
                taken = await _to_its_end(asyncio.to_thread(self._take, aside, before))
            return await self._send(taken, before)
        finally:
            await asyncio.to_thread(aside.remove)

    async def _before(self) -> Remembered | None:
        """The last manifest as far as it can be known. Raises Doubt where another one stands there now."""
        session, folder = self.session, self.session.coding.folder_name(self.place)
        remembered = session.memory.folder(self.place)
        if session.listing is None:
            known = remembered.manifest.number if remembered is not None else 0
            newest = await session.newest_number(folder, known)
            if newest != known:
                raise Doubt(
                    f"{session.bucket.address} has manifest {newest or 'none'} of {self.name} where this host"
                    f" sent {known or 'none'}: another host writes there, or it was lost there",
                    hint="let only one host write to an address; mirror copy --check says what is there",
                )
            return remembered
        number = session.listing.numbers.get(folder, 0)
        if remembered is not None and session.listing.has(folder, remembered.manifest):
            return remembered
        if not number or session.coding.is_encrypted:
            return None
        return await self._read_back(folder, number)

    async def _read_back(self, folder: str, number: int) -> Remembered | None:
        """The last manifest as it stands there; None where it is damaged."""
        session = self.session
        data = await session.bucket.get(manifest_key(folder, number, ""), limit=MANIFEST_MAX)
        try:
            manifest = Manifest.from_bytes(data)
        except ValueError:
            return None
        blobs = session.listing.blobs if session.listing is not None else {}
        there = {
            path: file
            for path, file in manifest.files.items()
            if blobs.get(file.blob) == manifest.blobs[file.blob]
        }
        session.relied.update(file.blob for file in there.values())
        digest = hashlib.sha256(data).hexdigest()
        return Remembered(replace(manifest, number=number, files=there), digest)

    def _take(self, aside: Aside, before: Remembered | None) -> _Taken:
        """Look at the folder and set aside what must be read, under its lock."""
        found = self.look()
        hashes = before.hashes if before is not None else {}
        known = {
            path: Hashed(stat.size, hashes[path, *stat])
            for path, stat in found.files.items()
            if (path, *stat) in hashes
        }
        manifest = before.manifest if before is not None else None
        kept = bundles.reusable(known, manifest)
        repack = bundles.to_repack(kept, manifest)
        facts = self.facts()
        aside.take(found, [path for path in found.files if path not in kept or path in repack])
        return _Taken(found, facts, aside, known, frozenset(repack))

    async def _send(self, taken: _Taken, before: Remembered | None) -> bool:
        session, manifest = self.session, before.manifest if before is not None else None
        files = await self._hash(taken)
        kept = bundles.reusable(
            {path: one for path, one in files.items() if path not in taken.repack}, manifest
        )
        old = manifest.blobs if manifest is not None else {}
        blobs = {file.blob: old[file.blob] for file in kept.values()}
        new, sizes = await self._blobs(taken, {path: files[path] for path in files if path not in kept})
        now = Manifest(
            self.place, 1, None, session.now(), f"mirror {__version__}",
            dict(sorted({**kept, **new}.items())), dict(sorted({**blobs, **sizes}.items())),
            taken.found.empty_folders, taken.facts,
        )  # fmt: skip
        if manifest is not None and _content(manifest) == _content(now):
            await asyncio.to_thread(session.memory.keep_folder, self.place, manifest, taken.found)
            return False
        numbers = session.listing.numbers if session.listing is not None else {}
        listed = numbers.get(session.coding.folder_name(self.place), 0)
        number = manifest.number if manifest is not None else listed
        now = replace(now, number=number + 1, before=before.sha256 if before is not None else None)
        await self._put_manifest(now)
        await asyncio.to_thread(session.memory.keep_folder, self.place, now, taken.found)
        return True

    async def _hash(self, taken: _Taken) -> dict[str, Hashed]:
        """The hashes of all files, in the order of their paths."""

        def work() -> dict[str, Hashed]:
            done, total = 0, taken.found.size
            files = {}
            for path, stat in taken.found.files.items():
                found = taken.known.get(path)
                files[path] = found if found is not None else taken.aside.hash(path)
                done += stat.size
                self.session.progress.report(self.name, "reading", done, total)
            return files

        return await asyncio.to_thread(work)

    async def _blobs(
        self, taken: _Taken, files: Mapping[str, Hashed]
    ) -> tuple[dict[str, File], dict[str, int]]:
        """Send `files`, unless they stand there; returns where each is, and the sizes of the blobs."""
        session, coding = self.session, self.session.coding
        groups, alone = bundles.grouped(files)
        where: dict[str, File] = {}
        sizes: dict[str, int] = {}

        async def send_bundle(paths: list[str]) -> None:
            target = taken.aside.new_file()
            whole = await asyncio.to_thread(
                bundles.write_bundle, target, paths, lambda path: taken.aside.read(path, files[path])
            )
            name = coding.blob_name(whole.sha256)
            sizes[name] = await self._put_blob(name, whole, target, taken.aside)
            target.unlink()
            where.update({path: File(name, *files[path], is_bundled=True) for path in paths})

        async def send_alone(path: str) -> None:
            name = coding.blob_name(files[path].sha256)
            sizes[name] = await self._put_blob(name, files[path], path, taken.aside)
            where[path] = File(name, *files[path])

        works: list[Work] = [partial(send_bundle, paths) for paths in groups]
        works += [partial(send_alone, path) for path in alone]
        total = len(works)
        session.progress.report(self.name, "sending", 0, total)
        await do_all(works, UPLOADS, lambda done: session.progress.report(self.name, "sending", done, total))
        return where, sizes

    async def _put_blob(self, name: str, plain: Hashed, source: Path | str, aside: Aside) -> int:
        """Send a blob unless it stands there; returns its size as stored. `source` is a file of our own, or
        the path of a file that was set aside."""
        session = self.session
        async with session.one_at_a_time(name):
            standing = session.standing(name, plain.size)
            if standing is None:
                standing = await session.found(name, plain.size)
            if standing is not None:
                return standing
            with _open(source, plain, aside) as stream:  # in a thread, a cancellation would leave it open
                size = await self._put_coded(name, stream, plain.size, aside)
            session.note_blob(name, size)
            return size

    async def _put_coded(self, name: str, stream: BinaryIO, size: int, aside: Aside) -> int:
        session = self.session
        key = blob_key(name, session.coding.suffix)
        if not session.coding.is_encrypted:
            await session.put(key, stream, size)
            return size
        # To a file first: an upload that fails may begin again, and the size is known.
        target = aside.new_file()
        try:
            stored = await asyncio.to_thread(_encode, session, stream, target)
            await session.put(key, target, stored)
        finally:
            target.unlink(missing_ok=True)
        return stored

    async def _put_manifest(self, manifest: Manifest) -> None:
        session = self.session
        data = await asyncio.to_thread(lambda: coded(session, _checked(manifest, self.path)))
        folder = session.coding.folder_name(self.place)
        await session.put(manifest_key(folder, manifest.number, session.coding.suffix), data, len(data))


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` in a thread returns. A cancellation waits for the thread: it needs the lock, and makes
    files that somebody has to remove."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await task
        raise


def coded(session: Session, data: bytes) -> bytes:
    """Small things as they are sent."""
    target = io.BytesIO()
    session.coding.encode(io.BytesIO(data), target)
    return target.getvalue()


def _checked(manifest: Manifest, folder: str) -> bytes:
    """The bytes of a manifest, which a reader takes. Raises MirrorError where none would: what goes up must
    come back."""
    if manifest.number >= 10**NUMBER_DIGITS:
        raise MirrorError(
            f"{folder} cannot be copied: a manifest with the highest number stands there, which no copy of it"
            " has: somebody else wrote it",
            hint="mirror copy --check says what is there; make a copy at another address, with another key",
        )
    try:
        data = manifest.to_bytes()
        checked_manifest(data)
    except ValueError as error:
        raise MirrorError(
            f"{folder} cannot be copied, because no reader would take it back: {error}"
        ) from None
    return data


def _encode(session: Session, stream: BinaryIO, target: Path) -> int:
    with target.open("xb") as out:
        session.coding.encode(stream, out)
        return out.tell()


def _open(source: Path | str, plain: Hashed, aside: Aside) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else aside.open(source, plain)


def _content(manifest: Manifest) -> tuple[object, ...]:
    """What a manifest says, without when and after which one. A repack is none of it."""
    files = {path: (file.size, file.sha256, file.blob) for path, file in manifest.files.items()}
    return files, manifest.empty_folders, dict(manifest.facts)
