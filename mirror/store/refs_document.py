"""`refs.json`: what upstream advertised, and our pull request pins, as documents of a snapshot.

Up to REFS_MAX refs stand in the document itself. More are spread over `refs/code/<ab>.json`,
where `ab` are the first two hexadecimal digits of the sha256 of the name as the JSON has it, so
that one ref that moves changes one small file; `refs.json` then holds the sha256 of each of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from mirror.model import (
    Head,
    JsonObject,
    Refs,
    dumps,
    is_hash,
    loads,
    name_from_json,
    name_to_json,
)
from mirror.store import layout
from mirror.store.failures import Malformed

REFS_MAX = 5000
_SHARDS = "refs/code/"


def refs_to_documents(refs: Refs, pins: Mapping[int, str]) -> dict[str, bytes]:
    """The documents (path to canonical bytes) that hold `refs` and the pull request pins."""
    names = {name_to_json(name): value for name, value in refs.refs.items()}
    heads = {str(number): value for number, value in pins.items()}
    code: JsonObject = {"head": _head_to_json(refs.head)}
    if len(names) + len(heads) <= REFS_MAX:
        code |= {"refs": names, "pull_requests": heads}
        return {"refs.json": dumps({"code": code})}
    shards: dict[str, dict[str, dict[str, str]]] = {}
    for kind, values in (("refs", names), ("pull_requests", heads)):
        for key, value in values.items():
            shard = shards.setdefault(_shard_of(key), {"refs": {}, "pull_requests": {}})
            shard[kind][key] = value
    documents = {shard: dumps(content) for shard, content in shards.items()}
    code["sharded"] = {
        "refs": len(names),
        "pull_requests": len(heads),
        "files": {shard: hashlib.sha256(data).hexdigest() for shard, data in documents.items()},
    }
    documents["refs.json"] = dumps({"code": code})
    return documents


def refs_from_documents(read: Callable[[str], bytes | None]) -> tuple[Refs, dict[int, str]] | None:
    """What `refs_to_documents` wrote; `read` gives a document's bytes by path.

    None where the snapshot has no `refs.json`: its refs were never known. Raises ValueError where
    the documents are not what they should be.
    """
    data = read(layout.REFS_DOCUMENT)
    if data is None:
        return None
    code = code_of(data)
    refs: dict[bytes, str] = {}
    pins: dict[int, str] = {}
    sharded = sharded_of(code)
    if sharded is None:
        refs, pins = values_of(code, layout.REFS_DOCUMENT)
    for shard, digest in files_of(sharded).items() if sharded is not None else ():
        data = read(shard)
        if data is None:
            raise Malformed(f"{shard} is missing")
        if hashlib.sha256(data).hexdigest() != digest:
            raise Malformed(f"{shard} is not the one that refs.json names")
        some = values_of(loads(data), shard)
        refs |= some[0]
        pins |= some[1]
    check_count(sharded, len(refs), len(pins))
    return Refs(refs, head_of(code)), pins


def code_of(data: bytes) -> JsonObject:
    """What `refs.json` says of the code. Raises ValueError, as all readers here."""
    return _object(_object(loads(data), layout.REFS_DOCUMENT).get("code"), layout.REFS_DOCUMENT)


def sharded_of(code: JsonObject) -> JsonObject | None:
    """What `refs.json` says of its shards; None where it holds everything itself."""
    return _object(code["sharded"], layout.REFS_DOCUMENT) if "sharded" in code else None


def files_of(sharded: JsonObject) -> JsonObject:
    """The shards: path to sha256."""
    return _object(sharded.get("files"), layout.REFS_DOCUMENT)


def check_count(sharded: JsonObject | None, refs: int, pins: int) -> None:
    """Raise ValueError unless the shards hold together as many as `refs.json` says."""
    if sharded is not None and (refs, pins) != (sharded.get("refs"), sharded.get("pull_requests")):
        raise Malformed("the shards of refs.json do not hold as many refs as it says")


def values_of(content: Any, document: str) -> tuple[dict[bytes, str], dict[int, str]]:
    """The refs and the pull request pins in a shard, or in the code's part of `refs.json`."""
    names = _object(_object(content, document).get("refs"), document)
    heads = _object(content.get("pull_requests"), document)
    refs = {name_from_json(name): _hash(value) for name, value in names.items()}
    return refs, {int(number): _hash(value) for number, value in heads.items()}


def is_shard(path: str) -> bool:
    """Whether a document is a shard of `refs.json`."""
    return path.startswith(_SHARDS)


def _shard_of(key: str) -> str:
    return f"{_SHARDS}{hashlib.sha256(key.encode('utf-8')).hexdigest()[:2]}.json"


def _head_to_json(head: Head | None) -> JsonObject | None:
    return None if head is None else {head.kind: name_to_json(head.value)}


def head_of(code: JsonObject) -> Head | None:
    """Where HEAD pointed."""
    data = code.get("head")
    if data is None:
        return None
    match list(_object(data, "refs.json").items()):
        case [(("symref" | "detached" | "unborn") as kind, str() as value)]:
            return Head(kind, name_from_json(value))
    raise Malformed("refs.json does not say where HEAD points")


def _hash(value: Any) -> str:
    if not isinstance(value, str) or not is_hash(value):
        raise Malformed("a ref's value is not a full hash")
    return value


def _object(value: Any, document: str) -> JsonObject:
    if not isinstance(value, dict):
        raise Malformed(f"{document} does not hold the objects that it should")
    return value


def is_own_document(path: str) -> bool:
    """Whether a document is the store's own (`snapshot.json`, `refs.json` and its shards) and not
    one of Bitbucket's."""
    return path in (layout.SNAPSHOT_DOCUMENT, layout.REFS_DOCUMENT) or is_shard(path)
