"""Packs that are not what they should be: each ends in a clear error, and nothing is changed."""

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
from mirror.git.pack import resolver, scanner
from mirror.git.pack.delta import applied
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
    """With a checksum that fits."""
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
    """Deltas that make their own base again: each from itself for ever, many together in every order."""
    pack = Crafted()
    pack.whole(BLOB, TEXT)
    for _ in range(count):
        pack.name_delta(name_of(BLOB, TEXT), delta(len(TEXT), len(TEXT), copy(0, len(TEXT))))
    return pack.done()


def in_turn() -> bytes:
    """Two objects, each made from the other, and both there as a whole, so that both can be made."""
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
    "fewer than it says": (good().done(count=4), "no known kind|inflated|ends after 3 of 4"),
    "by far fewer": (good().done(count=0xFFFFFFFF), "no known kind|inflated|ends after 3 of 4294967295"),
    "none of many": (Crafted().done(count=0xFFFFFFFF), "no known kind|inflated|ends after 0"),
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
    "a stream that does not end": (one(header(BLOB, N), BAD_ZLIB[:-6]), "inflated|larger than it says"),
    "larger than it says": (one(header(BLOB, N - 1), BAD_ZLIB), "larger than it says"),
    "smaller than it says": (one(header(BLOB, N + 1), BAD_ZLIB), "smaller than it says"),
    "a bomb": (one(header(BLOB, 10), zlib.compress(ZEROS)), "larger than it says"),
    "a large bomb": (one(header(BLOB, 2_000_000), zlib.compress(ZEROS)), "larger than it says"),
    "large and too small": (one(header(BLOB, 6_000_000), zlib.compress(ZEROS)), "smaller than it says"),
    "large and bad": (one(header(BLOB, 5_000_000), zlib.compress(ZEROS)[:-1] + b"\0"), "be inflated"),
    "large and cut": (one(header(BLOB, 5_000_000), zlib.compress(ZEROS)[:900]), "inflated|ends after 3 of 4"),
    "of kind 0": (one(header(0, N), BAD_ZLIB), r"no known kind \(0\)"),
    "of kind 5": (one(header(5, N), BAD_ZLIB), r"no known kind \(5\)"),
    "an absurd size": (one(header(BLOB, 1 << 60), BAD_ZLIB), "absurd size"),
    "an endless size": (one(b"\xb0" + b"\x80" * 400 + b"\1", BAD_ZLIB), "absurd size|follows its end"),
    "a base before the pack": (a_distance(5000), "outside of the pack"),
    "a base in the pack's header": (a_distance(len(BODY) - 4), "outside of the pack"),
    "a base by an endless distance": (
        one(header(OFFSET_DELTA, 4) + b"\xff" * 40 + b"\1", BAD_ZLIB),
        "outside of the pack",
    ),
    "itself as a base": (one(header(OFFSET_DELTA, 4) + b"\0", BAD_ZLIB), "outside of the pack"),
    "a base within an object": (a_distance(len(BODY) - 14), "made from what is no object"),
    "a base within its neighbour": (a_distance(2), "made from what is no object"),
    "bases in a cycle": (a_cycle(), "2 of its deltas are made from objects that nobody has"),
    "a base that nobody has": (
        resealed(b"PACK\0\0\0\2\0\0\0\1" + header(NAME_DELTA, 4) + b"\7" * 20 + zlib.compress(b"\1\1\1x")),
        "1 of its deltas are made from objects that nobody has",
    ),
    "what makes itself": (itself(), "more than once"),
    "what makes itself forty times": (itself(40), "more than once"),
    "what makes each other": (in_turn(), "more than once"),
    "a base of another size": (a_delta(delta(N + 1, 3, copy(0, 3))), "does not fit|another size"),
    "a base of another size, by name": (
        a_delta(delta(N - 1, 3, copy(0, 3)), by_name=True),
        "does not fit|another size",
    ),
    "a result that is larger": (a_delta(delta(N, 2, copy(0, 3))), "does not fit|another size"),
    "a result that is smaller": (a_delta(delta(N, 4, copy(0, 3))), "does not fit|another size"),
    "a result that fills the disk": (a_delta(delta(N, 9, *[copy(0, N)] * 5000)), "does not fit|another size"),
    "a result of an absurd size": (a_delta(delta(N, 1 << 50, copy(0, 3))), "absurd size"),
    "a base of an absurd size": (a_delta(delta(1 << 50, 3, copy(0, 3))), "absurd size"),
    "an endless size in a delta": (a_delta(b"\xff" * 100_000 + b"\1"), "absurd size"),
    "instruction 0": (a_delta(delta(N, 3, copy(0, 3), b"\0")), "fit its base|instruction that there is not"),
    "a last copy from beyond the base": (a_delta(delta(N, 3, copy(0, 3), copy(5 * N, 9))), "fit its base"),
    "a last copy too many": (a_delta(delta(N, 3, copy(0, 3), copy(0, 3))), "fit its base|another size"),
    "a delta that makes nothing": (a_delta(delta(N, 0)), "cut short"),
    "only instruction 0": (a_delta(delta(N, 3, b"\0\0\0")), "fit its base|instruction that there is not"),
    "a copy from beyond the base": (a_delta(delta(N, 3, copy(N - 2, 3))), "does not fit its base"),
    "a copy from far beyond": (a_delta(delta(N, 3, copy(0xFFFFFFF0, 3))), "does not fit its base"),
    "a delta cut in an insertion": (
        a_delta(delta(N, 9, insert(b"123456789"))[:-1]),
        "fit its base|cut short",
    ),
    "a delta cut in a copy": (a_delta(delta(N, 3, copy(300, 3))[:-1]), "fit its base|cut short"),
    "a delta of nothing": (a_delta(b""), "cut short"),
    "a delta of one size": (a_delta(number(N)), "cut short"),
    "a delta of half a size": (a_delta(b"\xc8"), "cut short"),
}
for at in (0, 3, 4, 11, 12, 13, 20, 40, len(BODY) - 1, len(BODY), len(BODY) + 1, len(PACK) - 1):
    BAD[f"cut after {at} of {len(PACK)} bytes"] = (PACK[:at], "ends after|cut short|inflated|no known kind")
    if at > 12 and at != len(BODY):
        BAD[f"cut after {at} bytes and sealed"] = (resealed(PACK[:at]), "damaged")
