"""Fetches the objects that a mirror lacks, as far as the server can send them.

The first request is for all refs. It may fail because of one ref (an object upstream is missing or damaged),
and the first fetch of a giant may never succeed in one request. Then refs are requested in groups, the oldest
first, and a group that fails is halved, down to the single ref. Refs below `refs/mirror/work/` keep what a
group brought, so that the next attempt, or the next run, continues from there.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dulwich.errors import HangupException
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.refs import Ref

from mirror.errors import MirrorError
from mirror.fs.durable import write_file
from mirror.git.failures import GitFailed, GitForbidden, GitNotFound, GitUnreachable
from mirror.git.objects import present
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from mirror.git.pack.receiver import PackReceiver
from mirror.git.refs import (
    OURS,
    WORK,
    closed_after,
    open_repository,
    read_all,
    read_head,
    read_packed,
    write_packed,
)
from mirror.git.wire.client import HttpClient
from mirror.git.wire.errors import as_mirror_error, clean
from mirror.git.workers.job import Clock, OnProgress
from mirror.model import is_hash

T = TypeVar("T")
# How many commits are offered to the server.
HAVES_MAX = 256
# The number of groups after a request for all refs failed.
GROUPS = 8
# A transfer that broke off counts as so many failures.
BROKEN_TRANSFER = 3
# After so many failures in a row the largest of the remaining groups come first.
FAILURES_BEFORE_SORTING = 12
# After so many failures in a row the server is asked whether it still lists its refs.
FAILURES_BEFORE_PROBE = 3
# The values of refs that the server did not give in the last run, one a line: they are requested last.
FILE = "lacking"
# The lines of the server's progress messages that report an error.
_ERROR_LINE = re.compile(r"(?:fatal|error): .+")


@dataclass(frozen=True)
class Received:
    """How many objects were received, and the values of refs that the server did not give, each with the
    reason."""

    objects: int = 0
    failures: Mapping[str, MirrorError] = field(default_factory=dict)


def receive(
    client: HttpClient,
    path: Path,
    tips: Iterable[str],
    order: Sequence[str],
    progress: OnProgress,
    clock: Clock | None = None,
    limits: PackLimits = DEFAULT_LIMITS,
) -> Received:
    """Fetch the objects that `tips` need into the mirror at `path`, as far as the server can send them.

    The caller holds the writer's lock, and `client` has listed the refs. `order`: hashes in the order in
    which groups of them are requested. `client.limits` bound the failures. Raises the errors of
    `mirror.git.failures` where the server refuses the credential or has no such repository any more; what
    groups brought before stays.
    """
    old = read_all(path)
    mirrored = set(old.values())
    with closed_after(open_repository(path)) as repository:
        new = sorted(set(tips) - mirrored)
        missing = set(_lacking(repository.object_store, new))
    if not missing:
        _write_failed(path, [])
        return Received()
    wants = [tip for tip in dict.fromkeys([*order, *sorted(missing)]) if tip in missing]
    failed_before = [tip for tip in _read_failed(path) if tip in missing]
    grouped = _GroupedFetch(client, path, progress, clock, limits)
    known = set(failed_before)
    fresh = [tip for tip in wants if tip not in known]
    # An earlier run was interrupted while it requested groups: a request for all would fail again.
    is_interrupted = any(name.startswith(WORK + b"/") for name in old)
    grouped.fetch(fresh, client.limits.failures, divided=is_interrupted and len(fresh) > 1)
    if grouped.is_down:
        grouped.failures |= dict.fromkeys(failed_before, grouped.failures[fresh[0]])
    else:
        grouped.fetch(failed_before, client.limits.repeated_failures)
    # Refs that were requested alone in this run come last in the next, so that each has its turn.
    again = [tip for tip in [*failed_before, *wants] if tip in grouped.failures]
    _write_failed(path, sorted(dict.fromkeys(again), key=lambda tip: tip in grouped.alone))
    return Received(grouped.objects, grouped.failures)


class _GroupedFetch:
    """Requests the objects of refs from one server: of all at once, then of ever smaller groups."""

    def __init__(
        self,
        client: HttpClient,
        path: Path,
        progress: OnProgress,
        clock: Clock | None,
        limits: PackLimits,
    ) -> None:
        self._client = client
        self._path = path
        self._progress = progress
        self._clock = clock
        self._limits = limits
        self._failing = 0.0  # seconds that failed requests in a row took
        self._budget = 0
        self.is_down = False  # the server was found not to list its refs any more
        self._is_answered = True  # whether the last request got any byte
        self.objects = 0
        self.failures: dict[str, MirrorError] = {}
        self.alone: set[str] = set()  # values that failed when they were requested alone

    def fetch(self, wants: Sequence[str], failures_max: int, *, divided: bool = False) -> None:
        """Request the objects of `wants`. Those that the server did not give are added to `failures`."""
        todo = split(wants, GROUPS) if divided else [list(wants)]
        self._budget, in_a_row = failures_max, 0
        while todo and todo[0]:
            group = todo.pop(0)
            is_all = len(group) == len(wants)
            error = self._try(group)
            if error is None:
                in_a_row, self._failing = 0, 0.0
                self._budget += self._client.limits.failures_per_success
                if not is_all:
                    _keep(self._path, group)
                    self._progress(f"{len(todo)} groups of refs to go")
                continue
            in_a_row += 1
            if self._is_given_up(error, in_a_row):
                self.failures.update((tip, error) for several in todo for tip in several)
                return
            smaller = _smaller(group, error, is_first=is_all)
            if smaller and is_all:
                size = max(map(len, smaller))
                self._progress(f"the server did not send all refs at once; requesting groups of {size} refs")
            todo[:0] = smaller
            if in_a_row % FAILURES_BEFORE_SORTING == 0:
                todo.sort(key=len, reverse=True)

    def _is_given_up(self, error: MirrorError, in_a_row: int) -> bool:
        """Whether to stop after so many failures in a row, the last of them `error`."""
        self._budget -= BROKEN_TRANSFER if isinstance(error, GitUnreachable) else 1
        is_too_long = self._failing > self._client.limits.failing_seconds
        if self._budget <= 0 or (in_a_row >= FAILURES_BEFORE_PROBE and is_too_long):
            return True
        # A server that answers nothing may be down. One that still lists its refs refuses this request.
        if not self._is_answered and in_a_row % FAILURES_BEFORE_PROBE == 0:
            self.is_down = not is_alive(self._client)
        return self.is_down

    def _try(self, group: Sequence[str]) -> MirrorError | None:
        """Request one group; returns the failure, where the objects themselves may be its cause."""
        began = self._clock() if self._clock is not None else 0.0
        before = self._client.received_bytes
        try:
            self.objects += _transfer(self._client, self._path, group, self._progress, self._limits)
        except (GitNotFound, GitForbidden):
            raise
        except (GitFailed, GitUnreachable) as error:
            self._failing += self._clock() - began if self._clock is not None else 0.0
            self._is_answered = self._client.received_bytes > before
            self._client.is_patient = False
            self.failures.update(dict.fromkeys(group, error))
            self.alone.update(group if len(group) == 1 else ())
            return error
        for tip in group:
            self.failures.pop(tip, None)
        return None


def is_alive(client: HttpClient) -> bool:
    """Whether the server lists its refs now. The refs that `client` has listed before stay as they are."""
    before = client.advertised, client.answer
    client.advertised, client.is_patient = None, True
    try:
        client.list_refs()
    except (OSError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - dulwich raises anything where a server breaks the protocol
        return False
    finally:
        client.advertised, client.answer = before
        client.is_patient = False
    return True


def _smaller(group: Sequence[str], error: MirrorError, *, is_first: bool) -> list[list[str]]:
    """The groups into which a failed group is divided; none for a single ref."""
    named = [tip for tip in group if tip in error.message]
    rest = [tip for tip in group if tip not in named]
    if named and rest:  # the error names the refs that the server does not give
        return [rest, *([tip] for tip in named)]
    return split(group, GROUPS if is_first else 2) if len(group) > 1 else []


def split(group: Sequence[T], number: int) -> list[list[T]]:
    """Divide a group into `number` parts of about the same size, or single refs where they are fewer."""
    size = max(1, -(-len(group) // number))
    return [list(group[at : at + size]) for at in range(0, len(group), size)]


def _read_failed(path: Path) -> list[str]:
    try:
        return [line for line in (path / FILE).read_text("ascii").split() if is_hash(line)]
    except (OSError, ValueError):
        return []


def _write_failed(path: Path, failed_before: Sequence[str]) -> None:
    with contextlib.suppress(OSError):  # without the file the next run only sends more requests
        if failed_before:
            write_file(path / FILE, "".join(f"{tip}\n" for tip in failed_before).encode("ascii"))
        else:
            (path / FILE).unlink(missing_ok=True)


def _keep(path: Path, tips: Iterable[str]) -> None:
    """Keep the objects of `tips` by refs below `refs/mirror/work/` until the fetch is complete."""
    _, peeled = read_packed(path)
    refs = {**read_all(path), **{WORK + b"/" + tip.encode("ascii"): tip for tip in tips}}
    write_packed(path, refs, peeled, read_head(path))


def _transfer(
    client: HttpClient, path: Path, tips: Sequence[str], progress: OnProgress, limits: PackLimits
) -> int:
    """Fetch what `tips` need in one pack and publish it; returns the number of objects received."""

    def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:  # noqa: ARG001
        return wanted

    messages: list[str] = []

    def on_sideband(text: bytes) -> None:
        line = text.decode("utf-8", "replace").strip()
        messages.extend(_ERROR_LINE.findall(line))
        progress(line)

    with closed_after(open_repository(path)) as repository:
        store = repository.object_store
        # An earlier group may have brought some of them.
        wanted = [ObjectID(tip.encode("ascii")) for tip in _lacking(store, tips)]
        if not wanted:
            return 0
        with PackReceiver(path / "objects", limits) as pack:

            def write(data: bytes) -> int:
                client.is_preparing = False
                before, size = pack.objects, pack.write(data)
                progress.received(pack.objects - before, len(data))
                progress("receiving objects", pack.objects, pack.expected)
                return size

            client.is_preparing = True
            try:
                found = client.fetch_pack(
                    b"", wants, HaveIterator(_offered(client, path)), write, on_sideband
                )
            except (OSError, MemoryError):
                raise
            except Exception as error:
                # Before the pack a hang-up is a refusal; within it the transfer broke off.
                if isinstance(error, HangupException) and pack.received:
                    fault: Exception = GitUnreachable("the git server hung up in the middle of a pack")
                else:
                    fault = as_mirror_error(error)
                raise _with_messages(fault, messages) from error
            if pack.received == 0:
                fault = GitFailed(
                    "the git server sent none of the objects that it advertises; nothing was changed"
                )
                raise _with_messages(fault, messages)
            before = pack.objects
            try:
                count = pack.publish(store, processes=os.cpu_count() or 1, progress=progress)
            except GitFailed as error:
                if not found.new_shallow:
                    raise
                cut = "upstream is a shallow repository with an incomplete history"
                raise GitFailed(f"{cut}: {error.message}") from error
            progress.received(count - before, 0)  # the last ones are scanned when all have arrived
            return count


def _lacking(store: DiskObjectStore, tips: Iterable[str]) -> list[str]:
    """Those of `tips` that are not in the store."""
    names = {tip: ObjectID(tip.encode("ascii")) for tip in tips}
    there = present(store, names.values())
    return [tip for tip, name in names.items() if name not in there]


def _offered(client: HttpClient, path: Path) -> Iterator[str]:
    """Values of our refs that the server is likely to know, the most useful first."""
    assert client.advertised is not None
    old, now = read_all(path), client.advertised.refs
    yield from (value for name, value in old.items() if name.startswith(WORK + b"/"))
    yield from (value for name, value in old.items() if name in now and now[name] != value)
    yield from (value for name, value in old.items() if name.startswith(b"refs/heads/"))
    yield from (value for name, value in old.items() if not name.startswith((b"refs/heads/", OURS)))
    yield from (value for name, value in old.items() if name.startswith(OURS))


class HaveIterator:
    """The commits that the client offers as haves: ref values, without a walk through history."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = iter(list(dict.fromkeys(values))[:HAVES_MAX])
        self.shallow: set[ObjectID] = set()
        self.unshallow: set[ObjectID] = set()

    def __next__(self) -> ObjectID | None:
        value = next(self._values, None)
        return ObjectID(value.encode("ascii")) if value is not None else None

    next = __next__

    def ack(self, sha: ObjectID) -> None:
        """The server has this commit, too."""

    def nak(self) -> None:
        """The server has none of them."""


def _with_messages(error: Exception, messages: Sequence[str]) -> Exception:
    """Add the error messages of the server's git to an error."""
    said = "; ".join(dict.fromkeys(map(clean, messages[:3])))
    if not said or not isinstance(error, GitFailed | GitUnreachable):
        return error
    return type(error)(f"{error.message} (there: {said})", hint=error.hint)
