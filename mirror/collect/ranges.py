"""Sets of numbers as short texts: `1-500,502`."""

from __future__ import annotations

from collections.abc import Iterable


def format_ranges(numbers: Iterable[int]) -> str:
    """Numbers as ranges, in order."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def parse_ranges(text: object) -> set[int]:
    """The numbers of a text that `format_ranges` wrote. Raises ValueError for any other text."""
    found: set[int] = set()
    for one in str(text).split(",") if text else ():
        first, _, last = one.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
