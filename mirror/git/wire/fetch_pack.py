"""Getting objects that a mirror lacks from a server, as far as the server can give them.

At first all at once. That may fail for the sake of one ref (an object upstream is missing or damaged), and
a first mirror of a giant may never come through so. Then refs are asked for in groups, the oldest first,
and a group that fails is halved, down to the single ref. What a group brought is held by refs under
`refs/mirror/work/`, so that the next attempt, or the next run, starts from there.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.errors import GitProtocolError, HangupException
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
from mirror.git.workers.job import Clock, OnProgress
from mirror.model import is_hash

HAVES_MAX = 256
# Into so many groups refs are divided once a request for all failed.
GROUPS = 8
# Requests that fail are given up after so many, and some more for each that brought something; a transfer
# that broke off counts for three. The second number is for refs that could not be had the last time either.
FAILURES_MAX = 60
FAILURES_AGAIN_MAX = 16
BROKE_OFF = 3
MORE_FOR_EACH = 8
# So many failures in a row, and the largest groups that are left come first.
IN_A_ROW_MAX = 12
# So long (seconds) several requests in a row that fail may take altogether.
FAILING_MAX = 1800.0
# Refs (by their values) that could not be had the last time, one a line: they are asked for last.
FILE = "lacking"
# Only after so many failures in a row is it asked whether the server is there, and looked at the time.
IN_A_ROW_MIN = 3
# The lines of what a server tells meanwhile that say what went wrong there.
_WORDS = re.compile(r"(?:fatal|error): .+")


@dataclass(frozen=True)
class Received:
    """How many objects came, and the values of refs that could not be had, each with why not."""

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
    """Get the objects that `tips` need into the mirror at `path`, as far as the server can give them.

    The caller holds the writer's lock and has had `client` list the refs. `order` holds hashes in the
    order in which groups of them are asked for. Raises the errors of `mirror.git.failures` where the
    server refuses the credential or has no such repository any more; what groups brought before is kept.
    """
    old = read_all(path)
    held = set(old.values())
    with closed_after(open_repository(path)) as repository:
        new = sorted(set(tips) - held)
        missing = set(_lacking(repository.object_store, new))
    if not missing:
        _remember(path, [])
        return Received()
    wants = [tip for tip in dict.fromkeys([*order, *sorted(missing)]) if tip in missing]
    lacked = [tip for tip in _recall(path) if tip in missing]
    asking = _Asking(client, path, progress, clock, limits)
    known = set(lacked)
    fresh = [tip for tip in wants if tip not in known]
    # An earlier run was interrupted in the middle of groups: a request for all would fail as it did then.
    is_interrupted = any(name.startswith(WORK + b"/") for name in old)
    asking.ask(fresh, FAILURES_MAX, divided=is_interrupted and len(fresh) > 1)
    if asking.is_away:
        asking.failures |= dict.fromkeys(lacked, asking.failures[fresh[0]])
    else:
        asking.ask(lacked, FAILURES_AGAIN_MAX)
    # Those that were asked for alone in this run come last the next time, so that each has its turn.
    again = [tip for tip in [*lacked, *wants] if tip in asking.failures]
    _remember(path, sorted(dict.fromkeys(again), key=lambda tip: tip in asking.alone))
    return Received(asking.objects, asking.failures)


class _Asking:
    """Asks one server for what refs need: for all at once, and where that fails for ever smaller groups."""

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
        self._failing = 0.0  # seconds that failing requests took
        self._budget = 0
        self.is_away = False  # the server was found not to list its refs any more
        self._is_answered = True  # whether the last request was, with a byte at least
        self.objects = 0
        self.failures: dict[str, MirrorError] = {}
        self.alone: set[str] = set()  # values that failed when they were asked for alone

    def ask(self, wants: Sequence[str], failures_max: int, *, divided: bool = False) -> None:
        """Ask for `wants`; those that could not be had are in `failures`."""
        todo = _divided(wants, GROUPS) if divided else [list(wants)]
        self._budget, in_a_row = failures_max, 0
        while todo and todo[0]:
            group = todo.pop(0)
            is_all = len(group) == len(wants)
            error = self._try(group)
            if error is None:
                in_a_row, self._failing, self._budget = 0, 0.0, self._budget + MORE_FOR_EACH
                if not is_all:
                    _hold(self._path, group)
                    self._progress(f"{len(todo)} groups of refs to go")
                continue
            in_a_row += 1
            if self._is_given_up(error, in_a_row):
                self.failures.update((tip, error) for several in todo for tip in several)
                return
            smaller = _smaller(group, error, is_first=is_all)
            if smaller and is_all:
                size = max(map(len, smaller))
                self._progress(f"the server did not give all refs at once; going on in groups of {size} refs")
            todo[:0] = smaller
            if in_a_row % IN_A_ROW_MAX == 0:
                todo.sort(key=len, reverse=True)

    def _is_given_up(self, error: MirrorError, in_a_row: int) -> bool:
        """Whether to ask no more after so many failures in a row, the last of them `error`."""
        self._budget -= BROKE_OFF if isinstance(error, GitUnreachable) else 1
        if self._budget <= 0 or (in_a_row >= IN_A_ROW_MIN and self._failing > FAILING_MAX):
            return True
        # A server that answers nothing may be away; one that still lists its refs refuses this request.
        if not self._is_answered and in_a_row % IN_A_ROW_MIN == 0:
            self.is_away = not is_alive(self._client)
        return self.is_away

    def _try(self, group: Sequence[str]) -> MirrorError | None:
        """Ask for one group; why it did not come, where that may lie in the objects themselves."""
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
    """Whether the server lists its refs now; `client` knows no others afterwards than it did before."""
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
    """The groups that a group which could not be had is divided into; none for a single ref."""
    named = [tip for tip in group if tip in error.message]
    rest = [tip for tip in group if tip not in named]
    if named and rest:  # the server says which it does not give
        return [rest, *([tip] for tip in named)]
    return _divided(group, GROUPS if is_first else 2) if len(group) > 1 else []


def _divided(group: Sequence[str], number: int) -> list[list[str]]:
    """A group in `number` parts of about one size, or one for each ref where these are fewer."""
    size = max(1, -(-len(group) // number))
    return [list(group[at : at + size]) for at in range(0, len(group), size)]


def _recall(path: Path) -> list[str]:
    try:
        return [line for line in (path / FILE).read_text("ascii").split() if is_hash(line)]
    except (OSError, ValueError):
        return []


def _remember(path: Path, lacked: Sequence[str]) -> None:
    with contextlib.suppress(OSError):  # without it the next run asks more often, and that is all
        if lacked:
            write_file(path / FILE, "".join(f"{tip}\n" for tip in lacked).encode("ascii"))
        else:
            (path / FILE).unlink(missing_ok=True)


def _hold(path: Path, tips: Iterable[str]) -> None:
    """Hold what was fetched until all of it is there."""
    _, peeled = read_packed(path)
    refs = {**read_all(path), **{WORK + b"/" + tip.encode("ascii"): tip for tip in tips}}
    write_packed(path, refs, peeled, read_head(path))


def _transfer(
    client: HttpClient, path: Path, tips: Sequence[str], progress: OnProgress, limits: PackLimits
) -> int:
    """Get what `tips` need in one pack and publish it; returns how many objects came."""

    def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:  # noqa: ARG001
        return wanted

    words: list[str] = []

    def on_sideband(text: bytes) -> None:
        line = text.decode("utf-8", "replace").strip()
        words.extend(_WORDS.findall(line))
        progress(line)

    with closed_after(open_repository(path)) as repository:
        store = repository.object_store
        # An earlier group may have brought some.
        wanted = [ObjectID(tip.encode("ascii")) for tip in _lacking(store, tips)]
        if not wanted:
            return 0
        with PackReceiver(path / "objects", limits) as pack:

            def write(data: bytes) -> int:
                client.is_preparing = False
                return pack.write(data)

            client.is_preparing = True
            try:
                found = client.fetch_pack(b"", wants, HaveIterator(_heads(client, path)), write, on_sideband)
            except (OSError, MemoryError):
                raise
            except Exception as error:
                # At once it is a refusal; in the middle of a pack whatever carried it broke off.
                if isinstance(error, HangupException) and pack.received:
                    fault: Exception = GitUnreachable("the git server hung up in the middle of a pack")
                else:
                    fault = as_mirror_error(error)
                raise _with_words(fault, words) from error
            if pack.received == 0:
                fault = GitFailed("the git server sent nothing of what it advertises; nothing was changed")
                raise _with_words(fault, words)
            # What was there before passed the same check when it came.
            try:
                return pack.publish(store, processes=os.cpu_count() or 1, progress=progress)
            except GitFailed as error:
                if not found.new_shallow:
                    raise
                cut = "upstream is a shallow repository, its own history is cut off"
                raise GitFailed(f"{cut}: {error.message}") from error


def _lacking(store: DiskObjectStore, tips: Iterable[str]) -> list[str]:
    """Those of `tips` that are not there."""
    names = {tip: ObjectID(tip.encode("ascii")) for tip in tips}
    there = present(store, names.values())
    return [tip for tip, name in names.items() if name not in there]


def _heads(client: HttpClient, path: Path) -> Iterator[str]:
    """What we have and the server is likely to know, what tells it most first."""
    assert client.advertised is not None
    old, now = read_all(path), client.advertised.refs
    yield from (value for name, value in old.items() if name.startswith(WORK + b"/"))
    yield from (value for name, value in old.items() if name in now and now[name] != value)
    yield from (value for name, value in old.items() if name.startswith(b"refs/heads/"))
    yield from (value for name, value in old.items() if not name.startswith((b"refs/heads/", OURS)))
    yield from (value for name, value in old.items() if name.startswith(OURS))


class HaveIterator:
    """The commits that we tell the server we have: ref values, no walk through history."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = iter(list(dict.fromkeys(values))[:HAVES_MAX])
        self.shallow: set[ObjectID] = set()
        self.unshallow: set[ObjectID] = set()

    def __next__(self) -> ObjectID | None:
        value = next(self._values, None)
        return ObjectID(value.encode("ascii")) if value is not None else None

    next = __next__

    def ack(self, sha: ObjectID) -> None:
        """The server has it too."""

    def nak(self) -> None:
        """Nothing in common."""


def as_mirror_error(error: Exception) -> Exception:
    """An error of the protocol as one of ours."""
    if isinstance(error, MirrorError):
        return error
    if isinstance(error, HangupException):
        return GitFailed("the git server hung up instead of an answer")
    if isinstance(error, GitProtocolError) and (detail := clean(str(error))):
        return GitFailed(f"the git server failed: {detail}")
    return GitFailed(f"the git server broke the protocol ({type(error).__name__}): {clean(str(error))}")


def clean(text: str) -> str:
    """The first line of what a server said, as far as it can be printed, and no longer than 200 signs."""
    lines = text.strip().splitlines()
    return "".join(sign for sign in (lines[0] if lines else "") if sign.isprintable())[:200]


def _with_words(error: Exception, words: Sequence[str]) -> Exception:
    """An error of ours with what the server's own git said of it."""
    said = "; ".join(dict.fromkeys(map(clean, words[:3])))
    if not said or not isinstance(error, GitFailed | GitUnreachable):
        return error
    return type(error)(f"{error.message} (there: {said})", hint=error.hint)
