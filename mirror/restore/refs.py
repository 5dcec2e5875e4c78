"""Which refs a restore brings back: all, those that `--refs` names, and with `--with-archive` more."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from mirror.errors import UsageError
from mirror.git.mirrors.unreached import UnreachedJob
from mirror.git.refs import OURS, name_fault, pin_name
from mirror.git.workers.pool import WorkerPool
from mirror.model import Head, Refs, Snapshot, name_to_json
from mirror.store.reading.reader import MirrorRefs, RepositoryFolder, StoreDamaged

_HEADS, _TAGS = b"refs/heads/", b"refs/tags/"
_PULL_REQUESTS, _SNAPSHOTS = b"pull-requests/%d", b"snapshots/"


def choose_refs(refs: Mapping[bytes, str], globs: Sequence[str]) -> dict[bytes, str]:
    """The refs whose full name (`refs/heads/main`) matches one of `globs`, where `*` includes slashes;
    without globs all refs. Raises UsageError for a glob that matches none."""
    if not globs:
        return dict(refs)
    chosen: dict[bytes, str] = {}
    for glob in globs:
        found = {name: value for name, value in refs.items() if fnmatchcase(os.fsdecode(name), glob)}
        if not found:
            raise UsageError(
                f"--refs {glob}: the snapshot has no ref of such a name",
                hint="name refs in full, as in --refs 'refs/heads/*'; mirror show … refs.json lists them",
            )
        chosen |= found
    return chosen


def only_refs(recorded: MirrorRefs, globs: Sequence[str]) -> MirrorRefs:
    """What `globs` choose of a mirror at a snapshot; pull request heads are matched by the names that they
    have in a restored folder. HEAD moves to a chosen branch where its own is not chosen. Raises UsageError as
    `choose_refs`."""
    if not globs:
        return recorded
    pins = {pin_name(number): (number, value) for number, value in recorded.pins.items()}
    chosen = choose_refs({**recorded.refs.refs, **{n: value for n, (_, value) in pins.items()}}, globs)
    refs = {name: value for name, value in chosen.items() if name not in pins}
    heads = sorted(name for name in refs if name.startswith(_HEADS))
    head = recorded.refs.head
    if head is not None and head.value not in refs:
        head = Head("symref", heads[0]) if heads else Head("unborn", b"refs/heads/main")
    peeled = {name: value for name, value in recorded.refs.peeled.items() if name in refs}
    kept = dict(pin for name, pin in pins.items() if name in chosen)
    return replace(recorded, refs=Refs(refs, head, peeled), pins=kept)


def check_prefix(text: str) -> bytes:
    """The prefix `--with-archive` as a ref name without a slash at its end. Raises UsageError."""
    prefix = os.fsencode(text.rstrip("/"))
    if name_fault(prefix + b"/x") is not None or prefix.count(b"/") < 1:
        raise UsageError(
            f"--with-archive {text}: this is no prefix for names of refs",
            hint="name one such as refs/heads/archive, or refs/archive where the server takes such refs",
        )
    if prefix.startswith(OURS) or prefix in (b"refs/heads", b"refs/tags"):
        raise UsageError(
            f"--with-archive {text}: names there would meet others",
            hint="name one such as refs/heads/archive",
        )
    return prefix


async def archive_refs(
    folder: RepositoryFolder, mirror: str, snapshot: Snapshot, prefix: bytes, pool: WorkerPool
) -> tuple[dict[bytes, str], list[StoreDamaged]]:
    """What the backup has beside the refs of the snapshot, under names below `prefix` that say what each is.

    `pull-requests/<n>` is the head of a pull request. `snapshots/<id>/<ref>` is the last value of a ref that
    was rewritten or removed later, as far as nothing newer reaches it; `<id>` is the last snapshot, up to
    this one, that names it. Below `refs/heads/` a server takes only commits, so tags go below `refs/tags/`
    there. Also returns the damage of earlier snapshots, which may have named more. Raises UsageError where
    `prefix` meets a ref of the snapshot, and GitFailed.
    """
    recorded = folder.metadata.mirrors(snapshot)[mirror]
    refs = {name: value for name, value in recorded.refs.refs.items() if not name.startswith(OURS)}
    for name in refs:
        if name == prefix or name.startswith(prefix + b"/") or prefix.startswith(name + b"/"):
            raise UsageError(
                f"--with-archive {name_to_json(prefix)}: the snapshot has the ref {name_to_json(name)}",
                hint="choose another prefix",
            )
    pins = {prefix + b"/" + _PULL_REQUESTS % number: value for number, value in recorded.pins.items()}
    known = {*recorded.pins.values(), *refs.values()}
    damages: list[StoreDamaged] = []
    candidates = _former(folder, mirror, snapshot, prefix, known, damages)
    job = UnreachedJob(str(folder.mirror(mirror)), tuple(sorted(known)), tuple(candidates))
    return pins | {candidates[value]: value for value in await pool.run(job)}, damages


def _former(
    folder: RepositoryFolder,
    mirror: str,
    snapshot: Snapshot,
    prefix: bytes,
    known: set[str],
    damages: list[StoreDamaged],
) -> dict[str, bytes]:
    """The hashes that snapshots up to this one name, without those in `known`: the newest first, each with
    its name below `prefix`. Damage is added to `damages`."""
    several = folder.metadata.snapshots(damages.append)
    snapshots = {one.id: one for one in several if one.sequence <= snapshot.sequence}
    usage = folder.metadata.hash_usage(snapshots.values(), lambda _, damage: damages.append(damage))
    last: dict[str, list[str]] = {}
    for value, ids in usage[mirror].items():
        if value not in known:
            last.setdefault(max(ids, key=lambda one: snapshots[one].sequence), []).append(value)
    found: dict[str, bytes] = {}
    for identifier in sorted(last, key=lambda one: snapshots[one].sequence, reverse=True):
        names = _names(folder.metadata.mirrors(snapshots[identifier])[mirror])
        for value in sorted(last[identifier], key=lambda one: names[one]):
            found[value] = _archived(prefix, identifier.encode("ascii"), names[value])
    return found


def _names(recorded: MirrorRefs) -> dict[str, bytes]:
    """A name for each hash of a mirror at a snapshot: a branch before a tag before others."""
    names = {value: _PULL_REQUESTS % number for number, value in recorded.pins.items()}
    head = recorded.refs.head
    if head is not None and head.kind == "detached":
        names[head.value.decode("ascii", "replace")] = b"HEAD"

    def rank(name: bytes) -> tuple[bool, bool]:
        return name.startswith(_HEADS), name.startswith(_TAGS)

    for name, value in sorted(recorded.refs.refs.items(), key=lambda ref: (rank(ref[0]), ref[0])):
        names[value] = name.removeprefix(b"refs/")
    return names


def _archived(prefix: bytes, snapshot: bytes, name: bytes) -> bytes:
    """The name below `prefix` of a ref of an earlier snapshot."""
    if name.startswith(b"tags/") and prefix.startswith(_HEADS):
        prefix = _TAGS + prefix.removeprefix(_HEADS)
    return prefix + b"/" + _SNAPSHOTS + snapshot + b"/" + name
