"""Workspaces, repositories and git refs, as every room knows them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mirror.model.canonical import JsonObject

_UUID = re.compile(r"\{[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\}")
_HASH = re.compile(r"[0-9a-f]{40}")


def is_uuid(text: object) -> bool:
    """Whether `text` is a uuid in Bitbucket's form, with braces."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def is_hash(text: object) -> bool:
    """Whether `text` is a full, lower-case git object id."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


@dataclass(frozen=True)
class Workspace:
    """A workspace with its current names. `uuid`, in braces, is its identity."""

    uuid: str
    slug: str
    name: str = ""
    profile: JsonObject = field(default_factory=dict, compare=False, hash=False)


@dataclass(frozen=True)
class Repository:
    """A repository with its current names. `uuid` survives renames and transfers.

    `profile` is the JSON of the API, the most detailed one received so far.
    """

    uuid: str
    workspace: str
    slug: str
    project: str | None = None
    profile: JsonObject = field(default_factory=dict, compare=False, hash=False)

    @property
    def full_name(self) -> str:
        """`workspace/slug`."""
        return f"{self.workspace}/{self.slug}"


@dataclass(frozen=True)
class Head:
    """HEAD: a `symref` to a ref, `detached` at a hash, or an `unborn` ref."""

    kind: Literal["symref", "detached", "unborn"]
    value: bytes


@dataclass(frozen=True)
class Refs:
    """The refs that a server advertises, by name (bytes, as in git), each with its 40-digit hash.

    `peeled` has the peeled values of annotated tags. `head` is None where the server sends none.
    """

    refs: Mapping[bytes, str]
    head: Head | None = None
    peeled: Mapping[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RefChange:
    """A ref that changed: `old` is None for a new one, `new` is None for a removed one.

    `kind` distinguishes a fast-forward from a rewrite of history.
    """

    name: bytes
    old: str | None
    new: str | None
    kind: Literal["created", "forwarded", "rewritten", "removed"]


def name_to_json(name: bytes) -> str:
    """A git name as JSON text: itself if it is UTF-8, else `base64:…` (no ref name has a colon)."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(name).decode("ascii")


def name_from_json(text: str) -> bytes:
    """The git name in the text of `name_to_json`. Raises ValueError."""
    if text.startswith("base64:"):
        return base64.b64decode(text[len("base64:") :], validate=True)
    return text.encode("utf-8")
