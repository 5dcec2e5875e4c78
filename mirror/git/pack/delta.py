"""What a delta's instructions make of its base."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from mirror.git.pack.format import DELTA_MIN
from mirror.git.pack.scanner import SIZE_MAX, PackDamaged

# What a delta is made of or makes: in memory, or mapped from a file where it is large.
Content = bytes | mmap.mmap


def sizes_of(delta: Content, offset: int) -> tuple[int, int, int]:
    """The sizes of base and result that a delta states, and where its instructions begin.

    Raises PackDamaged, which names the `offset` of the entry.
    """
    if len(delta) < DELTA_MIN:
        raise PackDamaged(f"the delta at {offset} is cut short")
    try:
        byte = delta[0]
        at, base, shift = 1, byte & 0x7F, 7
        while byte & 0x80 and shift < 70:
            byte = delta[at]
            at += 1
            base |= (byte & 0x7F) << shift
            shift += 7
        endless = byte & 0x80
        byte = delta[at]
        at += 1
        result, shift = byte & 0x7F, 7
        while byte & 0x80 and shift < 70:
            byte = delta[at]
            at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
    except IndexError:
        raise PackDamaged(f"the delta at {offset} is cut short") from None
    if endless or byte & 0x80 or max(base, result) > SIZE_MAX:
        raise PackDamaged(f"the delta at {offset} claims an absurd size")
    return base, result, at


def copied(delta: Content, code: int, at: int) -> tuple[int, int, int]:
    """What the copying instruction `code`, whose operands are at `at`, copies: from where and how much;
    and where the next instruction is. Raises IndexError where the delta is cut."""
    source = size = 0
    if code & 0x01:
        source = delta[at]
        at += 1
    if code & 0x02:
        source |= delta[at] << 8
        at += 1
    if code & 0x04:
        source |= delta[at] << 16
        at += 1
    if code & 0x08:
        source |= delta[at] << 24
        at += 1
    if code & 0x10:
        size = delta[at]
        at += 1
    if code & 0x20:
        size |= delta[at] << 8
        at += 1
    if code & 0x40:
        size |= delta[at] << 16
        at += 1
    return source, size or 0x10000, at


def applied(base: Content, delta: Content, at: int, offset: int) -> Iterator[bytes]:
    """What the instructions of a delta from `at` on make of `base`, piece by piece.

    Raises PackDamaged, which names the `offset` of the entry.
    """
    end = len(delta)
    try:
        while at < end:
            code = delta[at]
            at += 1
            if code & 0x80:
                place, size, at = copied(delta, code, at)
                if place + size > len(base):
                    raise PackDamaged(f"the delta at {offset} does not fit its base")
                yield base[place : place + size]
            elif code:
                if at + code > end:
                    raise PackDamaged(f"the delta at {offset} is cut short")
                yield delta[at : at + code]
                at += code
            else:
                raise PackDamaged(f"the delta at {offset} has an instruction that there is not")
    except IndexError:
        raise PackDamaged(f"the delta at {offset} is cut short") from None
