"""Bringing a mirror up to what a server advertises, so that it only ever gains.

Every ref goes under its own name. Whenever one changes or goes away, its old value is kept under
`refs/mirror/keep/<hash>` in the same write of packed-refs: each hash that a snapshot may name
stays the direct value of some ref, whatever anybody's garbage collection does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dulwich.object_store import DiskObjectStore
from dulwich.objects import Commit, ObjectID, Tag
from dulwich.refs import Ref

from mirror.errors import MirrorError
from mirror.git import bare
from mirror.git.failures import GitFailed
from mirror.git.packs import Reception, sweep
from mirror.git.refs import (
    KEEP,
    OURS,
    PULL_REQUESTS,
    close,
    name_fault,
    open_repository,
    pin_name,
    read_all,
    read_head,
    read_packed,
    read_refs,
    write_head,
    write_packed,
)
from mirror.git.transport import GitLogin, HttpClient
from mirror.model import Head, RefChange, Refs, is_hash

__all__ = ["FetchJob", "FetchResult", "GitLogin", "create", "fetch", "probe", "read_refs"]

create = bare.create

ZERO = "0" * 40
HAVES_MAX = 256
# How many commits are walked to tell a fast-forward from a rewrite; beyond, it counts as rewritten.
WALK_MAX = 200_000

Tell = Callable[[str], None]


def _silent(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class FetchJob:
    """Bring the mirror at `mirror` up to what `url` advertises.

    `pins` are pull request ids with the hash of their head as far as the API told it (at least 12
    digits). `erased` are refs that were removed on purpose and may not come back, pins among them.
    `silence_timeout` is in seconds without a byte. Where `since` is not None, the result tells every
    commit that can be reached and could not be from the hashes in `since`.
    """

    mirror: str
    url: str
    login: GitLogin | None = None
    pins: Mapping[int, str] = field(default_factory=dict)
    erased: frozenset[bytes] = frozenset()
    silence_timeout: float = 300.0
    since: frozenset[str] | None = None


@dataclass(frozen=True)
class FetchResult:
    """What a fetch found and did.

    `refs` is all that was advertised and accepted. `refused` names refs that cannot be mirrored
    under their name, each with the reason. `pins` is the full hash of every pull request head that
    is pinned; `unpinned` are those wanted but not held.
    """

    refs: Refs
    changes: tuple[RefChange, ...] = ()
    refused: tuple[tuple[bytes, str], ...] = ()
    pins: Mapping[int, str] = field(default_factory=dict)
    unpinned: tuple[int, ...] = ()
    received_objects: int = 0
    received_bytes: int = 0
    commits: tuple[str, ...] = ()


class _Haves:
    """The commits that we tell the server we have: old ref values, no walk through history.

    `values` is called when the server's refs are known, so that what changed can come first.
    """

    def __init__(self, values: Callable[[], Iterable[str]]) -> None:
        self._collect = values
        self._values: Iterator[str] | None = None
        self.shallow: set[ObjectID] = set()
        self.unshallow: set[ObjectID] = set()

    def __next__(self) -> ObjectID | None:
        if self._values is None:
            self._values = iter(list(dict.fromkeys(self._collect()))[:HAVES_MAX])
        value = next(self._values, None)
        return ObjectID(value.encode("ascii")) if value is not None else None

    next = __next__

    def ack(self, sha: ObjectID) -> None:
        """The server has it too."""

    def nak(self) -> None:
        """Nothing in common."""


def fetch(job: FetchJob, *, tell: Tell = _silent) -> FetchResult:
    """Run `job`; killed at any point, the mirror stays valid and the next fetch goes on.

    Raises the errors of `mirror.git.failures`. Refs move last, in one step, and only when every
    tip and every link of the commits and tags that came is there.
    """
    path = Path(job.mirror)
    bare.create(path)
    sweep(path)
    client = HttpClient(job.url, login=job.login, silence_timeout=job.silence_timeout)
    repository = open_repository(path)
    try:
        old = read_all(path)
        count = _receive(client, repository.object_store, path, old, job.erased, tell)
        assert client.advertised is not None
        accepted, refused = _accept(client.advertised, job.erased)
        close(repository)
        repository = open_repository(path)
        store = repository.object_store
        _check_tips(store, accepted)
        wanted_pins = {number: _resolve(store, text) for number, text in job.pins.items()}
        wanted_pins = {n: value for n, value in wanted_pins.items() if pin_name(n) not in job.erased}
        result = _publish(path, store, old, accepted, wanted_pins)
        return FetchResult(
            refs=accepted,
            changes=result[0],
            refused=refused,
            pins=result[1],
            unpinned=tuple(sorted(n for n, value in wanted_pins.items() if value is None)),
            received_objects=count,
            received_bytes=client.received_bytes,
            commits=_commits(store, {*_tips(accepted), *result[1].values()}, job.since),
        )
    finally:
        close(repository)
        client.close()


def _accept(advertised: Refs, erased: frozenset[bytes]) -> tuple[Refs, tuple[tuple[bytes, str], ...]]:
    """Split what a server advertises into what can be mirrored and what must be refused."""
    good: dict[bytes, str] = {}
    refused: list[tuple[bytes, str]] = []
    for name, value in advertised.refs.items():
        if name in erased:
            continue
        fault = name_fault(name)
        if fault is None and (not is_hash(value) or value == ZERO):
            fault = "its value is not an object id"
        if fault is not None:
            refused.append((name, fault))
        else:
            good[name] = value
    head = advertised.head
    if head is not None and head.kind != "detached" and name_fault(head.value) is not None:
        refused.append((b"HEAD", "points to a name that is not a valid ref"))
        head = None
    if head is not None and head.kind == "detached" and not is_hash(head.value.decode("ascii", "replace")):
        refused.append((b"HEAD", "its value is not an object id"))
        head = None
    peeled = {n: v for n, v in advertised.peeled.items() if n in good and is_hash(v)}
    return Refs(good, head, peeled), tuple(refused)


def _tips(refs: Refs) -> set[str]:
    tips = set(refs.refs.values())
    if refs.head is not None and refs.head.kind == "detached":
        tips.add(refs.head.value.decode("ascii"))
    return tips


def _receive(
    client: HttpClient,
    store: DiskObjectStore,
    path: Path,
    old: Mapping[bytes, str],
    erased: frozenset[bytes],
    tell: Tell,
) -> int:
    """Ask what is new and store it; returns how many objects came."""

    def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:  # noqa: ARG001
        assert client.advertised is not None
        accepted, _refused = _accept(client.advertised, erased)
        missing = [ObjectID(tip.encode("ascii")) for tip in sorted(_tips(accepted))]
        return [tip for tip in missing if tip not in store]

    def heads() -> Iterator[str]:
        assert client.advertised is not None
        now = client.advertised.refs
        yield from (value for name, value in old.items() if name in now and now[name] != value)
        yield from (value for name, value in old.items() if name.startswith(b"refs/heads/"))
        yield from (value for name, value in old.items() if not name.startswith(b"refs/heads/"))

    def progress(text: bytes) -> None:
        tell(text.decode("utf-8", "replace").strip())

    with Reception(path / "objects") as pack:
        try:
            client.fetch_pack(b"", wants, _Haves(heads), pack.write, progress)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise _understood(error) from error
        if pack.received == 0:
            return 0
        # What was there before passed the same check when it came.
        return pack.publish(store, processes=os.cpu_count() or 1, tell=tell)


def _understood(error: Exception) -> Exception:
    """An error of the protocol as one of ours."""
    if isinstance(error, MirrorError):
        return error
    text = str(error).strip().splitlines()
    detail = "".join(sign for sign in (text[0] if text else "") if sign.isprintable())[:200]
    return GitFailed(f"the git server broke the protocol ({type(error).__name__}): {detail}")


def _check_tips(store: DiskObjectStore, refs: Refs) -> None:
    for tip in sorted(_tips(refs)):
        if ObjectID(tip.encode("ascii")) not in store:
            raise GitFailed(f"the server advertises {tip} but did not send it; nothing was changed")


def _resolve(store: DiskObjectStore, text: str) -> str | None:
    """The full hash of the one commit that `text` (12 digits or more) means, if we hold it."""
    if len(text) < 12 or any(sign not in "0123456789abcdef" for sign in text):
        return None
    if len(text) == 40:
        found = [ObjectID(text.encode("ascii"))]
        found = [identifier for identifier in found if identifier in store]
    else:
        found = list(dict.fromkeys(store.iter_prefix(text.encode("ascii"))))
    commits = [identifier for identifier in found if isinstance(store[identifier], Commit)]
    return commits[0].decode("ascii") if len(commits) == 1 else None


def _publish(
    path: Path,
    store: DiskObjectStore,
    old: Mapping[bytes, str],
    accepted: Refs,
    wanted_pins: Mapping[int, str | None],
) -> tuple[tuple[RefChange, ...], dict[int, str]]:
    """Write refs and HEAD if they changed; returns the changes and all pins."""
    new = {name: value for name, value in old.items() if name.startswith(OURS)}
    keep = set()
    for name, value in accepted.refs.items():
        if name.startswith(OURS):
            keep.add(value)
        else:
            new[name] = value
    if accepted.head is not None and accepted.head.kind == "detached":
        keep.add(accepted.head.value.decode("ascii"))
    for number, pin in wanted_pins.items():
        if pin is not None:
            new[pin_name(number)] = pin
    changes = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is not None:
            keep.add(before)
        if not name.startswith(OURS):
            changes.append(RefChange(name, before, after, _kind(store, before, after)))
    for value in keep:
        new[KEEP + value.encode("ascii")] = value
    _, peeled_before = read_packed(path)
    head_moves = accepted.head is not None and accepted.head.value != _head_value(path)
    if new != old or head_moves or not (path / "packed-refs").exists():
        peeled = {name: value for name, value in peeled_before.items() if new.get(name) == old.get(name)}
        peeled.update(accepted.peeled)
        peeled = {name: value for name, value in peeled.items() if name in new}
        write_packed(path, new, peeled, accepted.head or read_head(path))
        _remove_loose(path)
    if head_moves and accepted.head is not None:
        write_head(path, accepted.head)
    pins = {}
    for name, value in new.items():
        if name.startswith(PULL_REQUESTS) and name.endswith(b"/from"):
            pins[int(name[len(PULL_REQUESTS) : -len(b"/from")])] = value
    return tuple(changes), pins


def _head_value(path: Path) -> bytes | None:
    head: Head | None = read_head(path)
    return head.value if head is not None else None


def _remove_loose(path: Path) -> None:
    """Loose refs that somebody else made would hide ours; they are in packed-refs now."""
    for file in sorted((path / "refs").rglob("*"), reverse=True):
        if file.is_file():
            file.unlink()
    for name in ("heads", "tags"):
        (path / "refs" / name).mkdir(mode=0o700, exist_ok=True)


def _kind(store: DiskObjectStore, before: str | None, after: str | None) -> Any:
    if before is None:
        return "created"
    if after is None:
        return "removed"
    return "forwarded" if _is_ancestor(store, before, after) else "rewritten"


def _is_ancestor(store: DiskObjectStore, old: str, new: str) -> bool:
    target = ObjectID(old.encode("ascii"))
    todo = [ObjectID(new.encode("ascii"))]
    seen = set(todo)
    while todo and len(seen) < WALK_MAX:
        identifier = todo.pop(0) if len(todo) < 64 else todo.pop()
        if identifier == target:
            return True
        if identifier not in store:
            continue
        found = store[identifier]
        if isinstance(found, Commit):
            fresh = [parent for parent in found.parents if parent not in seen]
            seen.update(fresh)
            todo.extend(fresh)
    return False


def _commits(store: DiskObjectStore, tips: set[str], since: frozenset[str] | None) -> tuple[str, ...]:
    """The commits that `tips` reach and `since` does not; none where `since` is None or has all tips."""
    if since is None or tips <= since:
        return ()
    before = _reached(store, since, set())
    return tuple(sorted(one.decode("ascii") for one in _reached(store, tips, before) - before))


def _reached(store: DiskObjectStore, tips: Iterable[str], seen: set[ObjectID]) -> set[ObjectID]:
    """The commits that `tips` reach, without going on from what was `seen`."""
    todo = [ObjectID(tip.encode("ascii")) for tip in tips]
    found: set[ObjectID] = set()
    while todo:
        identifier = todo.pop()
        if identifier in found or identifier in seen or identifier not in store:
            continue
        thing = store[identifier]
        if isinstance(thing, Tag):
            todo.append(thing.object[1])
        elif isinstance(thing, Commit):
            found.add(identifier)
            todo.extend(thing.parents)
    return found


def probe(url: str, login: GitLogin | None, *, silence_timeout: float = 30.0) -> int:
    """Ask a git server for its refs and nothing else; returns how many there are.

    Raises the errors of `mirror.git.failures`.
    """
    client = HttpClient(url, login=login, silence_timeout=silence_timeout)
    try:
        client.get_refs(b"")
    except (MirrorError, OSError):
        raise
    except Exception as error:
        raise _understood(error) from error
    finally:
        client.close()
    return len(client.advertised.refs) if client.advertised is not None else 0
