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
    data = read("refs.json")
    if data is None:
        return None
    code = _object(_object(loads(data), "refs.json").get("code"), "refs.json")
    if "sharded" in code:
        names, heads = _read_shards(_object(code["sharded"], "refs.json"), read)
    else:
        names = _object(code.get("refs"), "refs.json")
        heads = _object(code.get("pull_requests"), "refs.json")
    refs = {name_from_json(name): _hash(value) for name, value in names.items()}
    pins = {int(number): _hash(value) for number, value in heads.items()}
    return Refs(refs, _head_from_json(code.get("head"))), pins


def _read_shards(
    sharded: JsonObject, read: Callable[[str], bytes | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    names: dict[str, Any] = {}
    heads: dict[str, Any] = {}
    for shard, digest in _object(sharded.get("files"), "refs.json").items():
        data = read(shard)
        if data is None:
            raise Malformed(f"{shard} is missing")
        if hashlib.sha256(data).hexdigest() != digest:
            raise Malformed(f"{shard} is not the one that refs.json names")
        content = _object(loads(data), shard)
        names |= _object(content.get("refs"), shard)
        heads |= _object(content.get("pull_requests"), shard)
    if (len(names), len(heads)) != (sharded.get("refs"), sharded.get("pull_requests")):
        raise Malformed("the shards of refs.json do not hold as many refs as it says")
    return names, heads


def is_shard(path: str) -> bool:
    """Whether a document is a shard of `refs.json`."""
    return path.startswith(_SHARDS)


def _shard_of(key: str) -> str:
    return f"{_SHARDS}{hashlib.sha256(key.encode('utf-8')).hexdigest()[:2]}.json"


def _head_to_json(head: Head | None) -> JsonObject | None:
    return None if head is None else {head.kind: name_to_json(head.value)}


def _head_from_json(data: Any) -> Head | None:
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
