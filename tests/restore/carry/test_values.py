"""Values of a plan: what stands in them for something else, and when the target has what was wanted."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.restore.carry.values import agrees, resolved
from mirror.restore.plan.steps import Made, Secret, stand_ins


@pytest.mark.parametrize(
    ("wanted", "found", "is_so"),
    [
        (1, 1, True), (1, 2, False), (False, None, False), (0, None, False), (True, True, True),
        (None, None, True), ("", None, True), ([], None, True), (None, "x", False), ("x", None, False),
        ("a\r\nb\n", "a\nb", True), ("a", "A", False),
        ({"a": 1}, {"a": 1, "more": 2}, True), ({"a": 1}, {"b": 1}, False), ({"a": 1}, None, False),
        ([1, 2], [2, 1], True), ([1], [1, 2], False), ([1, 1], [1, 2], False),
        ([{"a": 1}], [{"a": 1, "b": 2}], True),
    ],
)  # fmt: skip
def test_what_agrees(wanted: Any, found: Any, is_so: bool) -> None:
    assert agrees(wanted, found) is is_so


def test_stand_ins_are_found_and_resolved() -> None:
    made, secret = Made("web/hook/a", "id"), Secret("web/variables/KEY")
    value = {"parent": {"id": made}, "list": [secret, "plain"], "pair": (made,)}
    assert list(stand_ins(value)) == [made, secret, made]
    known = {made: 7, secret: "hush"}
    assert resolved(value, known.__getitem__) == {"parent": {"id": 7}, "list": ["hush", "plain"], "pair": [7]}
