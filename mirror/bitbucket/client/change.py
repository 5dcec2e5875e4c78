"""What a request that changes something sends."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Literal

from mirror.http.requests import FilePart
from mirror.model import Json, JsonObject


@dataclass(frozen=True)
class Change:
    """What a request that changes something sends: JSON, or with `files` a form that has the values of `body`
    as fields; a DELETE sends nothing. `needs_user`: it goes to the credential of a user first."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    body: JsonObject | list[Json] = dataclass_field(default_factory=dict, repr=False)
    files: tuple[FilePart, ...] = ()
    needs_user: bool = False
