"""What a request that changes something sends."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import BinaryIO, Literal

from mirror.model import Json, JsonObject


@dataclass(frozen=True)
class FilePart:
    """A file in a multipart body: the name of the field, the file's own, and its bytes, from the start."""

    field: str
    name: str
    stream: BinaryIO = dataclass_field(repr=False)


@dataclass(frozen=True)
class Change:
    """What a request that changes something sends: JSON, or with `files` a form that has the values of `body`
    as fields. `needs_user`: it goes to the credential of a user first."""

    method: Literal["POST", "PUT", "PATCH"]
    body: JsonObject | list[Json] = dataclass_field(default_factory=dict, repr=False)
    files: tuple[FilePart, ...] = ()
    needs_user: bool = False
