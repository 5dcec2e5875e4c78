"""Plain words for the names that documents, counts and parts have in snapshots and in the configuration."""

from __future__ import annotations

import re

_NAME = re.compile(r"[a-z]+(?:_[a-z]+)*")
_ENDS = {
    "_to_ask": "still to ask for",
    "_gone": "gone upstream",
    "_kept_by_value": "kept by value",
    "_unknown": "not known yet",
}


def words(name: str) -> str:
    """`pull_requests` → pull requests; what is no such name stays as it is."""
    if not _NAME.fullmatch(name):
        return name
    return " ".join("LFS" if word == "lfs" else word for word in name.split("_"))


def first_in_words(text: str, end: str = " ") -> str:
    """`text`, whose first word (up to `end`) may be such a name, with that name in plain words."""
    name, mark, rest = text.partition(end)
    return f"{words(name)}{mark}{rest}"


def counted(number: int, name: str) -> str:
    """A number and what it counts: 1, `kinds_complete` → 1 kind of settings complete."""
    if name.startswith("kinds_"):
        return f"{number} kind{'' if number == 1 else 's'} of settings {words(name[len('kinds_') :])}"
    end = next((one for one in _ENDS if name.endswith(one)), "")
    noun = words(name.removesuffix(end))
    if number == 1:
        noun = re.sub(r"ies$", "y", noun) if noun.endswith("ies") else noun.removesuffix("s")
    return f"{number} {noun} {_ENDS[end]}" if end else f"{number} {noun}"
