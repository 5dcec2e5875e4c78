"""Faulty packs: each ends in a clear error, and changes nothing."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.git.bare import create
from mirror.git.failures import GitFailed
from mirror.git.pack import reader
from mirror.git.pack.delta import apply_delta_in_pieces
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from tests.git.backend import need_git
from tests.git.crafted import (
    BLOB,
    NAME_DELTA,
    OFFSET_DELTA,
    Crafted,
    back,
    copy,
    delta,
    files,
    header,
    insert,
    is_refused_by_git,
    name_of,
    number,
    receive,
)

pytestmark = pytest.mark.git
TEXT = b"some text that is long enough to be worth a delta\n" * 4
ZEROS = bytes(5_000_000)


def good() -> Crafted:
    pack = Crafted()
    first = pack.whole(BLOB, TEXT)
    pack.offset_delta(first, delta(len(TEXT), 20, copy(3, 20)))
    pack.name_delta(name_of(BLOB, TEXT), delta(len(TEXT), 3, insert(b"new")))
    return pack


def resealed(data: bytes) -> bytes:
    """The pack with a correct checksum."""
    return data + hashlib.sha1(data).digest()


def one(begin: bytes, deflated: bytes) -> bytes:
    """A pack whose last entry is this."""
    pack = good()
    pack.stream(begin, deflated)
    return pack.done()


def a_delta(content: bytes, *, by_name: bool = False) -> bytes:
    """A pack with a delta against TEXT."""
    pack = Crafted()
    first = pack.whole(BLOB, TEXT)
    if by_name:
        pack.name_delta(name_of(BLOB, TEXT), content)
    else:
        pack.offset_delta(first, content)
    return pack.done()


def a_distance(distance: int) -> bytes:
    pack = good()
    pack.raw(header(OFFSET_DELTA, 4) + back(distance), delta(1, 1, insert(b"x")))
    return pack.done()


def a_cycle() -> bytes:
    pack = Crafted()
    a, b = b"a" * 40, b"b" * 40
    pack.name_delta(name_of(BLOB, b), delta(40, 40, insert(a)))
    pack.name_delta(name_of(BLOB, a), delta(40, 40, insert(b)))
    return pack.done()


def itself(count: int = 1) -> bytes:
    """Deltas that make their own base again: a single one that refers to itself, and many in every order."""
    pack = Crafted()
    pack.whole(BLOB, TEXT)
    for _ in range(count):
        pack.name_delta(name_of(BLOB, TEXT), delta(len(TEXT), len(TEXT), copy(0, len(TEXT))))
    return pack.done()


def in_turn() -> bytes:
    """Two objects, each a delta of the other, and both also undeltified, so that both can be made."""
    pack = Crafted()
    a, b = b"a" * 40, b"b" * 40
    for this, that in ((a, b), (b, a)):
        pack.whole(BLOB, this)
        pack.name_delta(name_of(BLOB, this), delta(40, 40, insert(that)))
    return pack.done()


def ended(data: bytes, at: int) -> bytes:
    return data[:at]


PACK = good().done()
BODY = PACK[:-20]
BAD_ZLIB = zlib.compress(TEXT)
N = len(TEXT)

BAD: dict[str, tuple[bytes, str]] = {
    "nothing of a pack": (b"<html>no pack</html>" * 20, "not a pack"),
    "another version": (resealed(BODY[:4] + b"\0\0\0\4" + BODY[8:]), "not a pack of version 2"),
    "more than it says": (good().done(count=2), "follows its end"),
    "more than the none it says": (good().done(count=0), "follows its end"),
    "fewer than it says": (good().done(count=4), "unknown type|inflated|ends after 3 of 4"),
    "by far fewer": (good().done(count=0xFFFFFFFF), "unknown type|inflated|ends after 3 of 4294967295"),
    "none of many": (Crafted().done(count=0xFFFFFFFF), "unknown type|inflated|ends after 0"),
    "a wrong checksum": (BODY + bytes(20), "checksum"),
    "a bit of the checksum": (PACK[:-1] + bytes([PACK[-1] ^ 1]), "checksum"),
    "garbage after the end": (good().done(after=b"x"), "follows its end"),
    "much garbage after the end": (good().done(after=bytes(600_000)), "follows its end"),
    "another pack after the end": (PACK + PACK, "follows its end"),
    "no zlib": (one(header(BLOB, 5), b"\xffhello, hello, hello"), "cannot be inflated"),
    "a bad header of zlib": (one(header(BLOB, N), b"\x78\x00" + BAD_ZLIB[2:]), "cannot be inflated"),
    "a window that is too large": (one(header(BLOB, N), b"\x88\x1c" + BAD_ZLIB[2:]), "cannot be inflated"),
    "a dictionary": (one(header(BLOB, N), b"\x78\xbb\0\0\0\1" + BAD_ZLIB[2:]), "cannot be inflated"),
    "a bad block": (one(header(BLOB, 5), b"\x78\x9c\x07" + bytes(40)), "cannot be inflated"),
    "a bad sum of zlib": (one(header(BLOB, N), BAD_ZLIB[:-1] + bytes([BAD_ZLIB[-1] ^ 1])), "be inflated"),
    "a stream that does not end": (one(header(BLOB, N), BAD_ZLIB[:-6]), "inflated|larger than it states"),
    "larger than it says": (one(header(BLOB, N - 1), BAD_ZLIB), "larger than it states"),
    "smaller than it says": (one(header(BLOB, N + 1), BAD_ZLIB), "smaller than it states"),
    "a bomb": (one(header(BLOB, 10), zlib.compress(ZEROS)), "larger than it states"),
    "a large bomb": (one(header(BLOB, 2_000_000), zlib.compress(ZEROS)), "larger than it states"),
    "large and too small": (one(header(BLOB, 6_000_000), zlib.compress(ZEROS)), "smaller than it states"),
    "large and bad": (one(header(BLOB, 5_000_000), zlib.compress(ZEROS)[:-1] + b"\0"), "be inflated"),
    "large and cut": (one(header(BLOB, 5_000_000), zlib.compress(ZEROS)[:900]), "inflated|ends after 3 of 4"),
    "of kind 0": (one(header(0, N), BAD_ZLIB), r"unknown type \(0\)"),
    "of kind 5": (one(header(5, N), BAD_ZLIB), r"unknown type \(5\)"),
    "an absurd size": (one(header(BLOB, 1 << 60), BAD_ZLIB), "impossible size"),
    "an endless size": (one(b"\xb0" + b"\x80" * 400 + b"\1", BAD_ZLIB), "impossible size|follows its end"),
    "a base before the pack": (a_distance(5000), "outside of the pack"),
    "a base in the pack's header": (a_distance(len(BODY) - 4), "outside of the pack"),
    "a base by an endless distance": (
        one(header(OFFSET_DELTA, 4) + b"\xff" * 40 + b"\1", BAD_ZLIB),
        "outside of the pack",
    ),
    "itself as a base": (one(header(OFFSET_DELTA, 4) + b"\0", BAD_ZLIB), "outside of the pack"),
    "a base within an object": (a_distance(len(BODY) - 14), "does not start an entry"),
    "a base within its neighbour": (a_distance(2), "does not start an entry"),
    "bases in a cycle": (a_cycle(), "delta bases of 2 entries are missing"),
    "a base that nobody has": (
        resealed(b"PACK\0\0\0\2\0\0\0\1" + header(NAME_DELTA, 4) + b"\7" * 20 + zlib.compress(b"\1\1\1x")),
        "delta bases of 1 entries are missing",
    ),
    "what makes itself": (itself(), "more than once"),
    "what makes itself forty times": (itself(40), "more than once"),
    "what makes each other": (in_turn(), "more than once"),
    "a base of another size": (a_delta(delta(N + 1, 3, copy(0, 3))), "invalid|another size"),
    "a base of another size, by name": (
        a_delta(delta(N - 1, 3, copy(0, 3)), by_name=True),
        "invalid|another size",
    ),
    "a result that is larger": (a_delta(delta(N, 2, copy(0, 3))), "invalid|another size"),
    "a result that is smaller": (a_delta(delta(N, 4, copy(0, 3))), "invalid|another size"),
    "a result that fills the disk": (a_delta(delta(N, 9, *[copy(0, N)] * 5000)), "invalid|another size"),
    "a result of an impossible size": (a_delta(delta(N, 1 << 50, copy(0, 3))), "impossible size"),
    "a base of an impossible size": (a_delta(delta(1 << 50, 3, copy(0, 3))), "impossible size"),
    "an endless size in a delta": (a_delta(b"\xff" * 100_000 + b"\1"), "impossible size"),
    "instruction 0": (a_delta(delta(N, 3, copy(0, 3), b"\0")), "invalid"),
    "a last copy from beyond the base": (a_delta(delta(N, 3, copy(0, 3), copy(5 * N, 9))), "invalid"),
    "a last copy too many": (a_delta(delta(N, 3, copy(0, 3), copy(0, 3))), "invalid|another size"),
    "a delta that makes nothing": (a_delta(delta(N, 0)), "truncated"),
    "only instruction 0": (a_delta(delta(N, 3, b"\0\0\0")), "invalid"),
    "a copy from beyond the base": (a_delta(delta(N, 3, copy(N - 2, 3))), "invalid"),
    "a copy from far beyond": (a_delta(delta(N, 3, copy(0xFFFFFFF0, 3))), "invalid"),
    "a delta cut in an insertion": (
        a_delta(delta(N, 9, insert(b"123456789"))[:-1]),
        "invalid|truncated",
    ),
    "a delta cut in a copy": (a_delta(delta(N, 3, copy(300, 3))[:-1]), "invalid|truncated"),
    "a delta of nothing": (a_delta(b""), "truncated"),
    "a delta of one size": (a_delta(number(N)), "truncated"),
    "a delta of half a size": (a_delta(b"\xc8"), "truncated"),
}
for at in (0, 3, 4, 11, 12, 13, 20, 40, len(BODY) - 1, len(BODY), len(BODY) + 1, len(PACK) - 1):
    BAD[f"cut after {at} of {len(PACK)} bytes"] = (PACK[:at], "ends after|truncated|inflated|unknown type")
    if at > 12 and at != len(BODY):
        BAD[f"cut after {at} bytes and sealed"] = (resealed(PACK[:at]), "damaged")
# C git passes what follows a pack to the next reader; we have none.
FINE_WITH_GIT = {why for why in BAD if "after the end" in why}


def refused(
    path: Path,
    data: bytes,
    text: str,
    *,
    processes: int = 1,
    sizes: tuple[int, ...] = (),
    limits: PackLimits = DEFAULT_LIMITS,
) -> None:
    """Receiving `data` leaves nothing, and the error contains `text`."""
    create(path)
    before = files(path)
    with pytest.raises(GitFailed, match=text) as caught:
        receive(path, data, sizes, processes=processes, limits=limits)
    assert caught.value.message.startswith(("the server's pack is damaged: ", "the server left out "))
    assert files(path) == before


@pytest.mark.parametrize("why", BAD)
def test_a_malformed_pack_is_refused(tmp_path: Path, why: str) -> None:
    need_git()
    data, text = BAD[why]
    assert is_refused_by_git(tmp_path / "git.git", data) == (why not in FINE_WITH_GIT)
    refused(tmp_path / "m.git", data, text)
    refused(tmp_path / "m.git", data, text, sizes=(1,) * 3000)


WAYS = {
    "in files": PackLimits(spill_bytes=2),
    "in pieces": PackLimits(stream_min_bytes=2, gather_bytes=1),
    "in processes": PackLimits(parallel_min_entries=1, ahead_min_entries=1, gather_bytes=1),
}


@pytest.mark.parametrize("why", BAD)
@pytest.mark.parametrize("how", WAYS)
def test_a_malformed_pack_is_refused_in_every_way(tmp_path: Path, why: str, how: str) -> None:
    data, text = BAD[why]
    refused(tmp_path / "m.git", data, text, processes=2, sizes=(20,) * 100, limits=WAYS[how])


def test_a_delta_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the data is larger than its stated size, Mirror does not write it to its end."""
    pieces = []

    def counted(*words: Any) -> Iterator[bytes]:
        for piece in apply_delta_in_pieces(*words):
            pieces.append(piece)
            yield piece

    monkeypatch.setattr(reader, "apply_delta_in_pieces", counted)
    data, _ = BAD["a result that fills the disk"]
    refused(tmp_path / "m.git", data, "another size", limits=PackLimits(spill_bytes=2))
    assert 0 < len(pieces) < 3


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    for at in range(len(PACK)):
        data = bytearray(PACK)
        data[at] ^= 1 << random.Random(at).randrange(8)
        refused(tmp_path / "m.git", bytes(data), "damaged")
    for at in range(12, len(BODY)):  # with a correct checksum it is another pack, or not a pack
        data = bytearray(BODY)
        data[at] ^= 1 << random.Random(at).randrange(8)
        try:
            receive(tmp_path / f"{at}.git", resealed(bytes(data)))
        except GitFailed:
            continue
        assert not is_refused_by_git(tmp_path / f"git-{at}.git", resealed(bytes(data)))
