"""How an entry of a pack begins: its kind and size, and how far before itself a delta's base is; and what
a delta makes of its base."""

from __future__ import annotations

import mmap

from dulwich.errors import ApplyDeltaError
from dulwich.pack import apply_delta

# C git refuses deltas that are shorter.
DELTA_MIN = 4
# An instruction to copy what no base has. dulwich stops in silence before such a one, also where it is the
# last of a delta, which C git refuses. With this behind it, it is not the last, and dulwich raises.
_IMPOSSIBLE = b"\xff" * 8


def _is_strict() -> bool:
    """Whether dulwich raises there by itself, as it may one day."""
    try:
        apply_delta(b"x", b"\x01\x01\x90\x01" + _IMPOSSIBLE)
    except ApplyDeltaError:
        return True
    return False


_BEHIND = b"" if _is_strict() else _IMPOSSIBLE


class PackDamaged(Exception):
    """The file is not what its format says; the text says where."""


def read_header(data: bytes | mmap.mmap, offset: int) -> tuple[int, int, int]:
    """The kind and size of the entry at `offset` of a pack, and where what follows begins.

    Raises PackDamaged and IndexError.
    """
    at = offset
    byte = data[at]
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        at += 1
        byte = data[at]
        size |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise PackDamaged(f"the size of the object at {offset} has no end")
    return kind, size, at + 1


def read_distance(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """How far before a delta its base is, as told at `at`, and where the delta's bytes begin.

    Raises PackDamaged and IndexError.
    """
    byte = data[at]
    distance = byte & 0x7F
    while byte & 0x80:
        at += 1
        byte = data[at]
        distance = (distance + 1 << 7) | (byte & 0x7F)
        if distance > len(data):
            raise PackDamaged("a delta points outside of the pack")
    return distance, at + 1


def header(kind: int, size: int) -> bytes:
    """What `read_header` reads."""
    first = (kind << 4) | (size & 0x0F)
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first = size & 0x7F
        size >>= 7
    out.append(first)
    return bytes(out)


def distance(back: int) -> bytes:
    """What `read_distance` reads."""
    out = bytearray([back & 0x7F])
    while back := back >> 7:
        back -= 1
        out.insert(0, 0x80 | (back & 0x7F))
    return bytes(out)


def applied(base: bytes, delta: bytes) -> bytes:
    """What `delta` makes of `base`. Raises PackDamaged for whatever C git refuses."""
    if len(delta) < DELTA_MIN:
        raise PackDamaged("its delta is cut short")
    try:
        return b"".join(apply_delta(base, delta + _BEHIND))
    except Exception as error:
        raise PackDamaged(f"its delta is no delta of its base: {error}") from error
