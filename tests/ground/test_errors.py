"""Exit codes: one for each error, and which one counts if several apply."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror import errors
from mirror.errors import PRECEDENCE, ConfigError, Fault, MirrorError, worst

CLASSES = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, MirrorError) and member.__module__ == "mirror.errors"
]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_ends_the_program_with_a_documented_code(error: type[MirrorError]) -> None:
    assert error.exit_code in PRECEDENCE
    assert f"{error.exit_code}   " in (errors.__doc__ or "")


def test_each_kind_of_error_has_its_own_code() -> None:
    codes = {error.exit_code for error in CLASSES}
    # A faulty configuration is an ordinary usage error; a script can distinguish all others.
    assert len(codes) == len(CLASSES) - 1


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        ([0, 0], 0),
        ([3, 75], 3),
        ([75, 3, 1], 1),
        ([1, 5, 4], 4),
        ([11, 10, 2], 2),
        ([2, 12], 12),
        ([12, 130], 130),
    ],
)
def test_the_first_of_the_order_counts(codes: list[int], expected: int) -> None:
    assert worst(codes) == expected


@given(st.lists(st.integers(min_value=0, max_value=255)))
@settings(derandomize=True)
def test_nothing_unknown_is_ever_taken_for_success(codes: list[int]) -> None:
    assert (worst(codes) == 0) == all(code == 0 for code in codes)


def test_a_config_error_lists_every_fault_with_its_line() -> None:
    error = ConfigError(
        "c.yaml",
        [Fault(3, "store", "is missing a value", "name a folder"), Fault(None, "", "is empty", "write one")],
    )
    assert "c.yaml:3: store: is missing a value; name a folder" in error.message
    assert "c.yaml: is empty; write one" in error.message
    assert error.exit_code == 2
