"""The requests of the last hour, shared in `cache/`, so that all processes together stay within the limits.

Each process writes its own file: counts by the minute, under hashed names. Files that are old, damaged or
from the future are ignored.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from mirror.fs.durable import write_file
from mirror.logs import get_logger
from mirror.model import Clock, Json, JsonObject, Use, loads, time_from_text, time_text
from mirror.store.format.layout import CACHE
from mirror.store.format.seal import seal_fault, sealed

MINUTE = 60.0
KEPT = timedelta(hours=1)
# A file from further in the future comes from a wrong clock.
AHEAD_MAX = timedelta(minutes=1)
FILES_MAX = 100
BYTES_MAX = 256 * 1024
COUNT_MAX = 10_000
BLOCKED_MAX = 3600
_MINUTES = frozenset(str(minute) for minute in range(60))

_log = get_logger("store")


class RequestUsage:
    """The requests of all processes that write to the store at `root`.

    `salt` (the store's id) hashes the names of identities; `writer` (hex digits) names this process's file.
    """

    def __init__(self, root: Path, *, salt: str, writer: str, clock: Clock) -> None:
        self._folder = root / CACHE
        self._salt = salt
        self._own = self._folder / f"requests-{writer}.json"
        self._clock = clock

    def exchange(self, own: Sequence[Use]) -> Sequence[Use]:
        """Store this process's requests, and return those of others for the same identities. Never raises."""
        try:
            if any(one.made or one.blocked > 0 for one in own):
                write_file(self._own, sealed(self._document(own)))
            others = self._others()
        except OSError as error:
            _log.info("store.usage_not_shared", reason=error.strerror)
            others = []
        return [self._of_others(one, others) for one in own]

    def _name(self, use: Use) -> str:
        text = f"{self._salt}\0{use.identity}\0{use.group}"
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]

    def _document(self, own: Sequence[Use]) -> JsonObject:
        used: JsonObject = {}
        for one in own:
            ages = [str(int(max(age, 0.0) // MINUTE)) for age in one.made]
            minutes = Counter(age for age in ages if age in _MINUTES)
            blocked = min(math.ceil(max(one.blocked, 0.0)), BLOCKED_MAX)
            used[self._name(one)] = {"blocked": blocked, "minutes": dict(minutes)}
        return {"schema": 1, "at": time_text(self._clock.now()), "used": used}

    def _others(self) -> list[tuple[float, JsonObject]]:
        """The files of other processes: the age in seconds, and the content."""
        found = []
        now = self._clock.now()
        for path in sorted(self._folder.glob("requests-*.json"))[:FILES_MAX]:
            if path == self._own:
                continue
            try:
                with path.open("rb") as stream:
                    at, used = _read(stream.read(BYTES_MAX))
            except FileNotFoundError:
                continue  # another process removed it
            except ValueError as error:
                _log.info("store.usage_ignored", file=f"{CACHE}/{path.name}", problem=str(error))
                path.unlink(missing_ok=True)
                continue
            if now - at >= KEPT:
                path.unlink(missing_ok=True)
            elif at - now <= AHEAD_MAX:
                found.append(((now - at).total_seconds(), used))
        return found

    def _of_others(self, own: Use, others: list[tuple[float, JsonObject]]) -> Use:
        made: list[float] = []
        blocked = 0.0
        name = self._name(own)
        for ago, used in others:
            counts = used.get(name)
            if counts is None:
                continue
            blocked = max(blocked, counts["blocked"] - ago)
            for minute, count in counts["minutes"].items():
                made += [max(0.0, ago) + int(minute) * MINUTE] * count
        return Use(own.identity, own.group, tuple(made), blocked)


def _read(data: bytes) -> tuple[datetime, JsonObject]:
    """When a file was written, and its content. Raises ValueError where it is malformed."""
    fault = seal_fault(data)
    if fault is not None:
        raise ValueError(fault)
    value = loads(data)
    match value:
        case {"schema": 1, "at": str() as at, "used": dict() as used} if all(map(_is_use, used.values())):
            return time_from_text(at), used
    raise ValueError("it is not of the form that this version writes")


def _is_use(one: Json) -> bool:
    match one:
        case {"blocked": int() as blocked, "minutes": dict() as minutes}:
            counts = minutes.values()
            return (
                0 <= blocked <= BLOCKED_MAX
                and minutes.keys() <= _MINUTES
                and all(isinstance(count, int) and 0 <= count <= COUNT_MAX for count in counts)
            )
    return False
