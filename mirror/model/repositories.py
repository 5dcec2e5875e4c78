"""Bitbucket's things and git's refs, as far as every room must speak of them."""

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
    """Whether `text` is a uuid as Bitbucket writes it, braces included."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def is_hash(text: object) -> bool:
    """Whether `text` is a full, lower-case git object id."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


@dataclass(frozen=True)
class Workspace:
    """A workspace as Bitbucket names it now. `uuid` has its braces; it is the identity."""

    uuid: str
    slug: str
    name: str = ""
    profile: JsonObject = field(default_factory=dict, compare=False, hash=False)


@dataclass(frozen=True)
class Repository:
    """A repository as Bitbucket names it now. `uuid` survives renames and transfers.

    `profile` is the API's own JSON, the richest answer obtained so far.
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
    """Where HEAD points: a `symref` to a ref, `detached` at a hash, or an `unborn` ref."""

    kind: Literal["symref", "detached", "unborn"]
    value: bytes


@dataclass(frozen=True)
class Refs:
    """What a server advertises: refs by name (bytes, as git has them), each with its 40-digit hash.

    `peeled` holds, for annotated tags, what they point to in the end. `head` is None where the
    server says nothing of it.
    """

    refs: Mapping[bytes, str]
    head: Head | None = None
    peeled: Mapping[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RefChange:
    """A ref that moved: `old` None when it is new, `new` None when upstream removed it.

    `kind` tells a fast-forward from a rewrite, where history was replaced.
    """

    name: bytes
    old: str | None
    new: str | None
    kind: Literal["created", "forwarded", "rewritten", "removed"]


def name_to_json(name: bytes) -> str:
    """A git name as JSON text: itself if UTF-8, else `base64:…` (no ref may hold a colon)."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(name).decode("ascii")


def name_from_json(text: str) -> bytes:
    """The git name that `name_to_json` wrote."""
    if text.startswith("base64:"):
        return base64.b64decode(text[len("base64:") :], validate=True)
    return text.encode("utf-8")
