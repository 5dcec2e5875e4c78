"""The refs of each mirror at a snapshot, and the pull request pins, as documents.

`refs.json` holds the refs of a repository's `code` and `wiki`, `refs/snippets/<name>.json` those of a
snippet, up to REFS_MAX refs of a mirror. More go to shards, `refs/<mirror>/<ab>.json`, where `ab` are the
first two hexadecimal digits of the sha256 of the ref's name as the JSON has it: a ref that moves changes one
small file. The document then holds the sha256 of each shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
from mirror.store.format import layout
from mirror.store.format.failures import Malformed

REFS_MAX = 5000
MAIN_MIRROR = "code"
WIKI_MIRROR = "wiki"
_SNIPPET_REFS = f"{layout.REFS_DOCUMENTS}{layout.SNIPPETS}/"
_GONE_SINCE = "gone_since"

Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class MirrorRefs:
    """One mirror at a snapshot: its refs, the pinned head of each pull request, and since when upstream no
    longer has it (None: it has, as far as is known)."""

    refs: Refs
    pins: Mapping[int, str] = field(default_factory=dict)
    gone_since: str | None = None

    @property
    def values(self) -> set[str]:
        """Every hash in it."""
        values = {*self.refs.refs.values(), *self.pins.values()}
        if self.refs.head is not None and self.refs.head.kind == "detached":
            values.add(self.refs.head.value.decode("ascii", "replace"))
        return values


def _home(mirror: str) -> tuple[str, str]:
    if mirror in (MAIN_MIRROR, WIKI_MIRROR):
        return layout.REFS_DOCUMENT, mirror
    return f"{layout.REFS_DOCUMENTS}{mirror}.json", "snippet"


def refs_document_of(mirror: str) -> str:
    """The path of the document that holds the refs of a mirror, or names its shards."""
    return _home(mirror)[0]


def shard_folder_of(mirror: str) -> str:
    """The folder of the shards of a mirror."""
    return f"{layout.REFS_DOCUMENTS}{mirror}"


def refs_to_documents(refs: Refs, pins: Mapping[int, str]) -> dict[str, bytes]:
    """The documents (path to canonical bytes) that hold the refs of the code."""
    return mirror_to_documents(MAIN_MIRROR, MirrorRefs(refs, pins))


def mirror_to_documents(mirror: str, state: MirrorRefs, before: bytes | None = None) -> dict[str, bytes]:
    """The documents (path to canonical bytes) that hold the refs of a mirror.

    `before` is the present document, whose content about other mirrors stays.
    """
    names = {name_to_json(name): value for name, value in state.refs.refs.items()}
    kinds = {"refs": names}
    if mirror == MAIN_MIRROR:
        kinds["pull_requests"] = {str(number): value for number, value in state.pins.items()}
    content: JsonObject = {"head": _head_to_json(state.refs.head)}
    if state.gone_since is not None:
        content[_GONE_SINCE] = state.gone_since
    documents: dict[str, bytes] = {}
    if sum(len(values) for values in kinds.values()) <= REFS_MAX:
        content |= kinds
    else:
        shards: dict[str, dict[str, dict[str, str]]] = {}
        for kind, values in kinds.items():
            for key, value in values.items():
                shard = shards.setdefault(_shard_of(mirror, key), {one: {} for one in kinds})
                shard[kind][key] = value
        documents = {shard: dumps(one) for shard, one in shards.items()}
        content["sharded"] = {
            **{kind: len(values) for kind, values in kinds.items()},
            "files": {shard: hashlib.sha256(data).hexdigest() for shard, data in documents.items()},
        }
    path, key = _home(mirror)
    others = {} if before is None else _object(loads(before), path)
    documents[path] = dumps({**others, key: content})
    return documents


def mirror_edits(
    mirror: str, state: MirrorRefs | None, read: Read, paths: Callable[[str], Iterable[str]]
) -> dict[str, bytes | None]:
    """The edits that store the refs of a mirror, or with None remove them: path to new bytes, None to remove.

    `read` gives the present bytes of a document, `paths` the present paths below a folder.
    """
    path = refs_document_of(mirror)
    folder = shard_folder_of(mirror)
    old = {one for one in paths(folder) if one.startswith(f"{folder}/")}
    if state is None:
        return dict.fromkeys([path, *sorted(old)]) if path != layout.REFS_DOCUMENT else {}
    before = read(path)
    edits: dict[str, bytes | None] = dict(mirror_to_documents(mirror, state, before))
    content = None if before is None else mirror_content(mirror, before)
    sharded = None if content is None else sharding_of(content, path)
    digests = {} if sharded is None else shard_digests(sharded, path)
    # Few of many shards change; compare digests rather than read them all.
    for one in old & edits.keys():
        if digests.get(one) == hashlib.sha256(edits[one] or b"").hexdigest():
            del edits[one]
            old.remove(one)
    return {**dict.fromkeys(sorted(old - edits.keys())), **edits}


def refs_from_documents(read: Read) -> tuple[Refs, dict[int, str]] | None:
    """The refs of the code and the pull request pins; `read` gives a document's bytes by path.

    None where the snapshot has no `refs.json`: its refs were never read. Raises ValueError where the
    documents are malformed.
    """
    state = mirror_from_documents(MAIN_MIRROR, read)
    return None if state is None else (state.refs, dict(state.pins))


def mirror_from_documents(mirror: str, read: Read) -> MirrorRefs | None:
    """The refs of a mirror, or None. Raises ValueError where the documents are malformed."""
    path = refs_document_of(mirror)
    data = read(path)
    content = None if data is None else mirror_content(mirror, data)
    if content is None:
        return None
    refs: dict[bytes, str] = {}
    pins: dict[int, str] = {}
    sharded = sharding_of(content, path)
    if sharded is None:
        refs, pins = ref_values(mirror, content, path)
    for shard, digest in shard_digests(sharded, path).items() if sharded is not None else ():
        data = read(shard)
        if data is None:
            raise Malformed(f"{shard} is missing")
        if hashlib.sha256(data).hexdigest() != digest:
            raise Malformed(f"{shard} is not the one that {path} names")
        some = ref_values(mirror, loads(data), shard)
        refs |= some[0]
        pins |= some[1]
    check_count(mirror, sharded, len(refs), len(pins))
    since = content.get(_GONE_SINCE)
    if since is not None and not isinstance(since, str):
        raise Malformed(f"{path} does not say since when it is gone")
    return MirrorRefs(Refs(refs, head_of(content, path)), pins, since)


def mirror_content(mirror: str, data: bytes) -> JsonObject | None:
    """The content about a mirror in a document; None where there is none (the code must have some).

    Raises ValueError, as all readers here do.
    """
    if mirror == WIKI_MIRROR and b'"wiki"' not in data:
        return None
    path, key = _home(mirror)
    return _object(_object(loads(data), path).get(key), path)


def sharding_of(content: JsonObject, path: str) -> JsonObject | None:
    """The description of the shards; None where the document holds the refs itself."""
    return _object(content["sharded"], path) if "sharded" in content else None


def shard_digests(sharded: JsonObject, path: str) -> JsonObject:
    """The sha256 of each shard, by path."""
    return _object(sharded.get("files"), path)


def check_count(mirror: str, sharded: JsonObject | None, refs: int, pins: int) -> None:
    """Raise ValueError unless the shards hold as many refs and pins as the document says."""
    if sharded is None:
        return
    said = sharded.get("refs"), sharded.get("pull_requests") if mirror == MAIN_MIRROR else 0
    if (refs, pins) != said:
        raise Malformed(f"the shards of {refs_document_of(mirror)} do not hold as many refs as it says")


def ref_values(mirror: str, content: Any, document: str) -> tuple[dict[bytes, str], dict[int, str]]:
    """The refs and the pull request pins in a shard, or in the content about a mirror."""
    names = _object(_object(content, document).get("refs"), document)
    heads = _object(content.get("pull_requests"), document) if mirror == MAIN_MIRROR else {}
    refs = {name_from_json(name): _hash(value) for name, value in names.items()}
    return refs, {int(number): _hash(value) for number, value in heads.items()}


def snippet_mirrors(paths: Iterable[str]) -> Iterator[str]:
    """The mirrors of the snippets whose documents have these paths."""
    for path in paths:
        name = path.removeprefix(_SNIPPET_REFS)
        if path.startswith(_SNIPPET_REFS) and name.endswith(".json") and "/" not in name:
            yield f"{layout.SNIPPETS}/{name.removesuffix('.json')}"


def qualified_ref(mirror: str, name: bytes) -> bytes:
    """The name of a ref among several mirrors: refs of the code keep theirs, others are like
    `wiki:refs/heads/main` (no ref name has a colon)."""
    return name if mirror == MAIN_MIRROR else mirror.encode("ascii") + b":" + name


def split_ref(name: bytes) -> tuple[str, bytes]:
    """The mirror and the ref of a qualified name."""
    mirror, colon, ref = name.partition(b":")
    return (mirror.decode("ascii", "replace"), ref) if colon else (MAIN_MIRROR, name)


def mirror_of_document(path: str) -> str | None:
    """The mirror of the snippet that a document describes; None for other documents."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.removesuffix('.json')}" if folder == layout.SNIPPETS else None


