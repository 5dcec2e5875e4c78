"""Canonical JSON: one text for each value, without loss of a server's text."""

from __future__ import annotations

import json
import pickle
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import Number, dumps, loads
from mirror.model.canonical import BYTES_MAX, DEPTH_MAX, NotCanonical

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=20).filter(
        lambda text: text == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
# Numbers as in RFC 8259.
digits = st.text("0123456789", min_size=1, max_size=30)
numbers = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    st.sampled_from(["", "-"]),
    st.just("0")
    | st.builds(lambda first, rest: first + rest, st.sampled_from("123456789"), digits | st.just("")),
    st.just("") | digits.map(lambda text: "." + text),
    st.just("")
    | st.builds(
        lambda e, sign, text: e + sign + text, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), digits
    ),
)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@settings(derandomize=True, max_examples=300)
@given(values)
def test_reading_and_writing_again_gives_the_same_bytes(value: Any) -> None:
    data = dumps(value)
    assert dumps(loads(data)) == data
    assert loads(data) == value
    assert data.endswith(b"\n")
    assert not data.endswith(b"\n\n")


@settings(derandomize=True, max_examples=200)
@given(values)
def test_the_text_is_json_for_everybody(value: Any) -> None:
    assert json.loads(dumps(value)) == value


@settings(derandomize=True, max_examples=200)
@given(st.dictionaries(st.text(max_size=5), values, max_size=6), st.randoms(use_true_random=False))
def test_equal_objects_are_equal_bytes_whatever_their_order(value: dict[str, Any], random: Any) -> None:
    keys = list(value)
    random.shuffle(keys)
    assert dumps({key: value[key] for key in keys}) == dumps(value)
    assert dumps(loads(json.dumps({key: value[key] for key in keys}, indent=None))) == dumps(value)


@settings(derandomize=True, max_examples=500)
@given(numbers)
def test_numbers_keep_their_source_text(text: str) -> None:
    assert dumps(loads(text)) == text.encode() + b"\n"
    assert dumps(loads(f'{{"n": [{text}]}}')) == f'{{\n  "n": [\n    {text}\n  ]\n}}\n'.encode()


@pytest.mark.parametrize(
    "text", ["1.10", "1e400", "-1e400", "-0", "-0.0", "1E5", "1e+05", pytest.param("9" * 5000, id="long")]
)
def test_numbers_that_python_would_write_otherwise_keep_their_text(text: str) -> None:
    assert dumps(loads(text)) == text.encode() + b"\n"
    assert dumps(pickle.loads(pickle.dumps(loads(text)))) == text.encode() + b"\n"


def test_a_number_is_still_a_number() -> None:
    value = loads("1.10")
    assert isinstance(value, Number)
    assert value == 1.1
    assert value + 1 == 2.1
    assert isinstance(loads("12"), int)


def test_the_form_is_the_documented_one() -> None:
    text = '{"b":[1,{},[]],"a":{"ä":"\\u00e4\\/\\u0007\\ud800","":null},"B":true}'
    assert dumps(loads(text)).decode() == (
        '{\n  "B": true,\n  "a": {\n    "": null,\n    "ä": "ä/\\u0007\\ud800"\n  },\n'
        '  "b": [\n    1,\n    {},\n    []\n  ]\n}\n'
    )


def test_lone_surrogates_stay_escaped_and_pairs_become_their_character() -> None:
    assert dumps(loads(b'"\\ud800"')) == b'"\\ud800"\n'
    assert dumps(loads(b'{"\\udfff": "x\\ud83dy"}')) == b'{\n  "\\udfff": "x\\ud83dy"\n}\n'
    assert dumps(loads(b'"\\ud83d\\ude00"')) == '"😀"\n'.encode()
    with pytest.raises(NotCanonical, match="split"):
        dumps("\ud83d" + "\ude00")


def test_a_byte_order_mark_is_no_part_of_the_value() -> None:
    assert loads(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize(
    "text",
    [
        b"NaN", b"Infinity", b"-Infinity", b'{"a": NaN}', b'{"a": 1, "a": 1}', b'[{"a": {"b": 1, "b": 2}}]',
        b"",
        b"01", b"1.", b".5", b"+1", b"1 2", b"[1,]", b"{'a': 1}", b'"\x01"', b'"\xff"',
        b'"\xed\xa0\x80"',         b"tru", b"[", b'{"a"}', b"<html>",
    ],
)  # fmt: skip
def test_what_cannot_be_kept_faithfully_is_refused(text: bytes) -> None:
    with pytest.raises(NotCanonical):
        loads(text)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), [float("-inf")], {"a": float("nan")}, 10**5000],
    ids=["nan", "inf", "-inf inside", "nan inside", "long"],
)
def test_values_without_a_json_form_are_refused(value: Any) -> None:
    with pytest.raises(NotCanonical):
        dumps(value)


@pytest.mark.parametrize("value", [{1: 2}, {"a": {1, 2}}, b"bytes", object()])
def test_types_without_a_json_form_are_our_own_mistake(value: Any) -> None:
    with pytest.raises(TypeError):
        dumps(value)


def test_tuples_and_enumerations_of_texts_are_written_as_what_they_are() -> None:
    class State(StrEnum):
        OPEN = "open"

    assert dumps(({State.OPEN: State.OPEN},)) == dumps([{"open": "open"}])


def test_a_hundred_levels_are_read_and_written_and_one_more_is_refused() -> None:
    deepest = "[" * DEPTH_MAX + "]" * DEPTH_MAX
    assert loads(deepest) == nested(DEPTH_MAX)
    assert loads(dumps(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    objects = '{"a":' * (DEPTH_MAX - 1) + "{}" + "}" * (DEPTH_MAX - 1)
    assert dumps(loads(dumps(loads(objects)))) == dumps(loads(objects))
    for refused in ("[" + deepest + "]", '{"a":' + deepest + "}", "[" * 101 + "1" + "]" * 101):
        with pytest.raises(NotCanonical, match="nested deeper than 100"):
            loads(refused)
    for value in (nested(DEPTH_MAX + 1), {"a": nested(DEPTH_MAX)}, [[nested(DEPTH_MAX - 1)]]):
        with pytest.raises(NotCanonical, match="nested deeper than 100"):
            dumps(value)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, '[{"a":' * 50_000],
    ids=["lists", "objects", "closed", "mixed"],
)
def test_hostile_nesting_is_refused_like_any_other_fault(text: str) -> None:
    with pytest.raises(NotCanonical):
        loads(text)
    with pytest.raises(NotCanonical):
        loads(text.encode())


def test_a_hostile_value_is_refused_too() -> None:
    with pytest.raises(NotCanonical):
        dumps(nested(100_000))


def test_size_is_bounded() -> None:
    with pytest.raises(NotCanonical, match="larger than"):
        loads(b'"' + b"x" * BYTES_MAX + b'"')
    with pytest.raises(NotCanonical, match="larger than"):
        dumps("x" * BYTES_MAX)
    assert len(dumps("x" * (BYTES_MAX - 3))) == BYTES_MAX
