"""Schemas of request bodies, after the published description of the API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SchemaError = tuple[str, str]


@dataclass(frozen=True)
class String:
    """A string: one of `choices` where there are any, matching `pattern`, of at most `most` characters."""

    choices: tuple[str, ...] = ()
    pattern: str = ""
    most: int | None = None

    def errors(self, value: Any, path: str) -> Iterator[SchemaError]:
        """The errors of `value`, each with its path."""
        if not isinstance(value, str):
            yield path, f"expected str, got {type(value).__name__}"
        elif self.choices and value not in self.choices:
            yield path, f"expected one of: {', '.join(self.choices)}"
        elif self.pattern and not re.fullmatch(self.pattern, value):
            yield path, f"expected a text like {self.pattern}"
        elif self.most is not None and len(value) > self.most:
            yield path, f"ensure this value has at most {self.most} characters"


@dataclass(frozen=True)
class Integer:
    """An integer, `least` or more."""

    least: int | None = None

    def errors(self, value: Any, path: str) -> Iterator[SchemaError]:
        """The errors of `value`, each with its path."""
        if isinstance(value, bool) or not isinstance(value, int):
            yield path, f"expected int, got {type(value).__name__}"
        elif self.least is not None and value < self.least:
            yield path, f"expected {self.least} or more"


@dataclass(frozen=True)
class Boolean:
    """True or false."""

    def errors(self, value: Any, path: str) -> Iterator[SchemaError]:
        """The errors of `value`, each with its path."""
        if not isinstance(value, bool):
            yield path, f"expected bool, got {type(value).__name__}"


@dataclass(frozen=True)
class AnyValue:
    """Any value."""

    def errors(self, _value: Any, _path: str) -> Iterator[SchemaError]:
        """No errors."""
        return iter(())


@dataclass(frozen=True)
class Array:
    """A list of `least` to `most` values of one schema."""

    of: Schema
    least: int = 0
    most: int | None = None

    def errors(self, value: Any, path: str) -> Iterator[SchemaError]:
        """The errors of `value`, each with its path."""
        if not isinstance(value, list):
            yield path, f"expected list, got {type(value).__name__}"
            return
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            yield path, f"expected {self.least} to {self.most} entries"
        for index, one in enumerate(value):
            yield from self.of.errors(one, f"{path}[{index}]")


@dataclass(frozen=True)
class Object:
    """An object. `needs` are the required fields. Fields outside `fields` are ignored, or errors where
    the schema is `closed`. Null counts as absent."""

    fields: Mapping[str, Schema] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    closed: bool = False

    def errors(self, value: Any, path: str) -> Iterator[SchemaError]:
        """The errors of `value`, each with its path."""
        if not isinstance(value, dict):
            yield path, f"expected dict, got {type(value).__name__}"
            return
        prefix = f"{path}." if path else ""
        for name in self.needs:
            if value.get(name) is None:
                yield prefix + name, "required key not provided"
        for name, one in value.items():
            if name in self.fields:
                if one is not None:
                    yield from self.fields[name].errors(one, prefix + name)
            elif self.closed:
                yield prefix + name, "extra keys not allowed"


Schema = String | Integer | Boolean | AnyValue | Array | Object
