"""What was sent and is no longer there, as a listing shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mirror.model import Problem
from mirror.model.words import counted

# How many keys a problem names.
NAMED_MAX = 5
_HINT = "find out who removed it: mirror copy only adds; docs/offsite.md says how to read older versions"


@dataclass
class Losses:
    """What a pass missed: keys by place in `folders`, and `records`, those of run records and lists. `back`
    has the places that were sent again; `are_records_back` says so of the records."""

    folders: dict[str, list[str]] = field(default_factory=dict)
    records: list[str] = field(default_factory=list)
    back: set[str] = field(default_factory=set)
    are_records_back: bool = False

    def facts(self) -> dict[str, Any]:
        """What the record says; empty where nothing was lost."""
        if not self.folders and not self.records:
            return {}
        objects = sum(len(keys) for keys in self.folders.values()) + len(self.records)
        return {"lost": {"folders": len(self.folders), "objects": objects, "records": len(self.records)}}

    def problem_of(self, place: str) -> list[Problem]:
        """The problem of one folder, if it has one."""
        keys = self.folders.get(place)
        return [Problem(3, f"no longer there as it was sent: {_some(keys)}")] if keys else []

    def summary(self, address: str, *, is_tried: bool) -> list[Problem]:
        """The problem of the run, if something was lost; `is_tried`: nothing was sent."""
        if not self.folders and not self.records:
            return []
        several = [f"of {counted(len(self.folders), 'folders')}"] if self.folders else []
        several += [f"run records: {_some(self.records)}"] if self.records else []
        is_back = self.folders.keys() <= self.back and (self.are_records_back or not self.records)
        after = "it would be sent again" if is_tried else "it was sent again"
        if not is_tried and not is_back:
            after = "not all of it was sent again"
        text = f"something that was sent to {address} is no longer there ({', '.join(several)}); {after}"
        return [Problem(3, text, hint=_HINT)]


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED_MAX} more" if len(keys) > NAMED_MAX else ""
    return ", ".join(keys[:NAMED_MAX]) + more
