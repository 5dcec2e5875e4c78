"""Writing packs entry by entry."""

from __future__ import annotations

import zlib
from array import array
from pathlib import Path
from typing import BinaryIO

from mirror.fs.durable import create_file, sync_stream
from mirror.git.objects import hash_object
from mirror.git.pack.format import HEADER_BYTES, entry_header, ofs_delta_header, pack_header
from mirror.git.pack.index import write_index
from mirror.git.pack.publish import discard_pack, new_pack_path, publish, seal


class PackWriter:
    """Writes objects that we make ourselves into one new pack in the object folder `objects`.

    Memory holds some 150 bytes for each object, never their content.
    """

    def __init__(self, objects: Path) -> None:
        self._folder = objects / "pack"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file: BinaryIO | None = None
        self._begin()

    def _begin(self) -> None:
        self._path = new_pack_path(self._folder)
        self._places: dict[bytes, int] = {}
        # The columns of the index.
        self.oids, self.offsets, self.crcs = bytearray(), array("Q"), array("I")
        self._end = HEADER_BYTES

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, type_num: int, content: bytes) -> str:
        """Add an object; returns its id."""
        oid = hash_object(type_num, content)
        if oid not in self._places:
            self._write(oid, entry_header(type_num, len(content)) + zlib.compress(content, 6))
        return oid.hex()

    def add_delta(self, identifier: str, delta: bytes, base: str) -> None:
        """Add the object `identifier` as a delta on `base`, which was added before it."""
        oid, base_offset = bytes.fromhex(identifier), self.offsets[self._places[bytes.fromhex(base)]]
        if oid not in self._places:
            header = ofs_delta_header(len(delta), self._end - base_offset)
            self._write(oid, header + zlib.compress(delta, 6))

    def has(self, identifier: str) -> bool:
        """Whether an object was added."""
        return bytes.fromhex(identifier) in self._places

    def _write(self, oid: bytes, entry: bytes) -> None:
        if self._file is None:
            self._file = create_file(self._path)
            self._file.write(pack_header(0))
        self._file.write(entry)
        self._places[oid] = len(self)
        self.oids += oid
        self.offsets.append(self._end)
        self.crcs.append(zlib.crc32(entry))
        self._end += len(entry)

    def publish(self) -> str:
        """Make the pack part of the repository, durably; returns its name without suffix, which is empty
        where nothing was added."""
        if self._file is None:
            return ""
        checksum = seal(self._file, len(self), self._end)
        sync_stream(self._file)
        self._file.close()
        self._file = None
        write_index(self._path.with_suffix(".idx"), self, checksum)
        name = publish(self._path, checksum)
        self._begin()
        return name

    def discard(self) -> None:
        """Drop what was not published."""
        if self._file is not None:
            self._file.close()
            self._file = None
        discard_pack(self._path)
