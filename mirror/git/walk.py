"""Walks over the object graph: every search that follows commits, tags and trees to what they name.

Object ids are 20 bytes here, which keeps the sets of large histories small. Blobs are never read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from mirror.git.objects import COMMIT, TAG, TREE, RawObjects, parents_of, read, target_of, tree_of
from mirror.git.pack.links import files_and_folders

Links = Callable[[int, bytes], Iterable[bytes]]
OnError = Callable[[bytes, Exception], None]


def raw(ids: Iterable[str]) -> list[bytes]:
    """Hexadecimal object ids as 20 bytes each, in order, each once."""
    return [bytes.fromhex(one) for one in dict.fromkeys(ids)]


def walk(
    store: RawObjects,
    tips: Iterable[bytes],
    links: Links,
    *,
    seen: set[bytes] | None = None,
    nearest_first: bool = False,
    on_error: OnError | None = None,
) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield id, kind and bytes of each object that `tips` reach, once.

    `links` returns the ids to follow from an object, by its kind and bytes. Objects in `seen` are skipped;
    those that the walk meets are added to it. The walk is depth-first unless `nearest_first`. An object
    that cannot be read goes to `on_error`; without it, the error is raised (KeyError: not in `store`).
    """
    seen = set() if seen is None else seen
    todo = deque(tips)
    following = todo.popleft if nearest_first else todo.pop
    while todo:
        name = following()
        if name in seen:
            continue
        seen.add(name)
        try:
            kind, data = read(store, name.hex())
            named = links(kind, data)
        except Exception as error:
            if on_error is None:
                raise
            on_error(name, error)
            continue
        yield name, kind, data
        todo.extend(one for one in named if one not in seen)


def skip_missing(_name: bytes, error: Exception) -> None:
    """For `on_error`: ignore objects that are not in the store. Raises every other error."""
    if not isinstance(error, KeyError):
        raise error


def parent_links(kind: int, data: bytes) -> list[bytes]:
    """The parents of a commit."""
    return [bytes.fromhex(name) for name in parents_of(data)] if kind == COMMIT else []


def history_links(kind: int, data: bytes) -> list[bytes]:
    """The parents of a commit, or the target of a tag."""
    if kind == TAG and (target := target_of(data)) is not None:
        return [bytes.fromhex(target)]
    return parent_links(kind, data)


def all_links(kind: int, data: bytes) -> tuple[list[bytes], list[bytes]]:
    """Everything that an object names: the blobs of a tree, and the trees, commits and tag targets.

    Submodules are commits of other repositories and do not count.
    """
    if kind == TREE:
        entries = files_and_folders(data)
        return [file for file, _ in entries if file], [folder for _, folder in entries if folder]
    links = history_links(kind, data)
    if kind == COMMIT and (tree := tree_of(data)) is not None:
        links.append(bytes.fromhex(tree))
    return [], links


def commits(store: RawObjects, tips: Iterable[str], *, seen: set[bytes] | None = None) -> set[bytes]:
    """The commits that `tips` reach without going through `seen`, to which they are added. Missing objects
    are ignored."""
    found = walk(store, raw(tips), history_links, seen=seen, on_error=skip_missing)
    return {name for name, kind, _ in found if kind == COMMIT}


def history(store: RawObjects, tips: Iterable[str]) -> Iterator[bytes]:
    """The ids of `tips` and of what they reach by parents and tag targets, nearest first. Raises KeyError
    where one is missing."""
    return (name for name, _, _ in walk(store, raw(tips), history_links, nearest_first=True))


def first_parents(store: RawObjects, tip: str) -> Iterator[str]:
    """`tip` and its first parents, up to the root or the first missing commit."""
    following: str | None = tip
    while following is not None:
        try:
            kind, data = read(store, following)
        except KeyError:
            return
        yield following
        following = next(iter(parents_of(data)), None) if kind == COMMIT else None


def is_ancestor(store: RawObjects, old: str, new: str, *, at_most: int) -> bool:
    """Whether the commit `old` is `new` or an ancestor of it, as far as `at_most` commits show. Missing
    commits are ignored."""
    target = bytes.fromhex(old)
    found = walk(store, raw([new]), parent_links, nearest_first=True, on_error=skip_missing)
    return any(name == target for name, _, _ in islice(found, at_most))


def oldest_first(store: RawObjects, tip: str, *, excluded: set[bytes]) -> list[str]:
    """The commits that `tip` reaches without going through `excluded`, parents before their children.
    Raises KeyError where one is missing."""
    found: dict[bytes, None] = {}
    todo = [(name, False) for name in raw([tip])]
    while todo:
        name, are_parents_done = todo.pop()
        if are_parents_done:
            found[name] = None
        elif name not in excluded and name not in found:
            kind, data = read(store, name.hex())
            if kind == COMMIT:
                todo.append((name, True))
            todo += [(link, False) for link in history_links(kind, data) if link not in found]
    return [name.hex() for name in found]


def trees_and_blobs(store: RawObjects, roots: Iterable[bytes], *, seen: set[bytes]) -> None:
    """Add the trees and blobs `roots`, and everything below them, to `seen`. Raises KeyError where a tree
    is missing."""
    blobs: set[bytes] = set()

    def folders(kind: int, data: bytes) -> list[bytes]:
        files, others = all_links(kind, data)
        blobs.update(files)
        return others

    for _ in walk(store, roots, folders, seen=seen):
        pass
    seen |= blobs
