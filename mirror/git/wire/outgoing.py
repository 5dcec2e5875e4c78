"""The objects that a push must send to a target.

dulwich's own search parses every commit and tag, and sees only one of two entries with one name in a tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import UnpackedObject, find_reusable_deltas

from mirror.git.objects import COMMIT, TAG, parents_of, read, tree_of
from mirror.git.walk import commits, history_links, oldest_first, raw, trees_and_blobs, walk


def pack_data(
    store: DiskObjectStore, wants: Iterable[str], haves: Iterable[str]
) -> tuple[int, Iterator[UnpackedObject]]:
    """The number of objects that `wants` need and a target with `haves` lacks, and each of them as dulwich
    sends it. Raises KeyError where one of them is not in `store`."""
    needed, known = _needed(store, wants, haves)
    return len(needed), _records(store, needed, known)


def commits_lacking(store: DiskObjectStore, tip: str, haves: Iterable[str]) -> list[str]:
    """The commits that `tip` reaches and `haves` do not, every parent before its children."""
    return oldest_first(store, tip, excluded=commits(store, haves))


def _needed(
    store: DiskObjectStore, wants: Iterable[str], haves: Iterable[str]
) -> tuple[dict[ObjectID, None], set[ObjectID]]:
    """The objects that the target lacks, and those in the trees of the boundary commits, which it has."""
    haves = set(haves)
    had = commits(store, haves)
    needed: list[bytes] = []
    boundary: dict[bytes, None] = {}
    trees: list[bytes] = []
    for name, kind, data in walk(store, raw(set(wants) - haves), history_links, seen=had.copy()):
        if kind not in (COMMIT, TAG):  # a ref or a tag may name a tree or a file
            trees.append(name)
            continue
        needed.append(name)
        if kind == COMMIT:
            boundary |= dict.fromkeys(parent for parent in raw(parents_of(data)) if parent in had)
            trees += _tree_of(data)
    known: set[bytes] = set()
    for commit in boundary:
        trees_and_blobs(store, _tree_of(read(store, commit.hex())[1]), seen=known)
    new = known.copy()
    trees_and_blobs(store, trees, seen=new)
    return _ids([*needed, *(new - known)]), set(_ids(known))


def _tree_of(commit: bytes) -> list[bytes]:
    """The tree of a commit, where it names one."""
    tree = tree_of(commit)
    return raw([tree] if tree is not None else [])


def _ids(names: Iterable[bytes]) -> dict[ObjectID, None]:
    return {ObjectID(name.hex().encode("ascii")): None for name in names}


def _records(
    store: DiskObjectStore, needed: dict[ObjectID, None], known: set[ObjectID]
) -> Iterator[UnpackedObject]:
    """The objects to send: as deltas where the mirror has reusable ones, else in full."""
    left = dict(needed)
    for record in find_reusable_deltas(store, set(left), other_haves=known):
        del left[ObjectID(record.sha().hex().encode("ascii"))]
        yield record
    for name in left:
        kind, data = store.get_raw(name)
        yield UnpackedObject(kind, sha=bytes.fromhex(name.decode("ascii")), decomp_chunks=[data])
