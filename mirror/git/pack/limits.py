"""How much memory receiving a pack may take. What needs more goes through files."""

from __future__ import annotations

from dataclasses import dataclass

# What all workers together may use by default, in bytes.
MEMORY = 256 << 20

CACHE_BYTES = 48 << 20
SPILL_BYTES = 16 << 20
COLUMN_BYTES = 8 << 20
NAMES_PER_PASS = 1 << 20
PARALLEL_MIN_ENTRIES = 10_000
AHEAD_MIN_ENTRIES = 5_000


@dataclass(frozen=True)
class PackLimits:
    """Limits of receiving, indexing and merging packs.

    `cache_bytes`: contents that are kept while deltas depend on them, by all processes together.
    `spill_bytes`: larger contents are kept in temporary files. `column_bytes`: larger columns of the table of
    entries are kept in files. `names_per_pass`: object ids that are in memory at a time while an index is
    sorted or links are checked. `parallel_min_entries`: smaller packs are resolved in one process.
    `ahead_min_entries`: so many new entries are worth a process that resolves them while more arrive.

    The others hardly ever matter to anybody but tests. `stream_min_bytes`: larger entries are inflated as
    their bytes arrive. `gather_bytes`: bytes that are gathered before they are scanned. `piece_bytes`: bytes
    that are inflated at a time. `initial_entries`: room in the table of entries, however many a pack claims.
    `names_per_chunk`: object ids that are looked at in one step. `links_kept`: links that are in memory
    before they are written. `links_per_read`: links that are read at a time. `tree_marks_min_bytes`: smaller
    trees are always read whole.
    """

    cache_bytes: int = CACHE_BYTES
    spill_bytes: int = SPILL_BYTES
    column_bytes: int = COLUMN_BYTES
    names_per_pass: int = NAMES_PER_PASS
    parallel_min_entries: int = PARALLEL_MIN_ENTRIES
    ahead_min_entries: int = AHEAD_MIN_ENTRIES
    stream_min_bytes: int = 1 << 20
    gather_bytes: int = 1 << 18
    piece_bytes: int = 1 << 20
    initial_entries: int = 1 << 22
    names_per_chunk: int = 1 << 16
    links_kept: int = 100_000
    links_per_read: int = 50_000
    tree_marks_min_bytes: int = 2048

    @classmethod
    def for_memory(cls, memory: int) -> PackLimits:
        """Limits for a process that may use about `memory` bytes for the packs it receives.

        The interpreter itself comes on top, and what every pack takes however small it is.
        """
        return cls(
            cache_bytes=memory * 3 // 16,
            spill_bytes=memory // 16,
            column_bytes=memory // 32,
            names_per_pass=max(1, memory // 256),
        )


DEFAULT_LIMITS = PackLimits()
