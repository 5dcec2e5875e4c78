"""Bringing a mirror up to what a server advertises, so that it only ever gains.

Every ref goes under its own name. Whenever one changes or goes away, its old value is kept under
`refs/mirror/keep/<hash>` in the same write of packed-refs: each hash that a snapshot may name
stays the direct value of some ref, whatever anybody's garbage collection does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID

from mirror import __version__
from mirror.errors import MirrorError, TryLater
from mirror.git import bare, walk
from mirror.git.failures import GitFailed
from mirror.git.mirrors.fetch_cache import FetchCache
from mirror.git.objects import COMMIT
from mirror.git.pack.receiver import present, sweep
from mirror.git.refs import (
    KEEP,
    OURS,
    PULL_REQUESTS,
    WORK,
    by_age,
    closed_after,
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
from mirror.git.wire.client import GitLogin, HttpClient
from mirror.git.wire.fetch_pack import as_mirror_error, receive
from mirror.git.workers.job import Clock, OnProgress, no_progress
from mirror.http.network import Network
from mirror.model import Head, RefChange, Refs, is_hash

__all__ = ["FetchJob", "FetchResult", "GitLogin", "create", "fetch", "probe", "read_refs"]

create = bare.create

ZERO = "0" * 40
# How many commits are walked to tell a fast-forward from a rewrite; beyond, it counts as rewritten.
WALK_MAX = 200_000


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

    def do(self, progress: OnProgress, clock: Clock, /) -> FetchResult:
        """See `fetch`."""
        return fetch(self, progress=progress, clock=clock)


@dataclass(frozen=True)
class ProbeJob:
    """Ask whether there is a git repository at `url`: None where there is, else why not."""

    url: str
    login: GitLogin | None = None
    silence_timeout: float = 30.0

    def do(self, _progress: OnProgress, clock: Clock, /) -> MirrorError | None:
        """See `probe`. Raises TryLater where nobody can say."""
        try:
            probe(self.url, self.login, silence_timeout=self.silence_timeout, clock=clock)
        except TryLater:
            raise
        except MirrorError as error:
            return error
        return None


@dataclass(frozen=True)
class FetchResult:
    """What a fetch found and did.

    `advertised` is all that was advertised and accepted, where `lacking` has no say; None: just what the
    mirror has. `refused`
    names refs that cannot be mirrored under their name, each with the reason; `lacking` those whose objects
    could not be had: what is held of them is as it was. `pins` is the full hash
    of every pull request head that is pinned; `unpinned` are those wanted but not held.
    """

    mirror: str
    advertised: Refs | None
    changes: tuple[RefChange, ...] = ()
    refused: tuple[tuple[bytes, str], ...] = ()
    lacking: tuple[tuple[bytes, str], ...] = ()
    pins: Mapping[int, str] = field(default_factory=dict)
    unpinned: tuple[int, ...] = ()
    received_objects: int = 0
    received_bytes: int = 0
    commits: tuple[str, ...] = ()

    @cached_property
    def refs(self) -> Refs:
        """All that was advertised and accepted."""
        return self.advertised if self.advertised is not None else read_refs(Path(self.mirror))


def fetch(
    job: FetchJob, *, progress: OnProgress = no_progress, clock: Callable[[], float] | None = None
) -> FetchResult:
    """Run `job`; killed at any point, the mirror stays valid and the next fetch goes on.

    `clock` (monotonic seconds) serves to give up what is too slow. Raises the errors of
    `mirror.git.failures`. Refs move last, in one step, and only when every tip and every link of what
    came is there.
    """
    path = Path(job.mirror)
    bare.create(path)
    client = HttpClient(job.url, login=job.login, silence_timeout=job.silence_timeout, clock=clock)
    cache = FetchCache(path, *_asked(job))
    advertised = _listed(client, cache.matches)
    if advertised is None:
        assert cache.found is not None
        return FetchResult(job.mirror, None, pins=cache.found.pins, unpinned=cache.found.unpinned)
    result = _taken_in(job, client, advertised, progress, clock)
    is_all = not result.refused and not result.lacking and _has_all_of(path, result.refs)
    # What was told only now may not have been heard: the run that asked may end before it has noted it.
    if client.answer is not None and is_all and _is_noted(job, result.refs, result.pins):
        cache.store(client.answer, result.unpinned)
    return result


def _taken_in(
    job: FetchJob, client: HttpClient, advertised: Refs, progress: OnProgress, clock: Clock | None
) -> FetchResult:
    """Make the mirror what is `advertised`, as far as its objects can be had."""
    path = Path(job.mirror)
    old = read_all(path)
    accepted, refused = _accept(advertised, job.erased, old)
    if _is_confirmed(path, job, old, accepted):
        return FetchResult(job.mirror, accepted, refused=refused, pins=_pins(old))
    sweep(path)
    received = receive(client, path, _tips(accepted), _order(accepted), progress, clock)
    count = received.objects
    if received.failures:
        # What moved or went between list and fetch is not to be had any more, and no fault.
        again = _listed_again(client, received.failures)
        if (again.refs, again.head) != (advertised.refs, advertised.head):
            accepted, refused = _accept(again, job.erased, old)
            received = receive(client, path, _tips(accepted), _order(accepted), progress, clock)
            count += received.objects
    with closed_after(open_repository(path)) as repository:
        store, old = repository.object_store, read_all(path)
        accepted, lacking = _without_lacking(path, store, old, accepted, received.failures)
        wanted_pins = {number: resolve(store, text) for number, text in job.pins.items()}
        wanted_pins = {n: value for n, value in wanted_pins.items() if pin_name(n) not in job.erased}
        changes, pins = _publish(path, store, old, accepted, wanted_pins)
        return FetchResult(
            job.mirror,
            accepted,
            changes=changes,
            refused=refused,
            lacking=lacking,
            pins=pins,
            unpinned=tuple(sorted(n for n, value in wanted_pins.items() if value is None)),
            received_objects=count,
            received_bytes=client.received_bytes,
            commits=_commits(store, {*_tips(accepted), *pins.values()}, job.since),
        )


def _has_all_of(path: Path, refs: Refs) -> bool:
    held = read_refs(path)
    return (held.refs, held.head) == (refs.refs, refs.head)


def _asked(job: FetchJob) -> Iterator[str]:
    """What the outcome of a look depends on beside the server's answer and the mirror's refs."""
    yield __version__
    yield repr(sorted(job.pins.items()))
    yield repr(sorted(job.erased))
    yield repr(None if job.since is None else sorted(job.since))


def _listed(client: HttpClient, is_known: Callable[[bytes], bool] = lambda _: False) -> Refs | None:
    try:
        return client.list_refs(is_known)
    except (MirrorError, OSError, MemoryError):
        raise
    except Exception as error:
        raise as_mirror_error(error) from error


def _is_confirmed(path: Path, job: FetchJob, old: Mapping[bytes, str], accepted: Refs) -> bool:
    """Whether the mirror is already all that was asked for, told without a look at any object."""
    head = accepted.head
    if any(name.startswith(WORK) for name in old):
        return False
    if {name: value for name, value in old.items() if not name.startswith(OURS)} != accepted.refs:
        return False
    if head is not None and (head.kind == "detached" or head.value != _head_value(path, old)):
        return False
    if not _is_noted(job, accepted, _pins(old)):
        return False
    return (path / "packed-refs").exists() and all(
        pin_name(number) in job.erased or old.get(pin_name(number), " ").startswith(text)
        for number, text in job.pins.items()
    )


def _is_noted(job: FetchJob, refs: Refs, pins: Mapping[int, str]) -> bool:
    """Whether whoever asks knows every commit that can be reached, or wants to know none."""
    return job.since is None or {*_tips(refs), *pins.values()} <= job.since


def _order(refs: Refs) -> list[str]:
    """The values of refs, those first that are likely to be old: tags by version, other refs, branches."""

    return [refs.refs[name] for name in by_age(refs.refs)]


def _accept(
    advertised: Refs, erased: frozenset[bytes], known: Mapping[bytes, str]
) -> tuple[Refs, tuple[tuple[bytes, str], ...]]:
    """Split what a server advertises into what can be mirrored and what must be refused. What is `known`
    was accepted before."""
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


def _listed_again(client: HttpClient, failures: Mapping[str, MirrorError]) -> Refs:
    """What the server advertises after something of it could not be had. Raises the first of `failures`
    where it does not list its refs any more: it is away, and nothing is known of any ref."""
    client.advertised, client.answer, client.is_patient = None, None, True
    try:
        again = _listed(client)
    except MirrorError:
        raise next(iter(failures.values())) from None
    assert again is not None
    return again


def _without_lacking(
    path: Path,
    store: DiskObjectStore,
    old: Mapping[bytes, str],
    accepted: Refs,
    failures: Mapping[str, MirrorError],
) -> tuple[Refs, tuple[tuple[bytes, str], ...]]:
    """Refs of which all is there, and which are not those with why. One that is not had stays as it is held.

    Raises the error of a ref where nothing that is advertised could be had.
    """
    new = _tips(accepted) - set(old.values())
    absent = new - {name.decode("ascii") for name in present(store, [ObjectID(t.encode()) for t in new])}
    why = {
        tip: failures[tip] if tip in failures else GitFailed(f"the server did not send {tip}")
        for tip in absent
    }
    if not why:
        return accepted, ()
    if absent >= _tips(accepted):
        raise next(iter(why.values()))
    lacking = [(name, why[value].message) for name, value in sorted(accepted.refs.items()) if value in why]
    _, tops = read_packed(path)
    refs, peeled = dict(accepted.refs), dict(accepted.peeled)
    for name, _ in lacking:
        del refs[name]
        peeled.pop(name, None)
        if name in old and not name.startswith(OURS):
            refs[name] = old[name]
            peeled |= {name: tops[name]} if name in tops else {}
    head = accepted.head
    if head is not None and head.kind == "detached" and (value := head.value.decode("ascii")) in why:
        lacking.append((b"HEAD", why[value].message))
        head = read_head(path)
    elif head is not None and head.kind == "symref" and head.value not in refs:
        head = Head("unborn", head.value)
    return Refs(refs, head, peeled), tuple(lacking)


def resolve(store: DiskObjectStore, text: str) -> str | None:
    """The full hash of the one commit that `text` (12 digits or more) means, if we hold it."""
    if len(text) < 12 or any(sign not in "0123456789abcdef" for sign in text):
        return None
    if len(text) == 40:
        found = [ObjectID(text.encode("ascii"))]
        found = [identifier for identifier in found if identifier in store]
    else:
        found = list(dict.fromkeys(store.iter_prefix(text.encode("ascii"))))
    commits = [identifier for identifier in found if store.get_raw(identifier)[0] == COMMIT]
    return commits[0].decode("ascii") if len(commits) == 1 else None


def _publish(
    path: Path,
    store: DiskObjectStore,
    old: Mapping[bytes, str],
    accepted: Refs,
    wanted_pins: Mapping[int, str | None],
) -> tuple[tuple[RefChange, ...], dict[int, str]]:
    """Write refs and HEAD if they changed; returns the changes and all pins."""
    new = {n: value for n, value in old.items() if n.startswith(OURS) and not n.startswith(WORK)}
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
        if before is not None and not name.startswith(WORK):
            keep.add(before)
        if not name.startswith(OURS):
            changes.append(RefChange(name, before, after, _kind(store, before, after)))
    for value in keep:
        new[KEEP + value.encode("ascii")] = value
    _, peeled_before = read_packed(path)
    head_moves = accepted.head is not None and accepted.head.value != _head_value(path, old)
    if new != old or head_moves or not (path / "packed-refs").exists():
        peeled = {name: value for name, value in peeled_before.items() if new.get(name) == old.get(name)}
        peeled.update(accepted.peeled)
        peeled = {name: value for name, value in peeled.items() if name in new}
        write_packed(path, new, peeled, accepted.head or read_head(path))
        _remove_loose(path)
    if head_moves and accepted.head is not None:
        write_head(path, accepted.head)
    return tuple(changes), _pins(new)


def _pins(refs: Mapping[bytes, str]) -> dict[int, str]:
    """The pull request heads that are pinned."""
    return {
        int(name[len(PULL_REQUESTS) : -len(b"/from")]): value
        for name, value in refs.items()
        if name.startswith(PULL_REQUESTS) and name.endswith(b"/from")
    }


def _head_value(path: Path, refs: Mapping[bytes, str]) -> bytes | None:
    head: Head | None = read_head(path, refs)
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
    try:
        is_forward = walk.is_ancestor(store, before, after, at_most=WALK_MAX)
    except Exception:  # noqa: BLE001 - this only labels a change, whose objects were checked when they came
        is_forward = False
    return "forwarded" if is_forward else "rewritten"


def _commits(store: DiskObjectStore, tips: set[str], since: frozenset[str] | None) -> tuple[str, ...]:
    """The commits that `tips` reach and `since` does not; none where `since` is None or has all tips."""
    if since is None or tips <= since:
        return ()
    before = walk.commits(store, since)
    return tuple(sorted(name.hex() for name in walk.commits(store, tips, seen=before)))


def probe(
    url: str,
    login: GitLogin | None,
    *,
    silence_timeout: float = 30.0,
    clock: Clock | None = None,
    network: Network | None = None,
) -> int:
    """Ask a git server for its refs and nothing else; returns how many there are.

    Raises the errors of `mirror.git.failures`.
    """
    refs = _listed(
        HttpClient(url, login=login, silence_timeout=silence_timeout, clock=clock, network=network)
    )
    return 0 if refs is None else len(refs.refs)
