"""The seal of the store's small JSON files: their own checksum, inside them.

The key `sum` holds the sha256 of the canonical JSON of the object without that key, so that one
changed byte anywhere in a file is told without a second file. Version 0.1 wrote none.
"""

from __future__ import annotations

import hashlib

from mirror.model import JsonObject, NotCanonical, dumps, loads

SUM = "sum"


def is_sealed(data: bytes) -> bool:
    """Whether the bytes of a small file carry a seal, right or wrong."""
    return b'\n  "sum": "' in data


def sealed(value: JsonObject) -> bytes:
    """The canonical bytes of `value` with its seal."""
    plain = {key: one for key, one in value.items() if key != SUM}
    return dumps({**plain, SUM: hashlib.sha256(dumps(plain)).hexdigest()})


def seal_fault(data: bytes, unsealed: frozenset[str] = frozenset()) -> str | None:
    """Why the bytes of a small file are not those that were written, or None.

    `unsealed` are the keys that the file had before there were seals: a file with just these keys
    needs none.
    """
    try:
        value = loads(data)
    except NotCanonical as error:
        return str(error)
    if not isinstance(value, dict):
        return "it does not hold a JSON object"
    if SUM not in value:
        if value.keys() != unsealed:
            return "it has no seal"
        return None if dumps(value) == data else "it is not canonical JSON"
    return None if sealed(value) == data else "its content does not match its own checksum"
