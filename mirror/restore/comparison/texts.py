"""Texts that a restore sends again: behind an attribution, which says whose they were, and with names in the
place of mentions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# `@{account id}` and `@{uuid}`; the braces are part of a uuid.
_MENTION = re.compile(r"@\{[^{}\s]{6,80}\}")
_NAME = r".{1,400}?"
# A line of its own, or the emphasized beginning of the only line.
_ATTRIBUTION = r"(?:[^\n]+(?:\n+|$)|\*[^\n]*?\*\s+)?"
_NUMBER = re.compile(r"\d+")


def is_copy(original: str, copy: str, number: object = None) -> bool:
    """Whether `copy` has the whole text of `original`: behind an attribution, which names `number` where that
    is given, or without one; and with any names in the place of mentions."""
    if copy == original:
        return True
    if number is not None and not names_original(number, copy):
        return False
    pieces = [re.escape(piece) for piece in _MENTION.split(original.strip())]
    return re.fullmatch(_ATTRIBUTION + _NAME.join(pieces), copy.strip(), re.DOTALL) is not None


def names_original(number: object, copy: str) -> bool:
    """Whether the attribution of `copy` names its original: the first number in its first line does."""
    found = _NUMBER.search(copy.partition("\n")[0])
    return found is not None and found[0] == str(number)


def pair_by_attribution(
    originals: Sequence[T],
    copies: Sequence[T],
    texts: Callable[[T], str],
    number: Callable[[T], object],
    is_alike: Callable[[T, T], bool] = lambda _original, _copy: True,
) -> list[tuple[T | None, T | None]]:
    """Pair things that tell in their text which ones they are copies of; None where one side lacks it.

    A copy belongs to the original whose number and text it has; what is left over, to one whose number it
    has, and then to one whose text it has, if they are alike otherwise too.
    """
    left = list(copies)
    found: dict[int, T] = {}
    for has_number, has_text in ((True, True), (True, False), (False, True)):
        for index, one in enumerate(originals):
            if index in found:
                continue
            for copy in left:
                text = texts(copy)
                if has_number and not names_original(number(one), text):
                    continue
                if has_text and not is_copy(texts(one), text):
                    continue
                if not has_number and not is_alike(one, copy):
                    continue
                found[index] = copy
                left.remove(copy)
                break
    pairs: list[tuple[T | None, T | None]] = [(one, found.get(index)) for index, one in enumerate(originals)]
    return [*pairs, *((None, copy) for copy in left)]
