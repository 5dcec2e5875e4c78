"""The world as JSON. Each object is written once, and then referred to by number.

A file can contain only classes of the simulator, so that reading it runs no code.
"""

from __future__ import annotations

import base64
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mirror.simulator.world.builds import Pipeline, Step
from mirror.simulator.world.discussions import Attachment, Change, Comment, Issue, PullRequest, Snippet, Task
from mirror.simulator.world.people import Token, User
from mirror.simulator.world.repository import SimRepository

KINDS: dict[str, type] = {
    one.__name__: one
    for one in (
        Attachment, Change, Comment, Issue, Pipeline, PullRequest, SimRepository, Snippet, Step, Task, Token,
        User,
    )
}  # fmt: skip


class Writer:
    """Turns values into JSON. Paths are written relative to `root`; `world` is written as a
    mark. Fields that are not compared are caches, and left out."""

    def __init__(self, root: Path, world: object, kinds: dict[str, type]) -> None:
        self._root = root
        self._world = world
        self._names = {kind: name for name, kind in kinds.items()}
        self._seen: dict[int, int] = {}

    def value(self, value: Any) -> Any:
        """`value` as JSON."""
        match value:
            case None | bool() | int() | float() | str():
                return value
            case bytes():
                return {"$bytes": base64.b64encode(value).decode()}
            case datetime():
                return {"$time": value.isoformat()}
            case Path():
                return {"$path": str(value.relative_to(self._root))}
            case list():
                return [self.value(one) for one in value]
            case tuple():
                return {"$tuple": [self.value(one) for one in value]}
            case frozenset():
                return {"$set": sorted(value)}
            case dict():
                return {"$map": [[self.value(key), self.value(one)] for key, one in value.items()]}
        if value is self._world:
            return {"$world": True}
        return self._object(value)

    def _object(self, value: Any) -> Any:
        known = self._seen.get(id(value))
        if known is not None:
            return {"$same": known}
        assert is_dataclass(value), type(value)
        number = self._seen[id(value)] = len(self._seen)
        content = {one.name: self.value(getattr(value, one.name)) for one in fields(value) if one.compare}
        return {"$number": number, "$kind": self._names[type(value)], **content}


class Reader:
    """Turns JSON into values again. Raises KeyError or ValueError where it is not Writer's."""

    def __init__(self, root: Path, world: object, kinds: dict[str, type]) -> None:
        self._root = root
        self._world = world
        self._kinds = kinds
        self._made: dict[int, Any] = {}

    def value(self, value: Any) -> Any:
        """The value that Writer wrote."""
        if isinstance(value, list):
            return [self.value(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "$kind" in value:
            return self._object(value)
        [(mark, inner)] = value.items()
        match mark:
            case "$same":
                return self._made[inner]
            case "$world":
                return self._world
            case "$bytes":
                return base64.b64decode(inner)
            case "$time":
                return datetime.fromisoformat(inner)
            case "$path":
                return self._root / inner
            case "$tuple":
                return tuple(self.value(one) for one in inner)
            case "$set":
                return frozenset(inner)
            case "$map":
                return {self.value(key): self.value(one) for key, one in inner}
        raise ValueError(f"not a world: {mark}")

    def _object(self, value: dict[str, Any]) -> Any:
        kind = self._kinds[value["$kind"]]
        made: Any = object.__new__(kind)
        self._made[value["$number"]] = made
        known = {one.name: one for one in fields(kind)}
        # In the order of the file, in which an object precedes every reference to it.
        for name, inner in value.items():
            if name in known:
                setattr(made, name, self.value(inner))
        for name in known.keys() - value.keys():
            default, factory = known[name].default, known[name].default_factory
            setattr(made, name, factory() if factory is not MISSING else default)
        return made
