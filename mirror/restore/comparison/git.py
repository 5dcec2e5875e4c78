"""Refs and LFS objects of two snapshots."""

from __future__ import annotations

from collections.abc import Collection

from mirror.model import name_to_json
from mirror.restore.comparison.differences import How
from mirror.restore.comparison.matching import Match
from mirror.restore.comparison.sides import Side
from mirror.store.reading.reader import MirrorRefs

CODE = "code"
_OURS = b"refs/mirror/"
_BITBUCKETS = b"refs/pull-requests/"
_BITBUCKETS_OWN = "Bitbucket makes it for its own pull requests"
_ENDED = "Bitbucket has ended wikis"


def compare_code(match: Match, original: Side, copy: Side, made: Collection[str]) -> None:
    """Compare the refs and LFS objects of two repositories. `made` are branches that the copy needs for its
    pull requests."""
    old, new = original.mirrors.get(CODE), copy.mirrors.get(CODE)
    if old is not None:
        compare_refs(match, CODE, old, new or MirrorRefs(type(old.refs)({})), made)
    wiki = original.mirrors.get("wiki")
    if wiki is not None and wiki.refs.refs:
        match.note("wiki", "wiki", "", How.MISSING, why=_ENDED)
    _compare_objects(match, original, copy)


def compare_refs(
    match: Match, mirror: str, original: MirrorRefs, copy: MirrorRefs, made: Collection[str] = ()
) -> None:
    """Compare two mirrors ref by ref, and the branch that HEAD names."""
    before, after = _of_people(original), _of_people(copy)
    for name in sorted(before.keys() | after.keys()):
        old, new, text = before.get(name), after.get(name), name_to_json(name)
        match.result.refs += 1
        if old == new:
            continue
        if new is None:
            why = _BITBUCKETS_OWN if name.startswith(_BITBUCKETS) else None
            match.note(mirror, "ref", text, How.MISSING, original=old, why=why)
        elif old is None:
            if not name.startswith(_BITBUCKETS) and text.removeprefix("refs/heads/") not in made:
                match.note(mirror, "ref", text, How.MORE, copy=new)
        else:
            match.note(mirror, "ref", text, How.DIFFERS, field="hash", original=old, copy=new)
    head, other = original.refs.head, copy.refs.head
    if head is not None and head.kind == "symref" and before and (other is None or other.value != head.value):
        match.note(
            mirror, "ref", "HEAD", How.DIFFERS, field="branch", original=name_to_json(head.value),
            copy=None if other is None else name_to_json(other.value),
        )  # fmt: skip


def _of_people(mirror: MirrorRefs) -> dict[bytes, str]:
    return {name: value for name, value in mirror.refs.refs.items() if not name.startswith(_OURS)}


def _compare_objects(match: Match, original: Side, copy: Side) -> None:
    objects, others = original.lfs or {}, copy.lfs or {}
    for oid, (_, is_held) in sorted(objects.items()):
        if not others.get(oid, (0, False))[1]:
            why = None if is_held else "no backup of the original could fetch it"
            match.note("lfs", "LFS object", oid, How.MISSING, why=why)
