"""A seal vouches for every byte of its file, wherever in the file its key stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import dumps
from mirror.store.format.seal import has_valid_seal, seal_fault, sealed

_KEYS = st.text(max_size=4) | st.sampled_from(["a", "sum", "zone", '\n  "sum": "'])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS.filter(lambda key: key != "sum"), _VALUES, max_size=5), st.data())
def test_it_holds_for_what_was_written_and_for_nothing_else(
    value: dict[str, object], data: st.DataObject
) -> None:
    written = sealed(value)
    assert seal_fault(written) is None
    assert has_valid_seal(written) is bool(value)  # of an empty object only a parser can tell
    at = data.draw(st.integers(0, len(written) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    changed = bytes([*written[:at], written[at] ^ bit, *written[at + 1 :]])
    for damaged in (changed, written[:at], written + written[at:], written[at:]):
        if damaged != written:
            assert not has_valid_seal(damaged)
            assert seal_fault(damaged) is not None


@pytest.mark.parametrize("key", ["a", "zone"])
def test_a_second_seal_and_a_seal_of_an_inner_object_vouch_for_nothing(key: str) -> None:
    written = sealed({key: 1})
    line = written[written.index(b'  "sum"') :].partition(b"\n")[0].rstrip(b",") + b",\n"
    twice = written.replace(b"{\n", b"{\n" + line, 1)
    inner = dumps({key: {"sum": sealed({key: 1}).decode()}})
    for data in (twice, inner):
        assert not has_valid_seal(data)
        assert seal_fault(data) is not None
