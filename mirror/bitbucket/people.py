"""People in Bitbucket's documents, and how to remove them.

A person appears as an object with a uuid and an account id, in mentions inside texts (`@{account id}` or
`@{uuid}`; rendered, a span with the account id), and as the raw author of a commit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from typing import Any

from mirror.model import Json, JsonObject

# The braces are part of a uuid.
_MENTION = re.compile(r"@?\{([^{}\s]{6,80})\}")
_RENDERED = re.compile(r'<span[^<>]*data-atlassian-id="([^"]{6,80})"[^<>]*>[^<]*</span>')
_NAMES = ("uuid", "account_id")
_PERSON = frozenset({"display_name", "nickname", "account_id"})


def person_digest(name: str) -> str:
    """The record of an erased person: the SHA-256 of their uuid or account id."""
    return hashlib.sha256(name.strip("{}").lower().encode("utf-8")).hexdigest()


def without_people(value: Json, people: Collection[str]) -> Json:
    """The document without the objects, mentions and raw authors of the people with these digests."""
    if isinstance(value, str):
        for pattern, instead in ((_MENTION, "{erased}"), (_RENDERED, "@erased")):
            for mention in {m[0] for m in pattern.finditer(value) if person_digest(m[1]) in people}:
                value = value.replace(mention, instead)
        return value
    if isinstance(value, list):
        return [without_people(one, people) for one in value]
    if not isinstance(value, dict):
        return value
    if is_person(value) and not people_of(value).isdisjoint(people):
        return {"type": value.get("type", "user"), "erased": True}
    result: dict[str, Any] = {key: without_people(one, people) for key, one in value.items()}
    user = value.get("user")
    if "raw" in value and isinstance(user, dict) and not people_of(user).isdisjoint(people):
        result["raw"] = "erased"  # a commit's author, as `Name <address>`
    return result


def is_person(value: JsonObject) -> bool:
    """Whether an object of a document represents a person."""
    return value.get("type") == "user" or (value.get("type") is None and not _PERSON.isdisjoint(value))


def people_of(value: JsonObject) -> frozenset[str]:
    """The digests of the uuid and account id in a person's object."""
    return frozenset(person_digest(value[key]) for key in _NAMES if isinstance(value.get(key), str))


def names_of(document: Json, person: str) -> set[str]:
    """All uuids and account ids in a document of the person with the uuid or account id `person`."""
    wanted = person_digest(person)
    people = (one for one in _objects(document) if is_person(one) and wanted in people_of(one))
    return {one[key] for one in people for key in _NAMES if isinstance(one.get(key), str)}


def accounts_in(document: Json) -> dict[str, str]:
    """The users in a document: uuid to name."""
    found: dict[str, str] = {}
    for value in _objects(document):
        uuid = value.get("uuid")
        if is_person(value) and isinstance(uuid, str):
            found.setdefault(uuid, str(value.get("display_name") or uuid))
    return found


def groups_in(document: Json) -> dict[str, str]:
    """The groups in a document: slug to name."""
    found: dict[str, str] = {}
    for value in _objects(document):
        slug = value.get("slug")
        if value.get("type") == "group" and isinstance(slug, str):
            found.setdefault(slug, str(value.get("name") or slug))
    return found


def _objects(document: Json) -> Iterator[JsonObject]:
    """Every object in a document, at any depth."""
    todo = [document]
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo.extend(value)
        elif isinstance(value, dict):
            yield value
            todo.extend(value.values())