# C git hands what follows a pack to whoever reads on; to us nobody does.
FINE_WITH_GIT = {why for why in BAD if "after the end" in why}


def refused(path: Path, data: bytes, text: str, *, processes: int = 1, sizes: tuple[int, ...] = ()) -> None:
    """Nothing is left of `data`, but an error that says `text`."""
    create(path)
    before = files(path)
    with pytest.raises(GitFailed, match=text) as caught:
        receive(path, data, sizes, processes=processes)
    assert caught.value.message.startswith(("the server's pack is damaged: ", "the server left out "))
    assert files(path) == before


@pytest.mark.parametrize("why", BAD)
def test_a_malformed_pack_is_refused(tmp_path: Path, why: str) -> None:
    need_git()
    data, text = BAD[why]
    assert is_refused_by_git(tmp_path / "git.git", data) == (why not in FINE_WITH_GIT)
    refused(tmp_path / "m.git", data, text)
    refused(tmp_path / "m.git", data, text, sizes=(1,) * 3000)


@pytest.mark.parametrize("why", BAD)
@pytest.mark.parametrize("how", ["in files", "in pieces", "in processes"])
def test_a_malformed_pack_is_refused_in_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str, how: str
) -> None:
    data, text = BAD[why]
    if how == "in files":
        monkeypatch.setattr(resolver, "LARGE", 2)
    elif how == "in pieces":
        monkeypatch.setattr(scanner, "WHOLE_MAX", 2)
        monkeypatch.setattr(scanner, "_GATHERED", 1)
    else:
        monkeypatch.setattr(resolver, "SHARE_FROM", 1)
        monkeypatch.setattr(resolver, "AHEAD_FROM", 1)
        monkeypatch.setattr(scanner, "_GATHERED", 1)
    refused(tmp_path / "m.git", data, text, processes=2, sizes=(20,) * 100)


def test_a_delta_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than it says is not written to its end."""
    monkeypatch.setattr(resolver, "LARGE", 2)
    pieces = []

    def counted(*words: Any) -> Iterator[bytes]:
        for piece in applied(*words):
            pieces.append(piece)
            yield piece

    monkeypatch.setattr(resolver, "applied", counted)
    refused(tmp_path / "m.git", BAD["a result that fills the disk"][0], "another size")
    assert 0 < len(pieces) < 3


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    for at in range(len(PACK)):
        data = bytearray(PACK)
        data[at] ^= 1 << random.Random(at).randrange(8)
        refused(tmp_path / "m.git", bytes(data), "damaged")
    for at in range(12, len(BODY)):  # with a checksum that fits it is another pack, or none
        data = bytearray(BODY)
        data[at] ^= 1 << random.Random(at).randrange(8)
        try:
            receive(tmp_path / f"{at}.git", resealed(bytes(data)))
        except GitFailed:
            continue
        assert not is_refused_by_git(tmp_path / f"git-{at}.git", resealed(bytes(data)))
