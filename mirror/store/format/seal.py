"""The seal of the store's small JSON files: a checksum inside the file.

The key `sum` holds the sha256 of the canonical JSON of the object without that key. It detects every changed
byte without a second file. Version 0.1 wrote no seals.
"""

from __future__ import annotations

import hashlib
import re

from mirror.model import JsonObject, NotCanonical, dumps, loads

SUM = "sum"
# A text in JSON holds no line break, so only a key of the outermost object begins a line like this.
_KEY = b'\n  "sum": "'
_SEAL = re.compile(_KEY + rb'([0-9a-f]{64})"(?:,|\n\}\n\Z)')


def is_sealed(data: bytes) -> bool:
    """Whether a small file has a seal, valid or not."""
    return _KEY in data


def sealed(value: JsonObject, *, limit: int | None = None) -> bytes:
    """The canonical JSON of `value` with its seal. Raises NotCanonical, also where that is over `limit`
    bytes."""
    plain = {key: one for key, one in value.items() if key != SUM}
    digest = hashlib.sha256(dumps(plain, limit=limit)).hexdigest()
    return dumps({**plain, SUM: digest}, limit=limit)


def has_valid_seal(data: bytes) -> bool:
    """Whether a small file is to the byte what `sealed` wrote. Nothing is parsed."""
    found = _SEAL.match(data, max(0, data.rfind(_KEY)))
    if found is None:
        return False
    is_last = not found[0].endswith(b",")
    if is_last and data[found.start() - 1 : found.start()] != b",":
        return False
    digest = hashlib.sha256(memoryview(data)[: found.start() - is_last])
    digest.update(b"\n}\n" if is_last else memoryview(data)[found.end() :])
    return digest.hexdigest().encode() == found[1]


def seal_fault(
    data: bytes, unsealed: frozenset[str] = frozenset(), *, limit: int | None = None
) -> str | None:
    """Why the content of a small file, of at most `limit` bytes, is not what was written, or None.

    `unsealed` are the keys that the file had in version 0.1: a file with exactly these keys needs no seal.
    """
    if has_valid_seal(data) and (limit is None or len(data) <= limit):
        return None
    try:
        value = loads(data, limit=limit)
    except NotCanonical as error:
        return str(error)
    if not isinstance(value, dict):
        return "it does not hold a JSON object"
    if SUM not in value:
        if value.keys() != unsealed:
            return "it has no seal"
        return None if dumps(value) == data else "it is not canonical JSON"
    return None if sealed(value, limit=limit) == data else "its content does not match its own checksum"
