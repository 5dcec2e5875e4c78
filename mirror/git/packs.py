"""The narrow door between a stream of pack bytes and objects that are safely on disk.

Nothing outside this file knows how a pack is checked, indexed and published, so that a faster way
can take its place. A pack is published only when every byte was checked: pack first, then index,
each fsynced and renamed, then the folder fsynced. Refs come after, elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dulwich.object_format import SHA1
from dulwich.object_store import DiskObjectStore
from dulwich.pack import PackData, write_pack_index_v2

from mirror.git.durable import sweep_files, sync_folder
from mirror.git.failures import GitFailed
from mirror.git.refs import closed_after
from mirror.logs import get_logger

_log = get_logger("git")
_TYPES = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_OFFSET_DELTA = 6
_LEFTOVERS = ("tmp_pack_", "tmp_obj_", "incoming-", "tmp-")


class PackWriter:
    """Writes objects that we make ourselves into one new pack.

    Memory holds 40 bytes or so for each object, never their content.
    """

    def __init__(self, objects: Path) -> None:
        self._folder = objects / "pack"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._beside()
        self._entries: dict[bytes, tuple[int, int]] = {}
        self._file: BinaryIO | None = None
        self._offset = 12

    def _beside(self) -> Path:
        return self._folder / f"tmp_pack_{secrets.token_hex(8)}"

    def add(self, kind: str, data: bytes) -> str:
        """Add an object of `kind` (commit, tree, blob, tag); returns its id."""
        digest = hashlib.sha1(b"%s %d\0" % (kind.encode("ascii"), len(data)), usedforsecurity=False)
        digest.update(data)
        identifier = digest.digest()
        if identifier in self._entries:
            return identifier.hex()
        if self._file is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(descriptor, "w+b")
            self._file.write(b"PACK" + struct.pack(">LL", 2, 0))
        self._write(identifier, _entry_header(_TYPES[kind], len(data)) + zlib.compress(data, 6))
        return identifier.hex()

    def add_delta(self, identifier: str, delta: bytes, base: str) -> None:
        """Add the object `identifier` as a delta against `base`, which was added before it."""
        name, (begin, _) = bytes.fromhex(identifier), self._entries[bytes.fromhex(base)]
        if name not in self._entries:
            header = _entry_header(_OFFSET_DELTA, len(delta)) + _distance(self._offset - begin)
            self._write(name, header + zlib.compress(delta, 6))

    def has(self, identifier: str) -> bool:
        """Whether an object was added."""
        return bytes.fromhex(identifier) in self._entries

    def _write(self, identifier: bytes, entry: bytes) -> None:
        assert self._file is not None
        self._file.write(entry)
        self._entries[identifier] = (self._offset, zlib.crc32(entry))
        self._offset += len(entry)

    def publish(self) -> str:
        """Make the pack part of the repository, durably; returns its name without suffix.

        Nothing was added: nothing happens, and the name is empty.
        """
        if self._file is None:
            return ""
        stream = self._file
        stream.seek(8)
        stream.write(struct.pack(">L", len(self._entries)))
        stream.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
        stream.write(digest.digest())
        stream.flush()
        os.fsync(stream.fileno())
        stream.close()
        self._file = None
        entries = sorted((name, offset, crc) for name, (offset, crc) in self._entries.items())
        beside = self._path.with_suffix(".idx")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as index:
            write_pack_index_v2(index, entries, digest.digest())
            index.flush()
            os.fsync(index.fileno())
        final = self._folder / f"pack-{digest.hexdigest()}"
        self._path.rename(final.with_suffix(".pack"))
        beside.rename(final.with_suffix(".idx"))
        sync_folder(self._folder)
        self._path, self._entries, self._offset = self._beside(), {}, 12
        return final.name

    def discard(self) -> None:
        """Drop what was not published."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(".idx").unlink(missing_ok=True)


def _entry_header(kind: int, size: int) -> bytes:
    first = (kind << 4) | (size & 0x0F)
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first = size & 0x7F
        size >>= 7
    out.append(first)
    return bytes(out)


def _distance(back: int) -> bytes:
    """How far before itself a delta's base begins, as packs write it."""
    out = bytearray([back & 0x7F])
    while back := back >> 7:
        back -= 1
        out.insert(0, 0x80 | (back & 0x7F))
    return bytes(out)


