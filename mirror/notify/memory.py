"""Which conditions had a notice, kept in a small file for each topic: it survives restarts.

A cache: if it is lost, everything that is not well has one more notice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from mirror.fs.durable import write_file
from mirror.logs import get_logger
from mirror.model import JsonObject, dumps, loads, time_from_text, time_text
from mirror.notify.conditions import Condition, Event, Report

# The texts of so many conditions are kept, to repeat them.
TEXTS_MAX = 3

_log = get_logger("notify")


@dataclass(frozen=True)
class Remembered:
    """A condition, since when there has been one, and when its first notice was sent (None: not yet)."""

    condition: Condition
    since: datetime
    notified: datetime | None = None


@dataclass(frozen=True)
class Topic:
    """The conditions of one topic by key, when the last notice about it was sent, and the source of the last
    report. `is_over`: the conditions are over, and no notice has said so yet."""

    conditions: Mapping[str, Remembered] = field(default_factory=dict)
    noticed: datetime | None = None
    source: str = ""
    is_over: bool = False

    def report(self, topic: str) -> Report:
        """The last report, for a notice that repeats it."""
        conditions = () if self.is_over else tuple(one.condition for one in self.conditions.values())
        return Report(topic, conditions, source=self.source)

    def to_json(self) -> JsonObject:
        """The JSON of its file."""
        ordered = sorted(self.conditions.values(), key=lambda one: one.condition.rank)
        return {
            "schema": 1,
            "noticed": _text(self.noticed),
            "source": self.source,
            "is_over": self.is_over,
            "conditions": [_to_json(one, number < TEXTS_MAX) for number, one in enumerate(ordered)],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Topic:
        """Read what `to_json` wrote."""
        found = [_from_json(one) for one in data["conditions"]]
        conditions = {one.condition.key: one for one in found}
        return cls(conditions, _time(data["noticed"]), str(data["source"]), bool(data["is_over"]))


class Memory:
    """The memory in `folder`, the cache of a store. Where it cannot be written, as on a disk that is not
    mounted, only this process remembers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unwritten: dict[str, Topic] = {}

    def read(self, topic: str) -> Topic:
        """The notices about a topic; none where that is unknown."""
        if topic in self._unwritten:
            return self._unwritten[topic]
        try:
            return Topic.from_json(loads(self._file(topic).read_bytes()))
        except FileNotFoundError:
            return Topic()
        except Exception as error:  # noqa: BLE001 - damage raises anything, and must not silence notices
            _log.info("notify.memory_unreadable", topic=topic, reason=type(error).__name__)
            return Topic()

    def write(self, topic: str, notices: Topic) -> None:
        """Remember this. Never raises."""
        if notices == self.read(topic):
            return
        try:
            if not notices.conditions:
                self._file(topic).unlink(missing_ok=True)
            else:
                write_file(self._file(topic), dumps(notices.to_json()))
            self._unwritten.pop(topic, None)
        except OSError as error:
            _log.info("notify.memory_not_written", topic=topic, reason=error.strerror)
            self._unwritten[topic] = notices

    def _file(self, topic: str) -> Path:
        # A topic may have selectors in its name.
        name = topic if topic.isalpha() else hashlib.sha256(topic.encode()).hexdigest()[:16]
        return self._folder / f"notices-{name}.json"


def after(before: Topic, report: Report, now: datetime) -> Topic:
    """The topic after a report, before its notice is sent."""
    conditions = {}
    for one in report.conditions:
        known = before.conditions.get(one.key)
        conditions[one.key] = Remembered(one, now) if known is None else replace(known, condition=one)
    return Topic(conditions, before.noticed, report.source)


def _to_json(one: Remembered, has_text: bool) -> JsonObject:
    condition = one.condition
    return {
        "key": condition.key,
        "place": condition.place,
        "event": str(condition.event),
        "code": condition.code,
        "text": condition.text if has_text else "",
        "repeats": condition.repeats,
        "since": _text(one.since),
        "notified": _text(one.notified),
    }


def _from_json(data: JsonObject) -> Remembered:
    condition = Condition(
        str(data["key"]), str(data["place"]), Event(data["event"]), int(data["code"]), str(data["text"]),
        bool(data["repeats"]),
    )  # fmt: skip
    return Remembered(condition, time_from_text(data["since"]), _time(data["notified"]))


def _text(time: datetime | None) -> str | None:
    return None if time is None else time_text(time)


def _time(text: str | None) -> datetime | None:
    return None if text is None else time_from_text(text)
