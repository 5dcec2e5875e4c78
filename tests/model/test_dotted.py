"""Fields by dotted names."""

from __future__ import annotations

from mirror.model import with_value


def test_a_field_is_set_replaced_or_taken_away() -> None:
    body = {"a": {"b": 1, "c": 2}, "d": 3}
    assert with_value(body, "a.b", 9) == {"a": {"b": 9, "c": 2}, "d": 3}
    assert with_value(body, "e.f", 9) == {**body, "e": {"f": 9}}
    assert with_value(body, "a.b", None) == {"a": {"c": 2}, "d": 3}
    assert with_value(body, "d", None) == {"a": {"b": 1, "c": 2}} and body["d"] == 3
