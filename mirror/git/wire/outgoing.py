"""Which objects a push must bring to a target, and in what order their history grew.

dulwich's own search parses every commit and tag, and of two entries of one name in a tree it sees one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import UnpackedObject, find_reusable_deltas

from mirror.git.objects import COMMIT, TAG, TREE, parents_of, read, target_of, tree_of
from mirror.git.pack.links import files_and_folders


def pack_data(
    store: DiskObjectStore, wants: Iterable[str], haves: Iterable[str]
) -> tuple[int, Iterator[UnpackedObject]]:
    """The objects that `wants` need and a target that has `haves` lacks, as dulwich sends them: how many, and
    each. Raises KeyError where one of them is not in `store`."""
    needed, known = _needed(store, wants, haves)
    return len(needed), _records(store, needed, known)


def commits_lacking(store: DiskObjectStore, tip: str, haves: Iterable[str]) -> list[str]:
    """The commits that `tip` reaches and `haves` do not, every parent before its children."""
    had = _commits(store, haves)
    found: dict[str, None] = {}
    todo: list[tuple[str, bool]] = [(tip, False)]
    while todo:
        name, are_parents_done = todo.pop()
        if are_parents_done:
            found[name] = None
            continue
        if name in had or name in found:
            continue
        kind, data = read(store, name)
        if kind == TAG and (target := target_of(data)) is not None:
            todo.append((target, False))
        elif kind == COMMIT:
            todo.append((name, True))
            todo += [(parent, False) for parent in parents_of(data) if parent not in found]
    return list(found)


def _commits(store: DiskObjectStore, tips: Iterable[str]) -> set[str]:
    """The commits that `tips` reach; a tip that is not in `store` reaches none that we know of."""
    found: set[str] = set()
    todo = list(tips)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            kind, data = read(store, name)
        except KeyError:
            continue
        if kind == COMMIT:
            found.add(name)
            todo += parents_of(data)
        elif kind == TAG and (target := target_of(data)) is not None:
            todo.append(target)
    return found


def _needed(
    store: DiskObjectStore, wants: Iterable[str], haves: Iterable[str]
) -> tuple[dict[ObjectID, None], set[ObjectID]]:
    """What a target lacks, and what of the trees next to it the target has."""
    haves = set(haves)
    had = _commits(store, haves)
    needed: dict[str, None] = {}
    trees: list[str] = []
    next_to: list[str] = []
    todo = [one for one in wants if one not in haves]
    while todo:
        name = todo.pop()
        if name in needed or name in had:
            continue
        kind, data = read(store, name)
        if kind == COMMIT:
            needed[name] = None
            next_to += [parent for parent in parents_of(data) if parent in had]
            todo += parents_of(data)
            trees += [tree] if (tree := tree_of(data)) is not None else []
        elif kind == TAG:
            needed[name] = None
            todo += [target] if (target := target_of(data)) is not None else []
        else:  # a ref or a tag may name a tree or a file
            trees.append(name)
    known: set[bytes] = set()
    for commit in dict.fromkeys(next_to):
        tree = tree_of(read(store, commit)[1])
        _walk(store, [tree] if tree is not None else [], known)
    new = known.copy()
    _walk(store, trees, new)
    result = {ObjectID(name.encode("ascii")): None for name in needed}
    result |= {ObjectID(name.hex().encode("ascii")): None for name in new - known}
    return result, {ObjectID(name.hex().encode("ascii")) for name in known}


def _walk(store: DiskObjectStore, roots: Iterable[str], seen: set[bytes]) -> None:
    """Add to `seen` the trees and files `roots`, and what they lead to."""
    todo = [bytes.fromhex(name) for name in roots]
    files: set[bytes] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        kind, data = read(store, name.hex())
        if kind == TREE:
            for file, folder in files_and_folders(data):
                if folder:
                    todo.append(folder)
                elif file:
                    files.add(file)
    seen |= files


def _records(
    store: DiskObjectStore, needed: dict[ObjectID, None], known: set[ObjectID]
) -> Iterator[UnpackedObject]:
    """The objects as they are sent: as the deltas that the mirror has them as, else whole."""
    left = dict(needed)
    for record in find_reusable_deltas(store, set(left), other_haves=known):
        del left[ObjectID(record.sha().hex().encode("ascii"))]
        yield record
    for name in left:
        kind, data = store.get_raw(name)
        yield UnpackedObject(kind, sha=bytes.fromhex(name.decode("ascii")), decomp_chunks=[data])
