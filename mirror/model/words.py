"""Words for people: labels of the names in snapshots and the configuration, sizes, ages, exit codes.

The terminal and the page say the same thing with the same words.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

from mirror.model.live import Picture

_NAME = re.compile(r"[a-z]+(?:_[a-z]+)*")
_ENDS = {
    "_to_ask": "still to be requested",
    "_gone": "gone upstream",
    "_kept_by_value": "kept by value",
    "_unknown": "not known yet",
}
# States and outcomes that their plain word does not explain.
_STATES = {
    "confirmed": "unchanged",
    "absent": "not listed",
    "unreached": "in no list",
    "pending": "not reached",
}
_MEANINGS = {
    0: "all is well",
    1: "something failed",
    2: "the configuration or command line needs correcting",
    3: "incomplete: what was available is stored, the rest is listed above",
    4: "damage was found",
    5: "so much is gone upstream that prune stops until mirror accept-loss",
    10: "there is no store",
    11: "something was locked by another run",
    12: "a credential was refused",
    75: "a rate limit or the network stood in the way: try again later",
    130: "it was stopped",
}


_RESULTS = {
    0: "well",
    2: "faulty configuration",
    3: "incomplete",
    4: "damage found",
    5: "much lost upstream",
    10: "no store",
    11: "locked",
    12: "credential refused",
    75: "to be tried again",
    130: "stopped",
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


def state_label(state: str) -> str:
    """The word for the outcome of a run or the state of a repository: `confirmed` → unchanged."""
    return _STATES.get(state, state)


def meaning_of(code: int) -> str:
    """The meaning of an exit code in a few words."""
    return _MEANINGS.get(code, "something failed")


def result_of(code: int) -> str:
    """How a run ended, by its exit code, in a word or two."""
    return _RESULTS.get(code, "failed")


def size(count: int) -> str:
    """A number of bytes in a readable unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def age(time: timedelta) -> str:
    """How long something lasts or lies back, in its largest unit: 3 min, 5 h, 12 days."""
    minutes = max(0, int(time.total_seconds())) // 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"


def duration(seconds: float) -> str:
    """A time that is estimated or goes on, no finer than anybody can use: 25 s, 4 min, 3 h."""
    if seconds < 60:
        return f"{max(5, 5 * math.ceil(seconds / 5))} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{round(seconds / 3600)} h"


def lasted(time: timedelta) -> str:
    """How long something took: 0.4 s, 38 s, 4 min 5 s, 3 h 12 min."""
    seconds = time.total_seconds()
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def progress(seen: Picture, unit: str) -> str:
    """How far a run is: 312 of 500 repositories, about 4 min left. `unit` is what it counts."""
    if seen.total is None:
        parts = [f"{seen.done:,} {unit}, more to come" if seen.done else "looking for what there is"]
    else:
        parts = [f"{seen.done:,} of {seen.total:,} {unit}"]
    if seen.waiting is not None:
        parts.append(f"waiting {duration(seen.waiting)} for the rate limit")
    if seen.seconds_left:
        parts.append(f"about {duration(seen.seconds_left)} left")
    else:
        parts.append(f"{duration(seen.seconds)} so far")
    return ", ".join(parts)


def amounts(seen: Picture, got: str) -> str:
    """What a run `got` (received or read) and sent so far; empty where that is nothing."""
    parts = []
    if seen.objects or seen.bytes:
        objects = f"{seen.objects:,} objects, " if seen.objects else ""
        parts.append(f"{objects}{size(seen.bytes)} {got}")
    if seen.requests:
        left = "" if seen.requests_left is None else f" ({seen.requests_left:,} left this hour)"
        parts.append(f"{seen.requests:,} requests{left}")
    return ", ".join(parts)
