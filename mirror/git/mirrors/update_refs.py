"""Which advertised refs a mirror accepts, and how its refs are changed.

Whenever a ref changes or goes away, its old value is kept as `refs/mirror/keep/<hash>` in the same write of
packed-refs. So each hash that a snapshot may name stays the direct value of some ref.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID

from mirror.errors import MirrorError
from mirror.git.failures import GitFailed
from mirror.git.objects import present
from mirror.git.refs import (
    KEEP,
    OURS,
    WORK,
    name_fault,
    pin_name,
    pins_of,
    read_head,
    read_packed,
    write_head,
    write_packed,
)
from mirror.git.walk import is_ancestor
from mirror.model import Head, RefChange, Refs, is_hash

ZERO = "0" * 40
# How many commits are read to tell a fast-forward from a rewrite. Beyond that it counts as a rewrite.
COMMITS_MAX = 200_000

RefProblems = tuple[tuple[bytes, str], ...]


def tips_of(refs: Refs) -> set[str]:
    """The values of refs, and of a detached HEAD."""
    tips = set(refs.refs.values())
    if refs.head is not None and refs.head.kind == "detached":
        tips.add(refs.head.value.decode("ascii"))
    return tips


def accept(
    advertised: Refs, erased: frozenset[bytes], known: Mapping[bytes, str]
) -> tuple[Refs, RefProblems]:
    """Split what a server advertises into the refs that can be mirrored and those that are refused, each
    with the reason. `erased` refs are in neither. Refs with their `known` value were accepted before."""
    good: dict[bytes, str] = {}
    refused: list[tuple[bytes, str]] = []
    for name, value in advertised.refs.items():
        if name in erased:
            continue
        fault = None
        if known.get(name) != value:
            fault = name_fault(name)
            if fault is None and (not is_hash(value) or value == ZERO):
                fault = "its value is not an object id"
        if fault is not None:
            refused.append((name, fault))
        else:
            good[name] = value
    head = advertised.head
    if head is not None and (fault := _head_fault(head)) is not None:
        refused.append((b"HEAD", fault))
        head = None
    peeled = {name: value for name, value in advertised.peeled.items() if name in good and is_hash(value)}
    return Refs(good, head, peeled), tuple(refused)


def _head_fault(head: Head) -> str | None:
    if head.kind != "detached":
        return "points to a name that is not a valid ref" if name_fault(head.value) is not None else None
    return None if is_hash(head.value.decode("ascii", "replace")) else "its value is not an object id"


def without_unavailable(
    path: Path,
    store: DiskObjectStore,
    old: Mapping[bytes, str],
    accepted: Refs,
    failures: Mapping[str, MirrorError],
) -> tuple[Refs, RefProblems]:
    """Split refs into those whose objects are in `store` and those that are lacking, each with the reason
    from `failures`. A lacking ref keeps the value that the mirror has.

    Raises the error of a ref where the objects of every advertised ref are lacking.
    """
    new = tips_of(accepted) - set(old.values())
    absent = new - {name.decode("ascii") for name in present(store, [ObjectID(t.encode()) for t in new])}
    why = {
        tip: failures[tip] if tip in failures else GitFailed(f"the server did not send {tip}")
        for tip in absent
    }
    if not why:
        return accepted, ()
    if absent >= tips_of(accepted):
        raise next(iter(why.values()))
    lacking = [(name, why[value].message) for name, value in sorted(accepted.refs.items()) if value in why]
    _, old_peeled = read_packed(path)
    refs, peeled = dict(accepted.refs), dict(accepted.peeled)
    for name, _ in lacking:
        del refs[name]
        peeled.pop(name, None)
        if name in old and not name.startswith(OURS):
            refs[name] = old[name]
            peeled |= {name: old_peeled[name]} if name in old_peeled else {}
    head = accepted.head
    if head is not None and head.kind == "detached" and (value := head.value.decode("ascii")) in why:
        lacking.append((b"HEAD", why[value].message))
        head = read_head(path)
    elif head is not None and head.kind == "symref" and head.value not in refs:
        head = Head("unborn", head.value)
    return Refs(refs, head, peeled), tuple(lacking)


def update_refs(
    path: Path,
    store: DiskObjectStore,
    old: Mapping[bytes, str],
    accepted: Refs,
    pins: Mapping[int, str | None],
) -> tuple[tuple[RefChange, ...], dict[int, str]]:
    """Write refs and HEAD where they changed, in one step; returns the changes and all pins.

    `old` are the refs of the mirror, `pins` the pull request heads to pin (None: not in the mirror).
    """
    new, keep = _merged(old, accepted, pins)
    changes = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is not None and not name.startswith(WORK):
            keep.add(before)
        if not name.startswith(OURS):
            changes.append(RefChange(name, before, after, _kind(store, before, after)))
    new |= {KEEP + value.encode("ascii"): value for value in keep}
    head_moves = accepted.head is not None and accepted.head.value != head_value(path, old)
    if new != old or head_moves or not (path / "packed-refs").exists():
        _, old_peeled = read_packed(path)
        peeled = {name: value for name, value in old_peeled.items() if new.get(name) == old.get(name)}
        peeled |= accepted.peeled
        peeled = {name: value for name, value in peeled.items() if name in new}
        write_packed(path, new, peeled, accepted.head or read_head(path))
        _remove_loose_refs(path)
    if head_moves and accepted.head is not None:
        write_head(path, accepted.head)
    return tuple(changes), pins_of(new)


def _merged(
    old: Mapping[bytes, str], accepted: Refs, pins: Mapping[int, str | None]
) -> tuple[dict[bytes, str], set[str]]:
    """The refs that the mirror is to have, and the values to keep besides."""
    new = {name: value for name, value in old.items() if name.startswith(OURS) and not name.startswith(WORK)}
    keep = set()
    for name, value in accepted.refs.items():
        if name.startswith(OURS):
            keep.add(value)
        else:
            new[name] = value
    if accepted.head is not None and accepted.head.kind == "detached":
        keep.add(accepted.head.value.decode("ascii"))
    new |= {pin_name(number): value for number, value in pins.items() if value is not None}
    return new, keep


def head_value(path: Path, refs: Mapping[bytes, str]) -> bytes | None:
    """What HEAD of the mirror names: a ref or a hash. `refs` are the mirror's refs."""
    head = read_head(path, refs)
    return head.value if head is not None else None


def _remove_loose_refs(path: Path) -> None:
    """Remove loose refs that another program made: they would hide packed-refs, which has their values."""
    for file in sorted((path / "refs").rglob("*"), reverse=True):
        if file.is_file():
            file.unlink()
    for name in ("heads", "tags"):
        (path / "refs" / name).mkdir(mode=0o700, exist_ok=True)


def _kind(
    store: DiskObjectStore, before: str | None, after: str | None
) -> Literal["created", "removed", "forwarded", "rewritten"]:
    if before is None:
        return "created"
    if after is None:
        return "removed"
    try:
        is_forward = is_ancestor(store, before, after, at_most=COMMITS_MAX)
    except Exception:  # noqa: BLE001 - this only labels a change, whose objects were checked on arrival
        is_forward = False
    return "forwarded" if is_forward else "rewritten"
