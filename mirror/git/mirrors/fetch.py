"""Fetching: a mirror gets every ref that a server advertises, under its own name, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID

from mirror import __version__
from mirror.errors import MirrorError, TryLater
from mirror.git import bare, walk
from mirror.git.mirrors.fetch_cache import FetchCache
from mirror.git.mirrors.update_refs import (
    RefProblems,
    accept,
    head_value,
    tips_of,
    update_refs,
    without_unavailable,
)
from mirror.git.objects import COMMIT
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from mirror.git.pack.receiver import sweep
from mirror.git.refs import (
    OURS,
    WORK,
    by_age,
    closed_after,
    open_repository,
    pin_name,
    pins_of,
    read_all,
    read_refs,
)
from mirror.git.wire.client import GitLogin, HttpClient
from mirror.git.wire.errors import protocol_errors
from mirror.git.wire.fetch_pack import receive
from mirror.git.wire.limits import DEFAULT_FETCH_LIMITS, FetchLimits
from mirror.git.workers.job import Clock, OnProgress, no_progress
from mirror.http.network import Network
from mirror.model import RefChange, Refs

__all__ = ["FetchJob", "FetchResult", "GitLogin", "create", "fetch", "probe", "read_refs"]

create = bare.create


@dataclass(frozen=True)
class FetchJob:
    """Bring the mirror at `mirror` up to what `url` advertises.

    `pins`: the heads of pull requests by number, as the API gives them (at least 12 digits). `erased`: refs
    that were removed on purpose and may not come back, pins among them. `silence_timeout`: seconds without a
    byte. `since`: where it is not None, the result lists every commit that is reachable now and was not from
    these hashes.
    """

    mirror: str
    url: str
    login: GitLogin | None = None
    pins: Mapping[int, str] = field(default_factory=dict)
    erased: frozenset[bytes] = frozenset()
    silence_timeout: float = 300.0
    since: frozenset[str] | None = None

    def do(self, progress: OnProgress, clock: Clock, limits: PackLimits, /) -> FetchResult:
        """See `fetch`."""
        return fetch(self, progress=progress, clock=clock, limits=limits)


@dataclass(frozen=True)
class ProbeJob:
    """Ask whether there is a git repository at `url`: None where there is, else why not."""

    url: str
    login: GitLogin | None = None
    silence_timeout: float = 30.0

    def do(self, _progress: OnProgress, clock: Clock, _limits: PackLimits, /) -> MirrorError | None:
        """See `probe`. Raises TryLater where the server cannot be asked now."""
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

    `advertised`: the refs that were advertised and accepted, where `lacking` ones have the value that the
    mirror has; None where they are just the mirror's. `refused`: refs that cannot be mirrored under their
    name, each with the reason. `lacking`: refs whose objects the server did not give, each with the reason;
    the mirror keeps what it has of them. `pins`: the full hash of every pull request head that is pinned.
    `unpinned`: pull requests whose head is wanted and not in the mirror. `commits`: see `FetchJob.since`.
    """

    mirror: str
    advertised: Refs | None
    changes: tuple[RefChange, ...] = ()
    refused: RefProblems = ()
    lacking: RefProblems = ()
    pins: Mapping[int, str] = field(default_factory=dict)
    unpinned: tuple[int, ...] = ()
    received_objects: int = 0
    received_bytes: int = 0
    commits: tuple[str, ...] = ()

    @cached_property
    def refs(self) -> Refs:
        """The refs that were advertised and accepted."""
        return self.advertised if self.advertised is not None else read_refs(Path(self.mirror))


def fetch(
    job: FetchJob,
    *,
    progress: OnProgress = no_progress,
    clock: Clock | None = None,
    limits: PackLimits = DEFAULT_LIMITS,
    fetch_limits: FetchLimits = DEFAULT_FETCH_LIMITS,
) -> FetchResult:
    """Run `job`. Killed at any point, the mirror stays valid and the next fetch continues.

    `clock` serves to give up a transfer that is too slow. Refs move last, in one step, and only where every
    tip and every object that it needs is there. Raises the errors of `mirror.git.failures`.
    """
    path = Path(job.mirror)
    bare.create(path)
    client = HttpClient(
        job.url, login=job.login, silence_timeout=job.silence_timeout, clock=clock, limits=fetch_limits
    )
    cache = FetchCache(path, *_request_of(job))
    advertised = _list_refs(client, cache.matches)
    if advertised is None:
        assert cache.found is not None
        return FetchResult(job.mirror, None, pins=cache.found.pins, unpinned=cache.found.unpinned)
    result = _update(job, client, advertised, progress, clock, limits)
    is_complete = not result.refused and not result.lacking and _has_exactly(path, result.refs)
    # Cache only if the caller has recorded every commit already; a run killed now must be able to report
    # them again.
    if client.answer is not None and is_complete and _are_commits_known(job, result.refs, result.pins):
        cache.store(client.answer, result.unpinned)
    return result


