"""The terms of the program as plain values. No I/O, no clock, no environment.

Rooms import the names from here: `from mirror.model import Repository, Snapshot`.
"""

from mirror.model.canonical import Json, JsonObject, NotCanonical, Number, dumps, loads
from mirror.model.dotted import picked, value_at, with_value
from mirror.model.pointers import pointers
from mirror.model.ports import DONE, LATER, Clock, NoProgress, Progress, Use, UseJournal
from mirror.model.repositories import (
    Head,
    RefChange,
    Refs,
    Repository,
    Workspace,
    is_hash,
    is_uuid,
    name_from_json,
    name_to_json,
)
from mirror.model.runs import (
    Finding,
    Outcome,
    Problem,
    Run,
    RunEntry,
    RunKind,
    Verified,
    run_time,
)
from mirror.model.scope import EVERYTHING, Scope
from mirror.model.selector import Selector
from mirror.model.snapshots import (
    Part,
    PartState,
    Snapshot,
    is_snapshot_id,
    snapshot_id,
    snapshot_time,
    time_from_text,
    time_text,
)

__all__ = [
    "DONE", "EVERYTHING", "LATER", "Clock", "Finding", "Head", "Json", "JsonObject", "NoProgress",
    "NotCanonical", "Number", "Outcome", "Part", "PartState", "Problem", "Progress", "RefChange", "Refs",
    "Repository", "Run", "RunEntry", "RunKind", "Scope", "Selector", "Snapshot", "Use", "UseJournal",
    "Verified", "Workspace", "dumps", "is_hash", "is_snapshot_id", "is_uuid", "loads", "name_from_json",
    "name_to_json", "picked", "pointers", "run_time", "snapshot_id", "snapshot_time", "time_from_text",
    "time_text", "value_at", "with_value",
]  # fmt: skip
