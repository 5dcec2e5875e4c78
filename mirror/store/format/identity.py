"""Identity files: `store.json`, `workspace.json` and `repository.json` as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mirror.model import JsonObject, is_uuid, time_from_text, time_text
from mirror.store.format.failures import Malformed


@dataclass(frozen=True)
class FormerName:
    """An earlier name of a workspace or repository, and when it was in use."""

    name: str
    since: datetime
    until: datetime

    def to_json(self) -> JsonObject:
        """The JSON in the file."""
        return {"name": self.name, "since": time_text(self.since), "until": time_text(self.until)}

    @classmethod
    def from_json(cls, data: JsonObject) -> FormerName:
        """Read what `to_json` wrote."""
        return cls(_text(data, "name"), _time(data, "since"), _time(data, "until"))


@dataclass(frozen=True)
class Missing:
    """How many complete listings lacked a repository: the first, the last, and their number."""

    first: datetime
    last: datetime
    runs: int

    def to_json(self) -> JsonObject:
        """The JSON in the file."""
        return {"first": time_text(self.first), "last": time_text(self.last), "runs": self.runs}

    @classmethod
    def from_json(cls, data: JsonObject) -> Missing:
        """Read what `to_json` wrote."""
        return cls(_time(data, "first"), _time(data, "last"), _number(data, "runs"))


@dataclass(frozen=True)
class StoreIdentity:
    """`store.json`: format, id, creation time, and the features that a reader must support."""

    format: int
    id: str
    created: datetime
    requires: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON in the file."""
        return {
            "format": self.format,
            "id": self.id,
            "created": time_text(self.created),
            "requires": list(self.requires),
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> StoreIdentity:
        """Read what `to_json` wrote."""
        return cls(
            _number(data, "format"), _text(data, "id"), _time(data, "created"), _texts(data, "requires")
        )


@dataclass(frozen=True)
class WorkspaceIdentity:
    """`workspace.json`: the workspace that a folder belongs to. `since`: when its slug was first seen."""

    uuid: str
    slug: str
    name: str
    since: datetime
    former_names: tuple[FormerName, ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON in the file."""
        return {
            "schema": 1,
            "uuid": self.uuid,
            "slug": self.slug,
            "name": self.name,
            "since": time_text(self.since),
            "former_names": [former.to_json() for former in self.former_names],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> WorkspaceIdentity:
        """Read what `to_json` wrote."""
        return cls(
            _uuid(data), _text(data, "slug"), _text(data, "name"), _time(data, "since"),
            tuple(FormerName.from_json(item) for item in _objects(data, "former_names")),
        )  # fmt: skip


@dataclass(frozen=True)
class RepositoryIdentity:
    """`repository.json`: the repository that a folder belongs to, and whether it is missing upstream.

    `since`: first seen under its current full name. `gone_since`: when it was first missing, once that is
    confirmed.
    """

    uuid: str
    full_name: str
    since: datetime
    former_names: tuple[FormerName, ...] = ()
    missing: Missing | None = None
    gone_since: datetime | None = None

    def to_json(self) -> JsonObject:
        """The JSON in the file."""
        return {
            "schema": 1,
            "uuid": self.uuid,
            "full_name": self.full_name,
            "since": time_text(self.since),
            "former_names": [former.to_json() for former in self.former_names],
            "missing": None if self.missing is None else self.missing.to_json(),
            "gone_since": None if self.gone_since is None else time_text(self.gone_since),
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> RepositoryIdentity:
        """Read what `to_json` wrote."""
        full_name = _text(data, "full_name")
        if full_name.count("/") != 1:
            raise Malformed(f"full_name {full_name!r} is not workspace/repository")
        missing = data.get("missing")
        return cls(
            _uuid(data), full_name, _time(data, "since"),
            tuple(FormerName.from_json(item) for item in _objects(data, "former_names")),
            None if missing is None else Missing.from_json(missing),
            None if data.get("gone_since") is None else _time(data, "gone_since"),
        )  # fmt: skip


def _text(data: JsonObject, key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise Malformed(f"{key!r} is not a text")
    return value


def _number(data: JsonObject, key: str) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Malformed(f"{key!r} is not a whole number")
    return value


def _uuid(data: JsonObject) -> str:
    value = data.get("uuid")
    if not isinstance(value, str) or not is_uuid(value):
        raise Malformed("'uuid' is not a uuid in braces")
    return value


def _time(data: JsonObject, key: str) -> datetime:
    try:
        return time_from_text(_text(data, key))
    except ValueError as error:
        raise Malformed(f"{key!r} is not a time") from error


def _texts(data: JsonObject, key: str) -> tuple[str, ...]:
    values = data.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Malformed(f"{key!r} is not a list of texts")
    return tuple(values)


def _objects(data: JsonObject, key: str) -> list[dict[str, Any]]:
    values = data.get(key)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise Malformed(f"{key!r} is not a list of objects")
    return values
