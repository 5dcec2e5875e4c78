"""The marks of a document: what could not be read of it, and why. The one place that knows `_parts`.

A mark stands beside the last good value. It holds no time but the first one of an absence, so that a
document does not change while upstream does not.
"""

from __future__ import annotations

from collections.abc import Mapping

from mirror.bitbucket.failures import Denied
from mirror.errors import MirrorError
from mirror.model import Json, JsonObject, PartState

_KEY = "_parts"
# The document with the marks of the kinds of settings.
SETTINGS = "settings/_parts.json"
# The mark of an entry of a list that is kept in one document.
_ENTRY_KEY = "_gone"


class Marks:
    """Marks by name: of a document's children, of the document itself, or of kinds of settings."""

    def __init__(self, marks: Mapping[str, JsonObject] | None = None) -> None:
        self._marks: dict[str, JsonObject] = dict(marks or {})

    @classmethod
    def of(cls, document: Json) -> Marks:
        """A copy of the marks of a document; none where it is no document."""
        return cls(document.get(_KEY) if isinstance(document, dict) else None)

    def on(self, document: JsonObject) -> JsonObject:
        """The document with these marks in place of its own."""
        return {**document, _KEY: self.to_json()}

    def to_json(self) -> JsonObject:
        """The marks alone, by name."""
        return dict(self._marks)

    def __contains__(self, name: str) -> bool:
        return name in self._marks

    def __bool__(self) -> bool:
        return bool(self._marks)

    def get(self, name: str) -> JsonObject:
        """The mark of this name; empty where there is none."""
        return self._marks.get(name) or {}

    def is_gone(self, name: str) -> bool:
        """Whether the mark says that upstream does not have it."""
        return self.get(name).get("state") == PartState.GONE

    def is_gap(self, name: str) -> bool:
        """Whether the mark says that it could still be read, by a later run or with another credential."""
        return self.get(name).get("state") in (PartState.DENIED, PartState.PARTIAL)

    def put(self, name: str, mark: JsonObject) -> None:
        """Set a mark as it is."""
        self._marks[name] = mark

    def put_state(self, name: str, state: PartState) -> None:
        """Set a mark that says a state and no more."""
        self._marks[name] = {"state": str(state)}

    def put_gone(self, name: str, since: str) -> None:
        """Mark that upstream does not have it, and since when."""
        self._marks[name] = _gone(since)

    def put_failed(self, name: str, error: MirrorError) -> None:
        """Mark why it could not be read."""
        if isinstance(error, Denied):
            self._marks[name] = {"state": str(PartState.DENIED), "scopes": list(error.required)}
        else:
            self.put_state(name, PartState.PARTIAL)

    def remove(self, *names: str) -> None:
        """Remove the marks of these names, where there are any."""
        for name in names:
            self._marks.pop(name, None)


def without_gaps(document: JsonObject) -> JsonObject:
    """A document without the marks of what could not be read."""
    marks = Marks.of(document)
    marks.remove(*(name for name in marks.to_json() if marks.is_gap(name)))
    return marks.on(document)


def newly_gone(before: JsonObject, after: JsonObject) -> bool:
    """Whether a document differs in nothing but a new mark that upstream does not have it."""
    old, new = Marks.of(before), Marks.of(after)
    more = [name for name in new.to_json() if new.is_gone(name) and not old.is_gone(name)]
    return bool(more) and old.on(before) == old.on(after)


def _gone(since: str) -> JsonObject:
    return {"state": str(PartState.GONE), "since": since}


def entry_gone(entry: JsonObject, since: str) -> JsonObject:
    """An entry of a list marked as gone; one that is marked keeps its mark."""
    return {_ENTRY_KEY: _gone(since), **entry}


def entry_unmarked(entry: JsonObject) -> JsonObject:
    """An entry of a list without such a mark."""
    return {key: value for key, value in entry.items() if key != _ENTRY_KEY}


def entry_is_gone(entry: JsonObject) -> bool:
    """Whether an entry of a list is marked as gone."""
    return _ENTRY_KEY in entry