def sweep(repository: Path) -> None:
    """Make good what an interrupted writer left; the caller holds the writer's lock.

    What was on its way is removed. A pack whose index did not come any more gets it.
    """
    sweep_files(repository)
    for folder in (repository / "objects", repository / "objects" / "pack"):
        if folder.is_dir():
            for path in folder.iterdir():
                if path.name.startswith(_LEFTOVERS):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
    for pack in (repository / "objects" / "pack").glob("pack-*.pack"):
        if not pack.with_suffix(".idx").exists():
            _index_again(pack)


def _index_again(pack: Path) -> None:
    """Give a pack its index. The pack came first and whole, and may be all there is of its objects, so
    it is never removed; left alone it would be no use to anybody, and verify would tell of it for ever.
    """
    beside = pack.with_name(f"tmp_pack_{secrets.token_hex(8)}.idx")
    try:
        with closed_after(PackData(str(pack), SHA1)) as data:
            data.check()
            entries, checksum = data.sorted_entries(), data.get_stored_checksum()
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as index:
            write_pack_index_v2(index, entries, checksum)
            index.flush()
            os.fsync(index.fileno())
        beside.rename(pack.with_suffix(".idx"))
        sync_folder(pack.parent)
    except (OSError, MemoryError):
        beside.unlink(missing_ok=True)
        raise
    except Exception as error:  # noqa: BLE001 - damage raises anything, and verify tells of it
        _log.warning("git.pack_without_index", file=pack.name, problem=f"{type(error).__name__}: {error}")


@contextmanager
def spool(objects: Path) -> Iterator[BinaryIO]:
    """A file beside the packs for a pack that is on its way; removed at the end."""
    (objects / "pack").mkdir(mode=0o700, parents=True, exist_ok=True)
    path = objects / "pack" / f"tmp_pack_{secrets.token_hex(8)}"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as stream:
        try:
            yield stream
        finally:
            path.unlink(missing_ok=True)


def receive(objects: Path, stream: BinaryIO, check: Callable[[DiskObjectStore, list[str]], None]) -> int:
    """Check the pack in `stream` (read from its beginning), complete it if thin, and publish it.

    Every object is hashed and every delta resolved in a quarantine beside the real objects; then
    `check` sees a store that holds both, and the ids that came. Only what passes is published.
    Returns the number of objects that came. Raises GitFailed where the pack is not what it should
    be, and whatever `check` raises.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    header = stream.read(12)
    if len(header) < 12 or header[:4] != b"PACK":
        raise GitFailed("the server sent something that is not a pack")
    count: int = struct.unpack(">L", header[8:])[0]
    # An entry takes at least a header byte and an empty zlib stream.
    if count > size // 9 + 1:
        raise GitFailed(f"the server's pack claims {count} objects in {size} bytes")
    if count == 0:
        return 0
    stream.seek(0)
    quarantine = objects / f"incoming-{secrets.token_hex(8)}"
    (quarantine / "pack").mkdir(mode=0o700, parents=True)
    (quarantine / "info").mkdir(mode=0o700)
    (quarantine / "info" / "alternates").write_bytes(os.fsencode(objects.resolve()) + b"\n")
    try:
        with closed_after(DiskObjectStore(str(quarantine))) as store:
            check(store, _index(store, stream))
        _publish(quarantine / "pack", objects / "pack")
    finally:
        shutil.rmtree(quarantine, ignore_errors=True)
    return count


def _index(store: DiskObjectStore, stream: BinaryIO) -> list[str]:
    try:
        pack = store.add_thin_pack(stream.read, None)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        kind = type(error).__name__
        raise GitFailed(f"the server's pack is damaged ({kind})") from error
    if pack is None:
        return []
    with pack:
        return [identifier.decode("ascii") for identifier in pack]


def _publish(source: Path, target: Path) -> None:
    # The index is what makes git look for a pack, so it comes last.
    for path in sorted(source.iterdir(), key=lambda path: path.suffix == ".idx"):
        path.chmod(0o600)
        with path.open("rb") as finished:
            os.fsync(finished.fileno())
        path.rename(target / path.name)
    sync_folder(target)