def _shard_of(mirror: str, key: str) -> str:
    return f"{shard_folder_of(mirror)}/{hashlib.sha256(key.encode('utf-8')).hexdigest()[:2]}.json"


def _head_to_json(head: Head | None) -> JsonObject | None:
    return None if head is None else {head.kind: name_to_json(head.value)}


def head_of(content: JsonObject, path: str) -> Head | None:
    """The HEAD of the mirror, or None."""
    data = content.get("head")
    if data is None:
        return None
    match list(_object(data, path).items()):
        case [(("symref" | "detached" | "unborn") as kind, str() as value)]:
            return Head(kind, name_from_json(value))
    raise Malformed(f"{path} does not say where HEAD points")


def _hash(value: Any) -> str:
    if not isinstance(value, str) or not is_hash(value):
        raise Malformed("a ref's value is not a full hash")
    return value


def _object(value: Any, document: str) -> JsonObject:
    if not isinstance(value, dict):
        raise Malformed(f"{document} does not hold the objects that it should")
    return value


def is_own_document(path: str) -> bool:
    """Whether a document is the store's own (`snapshot.json`, `refs.json`, shards, lists of LFS objects),
    not Bitbucket's."""
    own = (layout.SNAPSHOT_DOCUMENT, layout.REFS_DOCUMENT)
    return path in own or path.startswith((layout.REFS_DOCUMENTS, layout.LFS_DOCUMENTS))
