"""A thing as what is compared of it: its dotted fields, each with a value that does not depend on where the
thing is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mirror.model import Json, JsonObject, dumps

# What an account begins with in `plain_fields`, before its uuid.
ACCOUNT = "account "
# What stands for the uuid of an account that was deleted or erased.
NO_UUID = "without a uuid"
_LINKS = "links"
# Lists whose order says nothing.
_UNORDERED = frozenset({"users", "groups", "events", "branch_types", "reviewers"})
_ACCOUNTS = frozenset({"user", "app_user", "team"})


def plain_fields(data: JsonObject, people: Mapping[str, str] | None = None) -> dict[str, Json]:
    """The dotted fields of a thing, without those that are null and without addresses.

    An account is its uuid, after `people` (uuid to uuid, in lower case); a group is its slug. Marks of the
    store, which begin with `_`, are left out.
    """
    return dict(_fields(data, people or {}, ""))


def _fields(data: JsonObject, people: Mapping[str, str], prefix: str) -> Iterator[tuple[str, Json]]:
    for name, value in data.items():
        if name == _LINKS or name.startswith("_"):
            continue
        one = _plain(value, people)
        if isinstance(one, dict):
            yield from _fields(one, people, f"{prefix}{name}.")
        elif one is not None:
            is_set = name in _UNORDERED and isinstance(one, list)
            yield prefix + name, sorted(one, key=dumps) if is_set else one


def _plain(value: Json, people: Mapping[str, str]) -> Json:
    if isinstance(value, list):
        return [_plain(one, people) for one in value]
    if not isinstance(value, dict):
        return value
    if is_account(value):
        return account_of(value, people)
    if value.get("type") == "group" and isinstance(value.get("slug"), str):
        return f"group {value['slug']}"
    return {name: _plain(one, people) for name, one in value.items() if name != _LINKS}


def is_account(value: Json) -> bool:
    """Whether an object is an account."""
    return isinstance(value, dict) and (value.get("type") in _ACCOUNTS or "account_id" in value)


def account_of(value: JsonObject, people: Mapping[str, str]) -> str:
    """What an account is in `plain_fields`."""
    uuid = value.get("uuid")
    if not isinstance(uuid, str):
        return ACCOUNT + NO_UUID
    return ACCOUNT + people.get(uuid.lower(), uuid.lower())
