"""`lfs/<ab>.json`: the LFS objects that the refs of a snapshot reach whose sha256 begins with `ab`, each with
its size and whether the store has it (`held`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mirror.model import Part, dumps, loads
from mirror.store.format import layout
from mirror.store.format.failures import Malformed

PART = "lfs"
# By sha256: the size, and whether the store has the object.
LfsObjects = Mapping[str, tuple[int, bool]]


def lfs_to_documents(objects: LfsObjects) -> dict[str, bytes]:
    """The documents (path to canonical bytes) that list `objects`."""
    shards: dict[str, dict[str, dict[str, int | bool]]] = {}
    for oid, (size, held) in objects.items():
        shard = shards.setdefault(f"{layout.LFS_DOCUMENTS}{oid[:2]}.json", {})
        shard[oid] = {"size": size, "held": held}
    return {path: dumps(content) for path, content in shards.items()}


def lfs_from_documents(
    paths: Iterable[str], read: Callable[[str], bytes | None]
) -> dict[str, tuple[int, bool]]:
    """The objects in the documents. Raises ValueError where one is malformed."""
    found: dict[str, tuple[int, bool]] = {}
    for path in paths:
        content = loads(read(path) or b"null")
        if not isinstance(content, dict):
            raise Malformed(f"{path} does not hold the objects that it should")
        for oid, one in content.items():
            size = one.get("size") if isinstance(one, dict) else None
            held = one.get("held") if isinstance(one, dict) else None
            if not layout.is_sha256(oid) or type(size) is not int or type(held) is not bool:
                raise Malformed(f"{path} does not hold the objects that it should")
            found[oid] = (size, held)
    return found


def knows_lfs(parts: Mapping[str, Part]) -> bool:
    """Whether a snapshot with these parts lists its LFS objects, even if there are none."""
    return PART in parts and "objects" in parts[PART].counts