def _update(
    job: FetchJob,
    client: HttpClient,
    advertised: Refs,
    progress: OnProgress,
    clock: Clock | None,
    limits: PackLimits,
) -> FetchResult:
    """Give the mirror the `advertised` refs, as far as the server gives their objects."""
    path = Path(job.mirror)
    old = read_all(path)
    accepted, refused = accept(advertised, job.erased, old)
    if _is_up_to_date(path, job, old, accepted):
        return FetchResult(job.mirror, accepted, refused=refused, pins=pins_of(old))
    sweep(path, limits)
    received = receive(client, path, tips_of(accepted), _oldest_first(accepted), progress, clock, limits)
    count = received.objects
    if received.failures:
        # A ref that moved or went between list and fetch is no failure.
        again = _list_refs_again(client, received.failures)
        if (again.refs, again.head) != (advertised.refs, advertised.head):
            accepted, refused = accept(again, job.erased, old)
            received = receive(
                client, path, tips_of(accepted), _oldest_first(accepted), progress, clock, limits
            )
            count += received.objects
    with closed_after(open_repository(path)) as repository:
        store, old = repository.object_store, read_all(path)
        accepted, lacking = without_unavailable(path, store, old, accepted, received.failures)
        wanted_pins = {
            number: resolve_commit(store, text)
            for number, text in job.pins.items()
            if pin_name(number) not in job.erased
        }
        changes, pins = update_refs(path, store, old, accepted, wanted_pins)
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
            commits=_new_commits(store, {*tips_of(accepted), *pins.values()}, job.since),
        )


def _has_exactly(path: Path, refs: Refs) -> bool:
    mirrored = read_refs(path)
    return (mirrored.refs, mirrored.head) == (refs.refs, refs.head)


def _request_of(job: FetchJob) -> Iterator[str]:
    """What the result of a fetch depends on besides the server's response and the mirror's refs."""
    yield __version__
    yield repr(sorted(job.pins.items()))
    yield repr(sorted(job.erased))
    yield repr(None if job.since is None else sorted(job.since))


def _list_refs(client: HttpClient, is_known: Callable[[bytes], bool] = lambda _: False) -> Refs | None:
    with protocol_errors():
        return client.list_refs(is_known)


def _list_refs_again(client: HttpClient, failures: Mapping[str, MirrorError]) -> Refs:
    """What the server advertises now, after it did not give some objects. Raises the first of `failures`
    where it does not list its refs any more: then nothing is known of any ref."""
    client.advertised, client.answer, client.is_patient = None, None, True
    try:
        again = _list_refs(client)
    except MirrorError:
        raise next(iter(failures.values())) from None
    assert again is not None
    return again


def _is_up_to_date(path: Path, job: FetchJob, old: Mapping[bytes, str], accepted: Refs) -> bool:
    """Whether the mirror already has all that is wanted, judged by refs alone."""
    head = accepted.head
    if any(name.startswith(WORK) for name in old):
        return False
    if {name: value for name, value in old.items() if not name.startswith(OURS)} != accepted.refs:
        return False
    if head is not None and (head.kind == "detached" or head.value != head_value(path, old)):
        return False
    if not _are_commits_known(job, accepted, pins_of(old)):
        return False
    return (path / "packed-refs").exists() and all(
        pin_name(number) in job.erased or old.get(pin_name(number), " ").startswith(text)
        for number, text in job.pins.items()
    )


def _are_commits_known(job: FetchJob, refs: Refs, pins: Mapping[int, str]) -> bool:
    """Whether the caller knows every reachable commit, or does not ask for commits."""
    return job.since is None or {*tips_of(refs), *pins.values()} <= job.since


def _oldest_first(refs: Refs) -> list[str]:
    """The values of refs, those first that are likely to be old: tags by version, other refs, branches."""
    return [refs.refs[name] for name in by_age(refs.refs)]


def resolve_commit(store: DiskObjectStore, text: str) -> str | None:
    """The full hash of the one commit in `store` that begins with `text` (12 digits or more), or None."""
    if len(text) < 12 or any(sign not in "0123456789abcdef" for sign in text):
        return None
    if len(text) == 40:
        found = [ObjectID(text.encode("ascii"))]
        found = [identifier for identifier in found if identifier in store]
    else:
        found = list(dict.fromkeys(store.iter_prefix(text.encode("ascii"))))
    commits = [identifier for identifier in found if store.get_raw(identifier)[0] == COMMIT]
    return commits[0].decode("ascii") if len(commits) == 1 else None


def _new_commits(store: DiskObjectStore, tips: set[str], since: frozenset[str] | None) -> tuple[str, ...]:
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
    fetch_limits: FetchLimits = DEFAULT_FETCH_LIMITS,
) -> int:
    """Ask a git server for its refs and nothing else; returns how many there are.

    Raises the errors of `mirror.git.failures`.
    """
    client = HttpClient(
        url, login=login, silence_timeout=silence_timeout, clock=clock, network=network, limits=fetch_limits
    )
    refs = _list_refs(client)
    return 0 if refs is None else len(refs.refs)
