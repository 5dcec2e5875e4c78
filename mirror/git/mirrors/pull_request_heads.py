"""Heads of pull requests that a mirror's own server does not advertise: fetched from forks, and by hash.

A fork's server lists its branches once and sends all wanted heads in one pack. A head that no branch has any
more is asked for by its full hash: some servers send commits that they do not advertise. Only pins are
written; no ref of the mirror moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.refs import Ref

from mirror.git.failures import GitFailed, GitUnauthorized
from mirror.git.mirrors.fetch import resolve_commit
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from mirror.git.pack.receiver import PackReceiver
from mirror.git.refs import (
    KEEP,
    closed_after,
    open_repository,
    pin_name,
    read_all,
    read_head,
    read_packed,
    write_packed,
)
from mirror.git.walk import first_parents, history
from mirror.git.wire.client import GitLogin, HttpClient
from mirror.git.wire.errors import protocol_errors
from mirror.git.wire.fetch_pack import HaveIterator
from mirror.git.workers.job import Clock, OnProgress, no_progress
from mirror.model import is_hash

# How many requests for hashes that are not advertised; a server refuses a request for one hash in it.
ASKS_MAX = 12
# How far back in a branch of ours to look for commits that a fork has, too.
HISTORY_MAX = 2000
# How many of our commits are read to find those that a fork advertises.
REACH_MAX = 20_000


@dataclass(frozen=True)
class HeadsJob:
    """Pin in `mirror` the heads of pull requests, `wants` (number to at least 12 digits), that the
    repository at `url` has.

    With `own` it is the mirror's own server, whose advertised refs the mirror has already: it is asked by
    hash only, and its refusals are raised. Else it is a fork, whose refusal goes into the result.
    `history_max`: see HISTORY_MAX.
    """

    mirror: str
    url: str
    wants: Mapping[int, str]
    login: GitLogin | None = None
    own: bool = False
    silence_timeout: float = 300.0
    history_max: int = HISTORY_MAX

    def do(self, progress: OnProgress, clock: Clock, limits: PackLimits, /) -> HeadsResult:
        """See `pin_heads`."""
        return pin_heads(self, progress=progress, clock=clock, limits=limits)


@dataclass(frozen=True)
class HeadsResult:
    """`pins`: the full hashes of the heads that are pinned now. `lacking`: the pull requests whose head the
    server did not give; those in neither were not asked for yet. `refused`: why a fork gave nothing."""

    pins: Mapping[int, str]
    lacking: tuple[int, ...] = ()
    refused: str | None = None


def pin_heads(
    job: HeadsJob,
    *,
    progress: OnProgress = no_progress,
    clock: Clock | None = None,
    limits: PackLimits = DEFAULT_LIMITS,
) -> HeadsResult:
    """Do `job`. Killed at any point, the refs of the mirror are unchanged; it may have more objects.

    `clock` serves to give up a transfer that is too slow. Raises the errors of `mirror.git.failures`: for a
    fork only those that may pass.
    """
    path = Path(job.mirror)
    refused: str | None = None
    asked: set[str] = set()
    found, missing = _found(path, job.wants)
    if missing:
        wanted = [job.wants[number] for number in missing]
        try:
            asked = _ask(job, path, wanted, progress, clock, limits)
        except (GitUnauthorized, GitFailed) as error:
            if job.own:
                raise
            refused, asked = error.message, set(wanted)
        found, missing = _found(path, job.wants)
    _pin(path, found)
    lacking = tuple(number for number in missing if job.wants[number] in asked)
    return HeadsResult(found, lacking, refused)


def _found(path: Path, wants: Mapping[int, str]) -> tuple[dict[int, str], list[int]]:
    """The full hashes of the heads that the mirror has, and the pull requests whose head it lacks, the newest
    first."""
    with closed_after(open_repository(path)) as repository:
        found = {number: resolve_commit(repository.object_store, text) for number, text in wants.items()}
    present = {number: value for number, value in found.items() if value is not None}
    return present, sorted(wants.keys() - present.keys(), reverse=True)


def _pin(path: Path, pins: Mapping[int, str]) -> None:
    """Write pins in one step. A former value of a pin is kept below `refs/mirror/keep/`."""
    old = read_all(path)
    new = dict(old)
    for number, value in pins.items():
        before = old.get(pin_name(number))
        if before is not None and before != value:
            new[KEEP + before.encode("ascii")] = before
        new[pin_name(number)] = value
    if new != old:
        write_packed(path, new, read_packed(path)[1], read_head(path))


def _ask(
    job: HeadsJob,
    path: Path,
    wanted: list[str],
    progress: OnProgress,
    clock: Clock | None,
    limits: PackLimits,
) -> set[str]:
    """Ask the server for heads; returns those that were asked for, whether it gave them or not."""
    if job.own:
        server = _Server(job, path, job.login, progress, clock, limits)
        return server.by_hash([text for text in wanted if is_hash(text)])
    try:
        return _ask_fork(job, _Server(job, path, job.login, progress, clock, limits), wanted)
    except (GitUnauthorized, GitFailed) as refusal:
        if job.login is None:
            raise
        # A public fork in another workspace may refuse this credential and still allow anonymous reads.
        try:
            return _ask_fork(job, _Server(job, path, None, progress, clock, limits), wanted)
        except (GitUnauthorized, GitFailed):
            raise refusal from None


def _ask_fork(job: HeadsJob, server: _Server, wanted: list[str]) -> set[str]:
    server.advertised(wanted)
    left = {job.wants[number] for number in _found(Path(job.mirror), job.wants)[1]}
    by_hash = server.by_hash([text for text in wanted if text in left and is_hash(text)])
    return by_hash | {text for text in wanted if text not in left or not is_hash(text)}


class _Server:
    """One server, over one connection. Its refs are listed once."""

    def __init__(
        self,
        job: HeadsJob,
        path: Path,
        login: GitLogin | None,
        progress: OnProgress,
        clock: Clock | None,
        limits: PackLimits,
    ) -> None:
        self._client = HttpClient(job.url, login=login, silence_timeout=job.silence_timeout, clock=clock)
        self._path = path
        self._progress = progress
        self._limits = limits
        self._history_max = job.history_max
        self._common: list[str] | None = None

    def _tips(self) -> list[str]:
        """The values of the refs that the server advertises."""
        if self._client.advertised is None:
            with protocol_errors():
                self._client.list_refs()
        assert self._client.advertised is not None
        return list(self._client.advertised.refs.values())

    def advertised(self, wanted: list[str]) -> None:
        """Fetch every advertised tip that begins with one of `wanted`."""
        starts: dict[str, list[str]] = {}
        for text in wanted:
            starts.setdefault(text[:12], []).append(text)
        self._fetch(
            [
                tip
                for tip in self._tips()
                if is_hash(tip) and any(tip.startswith(one) for one in starts.get(tip[:12], ()))
            ]
        )

    def by_hash(self, wanted: list[str]) -> set[str]:
        """Fetch commits by their full hashes, advertised or not; returns those that were asked for.

        A server refuses a whole request for one hash that it does not give. So a refused group is halved.
        """
        todo, refused, came = [wanted] if wanted else [], set[str](), set[str]()
        if todo:
            self._tips()
        for _ in range(ASKS_MAX):
            if not todo:
                break
            group = todo.pop()
            try:
                self._fetch(group)
                came.update(group)
            except GitFailed as error:
                named = {one for one in group if one in error.message or len(group) == 1}
                refused |= named
                rest = [one for one in group if one not in named]
                half = (len(rest) + 1) // 2
                todo += [part for part in (rest[half:], rest[:half]) if part]
        # A server that gave nothing at all gives only what it advertises.
        return came | refused if came else set(wanted)

    def _fetch(self, commits: list[str]) -> None:
        """Fetch these in one pack and publish it."""
        with closed_after(open_repository(self._path)) as repository:
            store = repository.object_store
            chosen = sorted({ObjectID(one.encode("ascii")) for one in commits} - _present(store, commits))

            def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:  # noqa: ARG001
                return chosen

            if not chosen:
                return
            if self._common is None:
                # No ref moves before the end, so the list stays valid.
                self._common = list(_common(store, self._tips(), read_all(self._path), self._history_max))
            with PackReceiver(self._path / "objects", self._limits) as pack:
                with protocol_errors():
                    self._client.fetch_pack(
                        b"", wants, HaveIterator(self._common), pack.write, self._on_sideband
                    )
                if pack.received:
                    pack.publish(store, processes=1, progress=self._progress)

    def _on_sideband(self, text: bytes) -> None:
        self._progress(text.decode("utf-8", "replace").strip())


def _present(store: DiskObjectStore, values: Iterable[str]) -> set[ObjectID]:
    found = {ObjectID(value.encode("ascii")) for value in values if is_hash(value)}
    return {one for one in found if one in store}


def _common(
    store: DiskObjectStore, theirs: Iterable[str], ours: Mapping[bytes, str], history_max: int
) -> Iterator[str]:
    """Commits that both sides may have, the most useful first: branches of ours that they advertise, too; the
    history of our first branches at growing distances, because a fork may be far behind; other advertised
    commits that our refs have or our branches reach.

    Objects in the mirror that no ref reaches (from a leftover pack, or before garbage collection) are not
    offered. The server would not send them again, and the search for LFS objects, which reads only new
    packs, would miss them.
    """
    shared = {one.decode("ascii") for one in _present(store, theirs)}
    tips = [value for name, value in ours.items() if name.startswith(b"refs/heads/")]
    yield from [tip for tip in tips if tip in shared][:64]
    for tip in tips[:3]:
        yield from _sparse_history(store, tip, history_max)
    direct = shared.intersection(ours.values())
    yield from sorted(direct)
    if direct < shared:
        yield from sorted(_reached(store, tips, shared - direct))
    yield from tips


def _reached(store: DiskObjectStore, tips: Iterable[str], values: set[str]) -> set[str]:
    """Those of `values` that `tips` reach by commits and tags, within the nearest REACH_MAX objects."""
    left = set(values)
    with suppress(KeyError):  # a commit is missing: return what was found so far
        for name in islice(history(store, tips), REACH_MAX):
            left.discard(name.hex())
            if not left:
                break
    return values - left


def _sparse_history(store: DiskObjectStore, tip: str, history_max: int) -> Iterator[str]:
    """Some first-parent ancestors of `tip`, at growing distances."""
    for depth, commit in enumerate(islice(first_parents(store, tip), history_max)):
        if depth & (depth - 1) == 0 or depth % 100 == 0:
            yield commit
