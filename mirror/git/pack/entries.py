"""The table of a received pack's entries, in columns that forked processes share."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path

from mirror.git.pack.format import HEADER_BYTES
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits

# No entry: the place of the delta base of an entry that has none, or none that is known yet.
NONE = 0xFFFFFFFF


class EntryTable:
    """What is known of each entry, in the order of the pack. Object ids of deltas are filled in later.

    The columns are shared memory, or unnamed files in `folder` where they are larger than
    `limits.column_bytes`. Sixty bytes or so are held for each entry.
    """

    # Name, format code as in `memoryview.cast`, and bytes for each entry.
    _COLUMNS = (
        ("offsets", "Q", 8),
        ("starts", "Q", 8),  # where the compressed content begins
        ("sizes", "Q", 8),  # of the content once inflated
        ("crcs", "I", 4),
        ("bases", "I", 4),  # the place of the delta base; NONE: undeltified, or a ref-delta not resolved yet
        ("types", "B", 1),
        ("done", "B", 1),  # 1: its links were recorded
        ("oids", "B", 20),  # object ids
    )
    offsets: memoryview
    starts: memoryview
    sizes: memoryview
    crcs: memoryview
    bases: memoryview
    types: memoryview
    done: memoryview
    oids: memoryview

    def __init__(self, folder: Path, limits: PackLimits = DEFAULT_LIMITS) -> None:
        self._folder, self._limits = folder, limits
        self._maps: dict[str, mmap.mmap] = {}
        self.room = 0  # how many entries the columns have room for
        self.count = 0
        self.end = HEADER_BYTES
        self.ref_deltas: dict[bytes, list[int]] = {}  # unresolved ref-deltas by the object id of their base

    def __len__(self) -> int:
        return self.count

    def grow(self, claimed: int) -> None:
        """Make room for `claimed` entries, or for some of them. Running processes do not share it."""
        room = min(max(claimed, 1), max(self._limits.initial_entries, 2 * self.room))
        for name, code, width in self._COLUMNS:
            old = self._maps.get(name)
            new = self._map(room * width)
            if old is not None:
                getattr(self, name).release()
                new[: self.count * width] = old[: self.count * width]
                old.close()
            self._maps[name] = new
            setattr(self, name, memoryview(new).cast(code))  # type: ignore[call-overload]
        self.room = room

    def _map(self, size: int) -> mmap.mmap:
        if size <= self._limits.column_bytes:
            return mmap.mmap(-1, size)
        with tempfile.TemporaryFile(prefix="tmp_pack_", dir=self._folder) as stream:
            stream.truncate(size)
            return mmap.mmap(stream.fileno(), size)

    def close(self) -> None:
        """Release the columns."""
        for name, column in self._maps.items():
            getattr(self, name).release()
            column.close()
        self._maps.clear()

    def oid(self, at: int) -> bytes:
        """The object id (20 bytes) of an entry."""
        return bytes(self.oids[20 * at : 20 * at + 20])

    def add(self, type_num: int, offset: int, start: int, size: int, crc: int, oid: bytes) -> int:
        """Append an entry; returns its place."""
        at = self.count
        if at == self.room:
            self.grow(2 * self.room + 1)
        self.types[at] = type_num
        self.offsets[at] = offset
        self.starts[at] = start
        self.sizes[at] = size
        self.crcs[at] = crc
        self.bases[at] = NONE
        self.oids[20 * at : 20 * at + 20] = oid
        self.count = at + 1
        return at

    def stop_of(self, at: int) -> int:
        """Where an entry ends."""
        return self.offsets[at + 1] if at + 1 < self.count else self.end
