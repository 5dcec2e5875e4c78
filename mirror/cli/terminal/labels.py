"""Labels for people, from the names of documents, counts and parts in snapshots and the configuration."""

from __future__ import annotations

import re

_NAME = re.compile(r"[a-z]+(?:_[a-z]+)*")
_ENDS = {
    "_to_ask": "still to be requested",
    "_gone": "gone upstream",
    "_kept_by_value": "kept by value",
    "_unknown": "not known yet",
}


def label(name: str) -> str:
    """`pull_requests` → pull requests; any other text is returned unchanged."""
    if not _NAME.fullmatch(name):
        return name
    return " ".join("LFS" if word == "lfs" else word for word in name.split("_"))


def label_first_word(text: str, end: str = " ") -> str:
    """`text` with its first word (up to `end`) replaced by its label."""
    name, mark, rest = text.partition(end)
    return f"{label(name)}{mark}{rest}"


def counted(number: int, name: str) -> str:
    """A number with the label of what it counts: 1, `kinds_complete` → 1 kind of settings complete."""
    if name.startswith("kinds_"):
        return f"{number} kind{'' if number == 1 else 's'} of settings {label(name[len('kinds_') :])}"
    end = next((one for one in _ENDS if name.endswith(one)), "")
    noun = label(name.removesuffix(end))
    if number == 1:
        noun = re.sub(r"ies$", "y", noun) if noun.endswith("ies") else noun.removesuffix("s")
    return f"{number} {noun} {_ENDS[end]}" if end else f"{number} {noun}"
