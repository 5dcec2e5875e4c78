"""Pushing the refs of a snapshot to another git server or a local repository, as far as it takes them.

Branches and tags go first, every other ref after them. What a target does not take all at once is sent in
groups of refs that are halved down to the single ref; the history of one ref that is too large for one
push is sent in steps, older commits first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.object_store import DiskObjectStore

from mirror.errors import MirrorError
from mirror.git.objects import peel
from mirror.git.pack.limits import PackLimits
from mirror.git.refs import by_age, closed_after, open_objects
from mirror.git.wire.client import GitLogin
from mirror.git.wire.outgoing import commits_lacking
from mirror.git.wire.targets import ZERO, Outcome, Target, target_of
from mirror.git.workers.job import Clock, OnProgress, no_progress

GROUPS = 8
# So many pushes may fail while good refs are separated from bad ones; each success allows some more.
FAILURES_MAX = 64
MORE_FOR_EACH = 8
# A history that is too large for one push goes under such a name where it is no branch's, until it is there.
_STEPS = b"refs/heads/mirror-restore-"
# What a target says of one ref alone. Anything else that it says of all refs may be the fault of one of them.
_OF_ONE_REF = (
    "deny updating a hidden ref", "hook declined", "funny refname", "non-fast-forward", "refusing to",
    "failed to update ref", "branch is currently checked out", "deletion prohibited",
)  # fmt: skip


@dataclass(frozen=True)
class PushJob:
    """Give the repository at `url` (http, https or file) these `refs`, from the mirror at `mirror`.

    Without `overwrite`, nothing at all is pushed where the target has a ref of the same name with
    another value. Refs that the target has besides are left alone. `default` is the branch that is to be
    the target's default one.
    """

    mirror: str
    url: str
    login: GitLogin | None
    refs: Mapping[bytes, str]
    overwrite: bool = False
    dry_run: bool = False
    silence_timeout: float = 300.0
    default: bytes | None = None

    def do(self, progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> PushResult:
        """See `push`."""
        return push(self, progress=progress)


@dataclass(frozen=True)
class DefaultBranch:
    """The default branch that the target should have and has (None: none that is there), and whether it was
    set. `problem`: why the target could not be asked."""

    wanted: bytes
    theirs: bytes | None
    is_set: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class PushResult:
    """What a push did, ref by ref. `error`: what ended it before its end; the refs that were not reached are
    among the `refused` then. `damaged` are those of the `refused` that the mirror itself could not give.
    `default` is None where the target has the right one, or none was asked for."""

    pushed: tuple[bytes, ...] = ()
    unchanged: tuple[bytes, ...] = ()
    refused: tuple[tuple[bytes, str], ...] = ()
    would_overwrite: tuple[bytes, ...] = ()
    unrelated: tuple[bytes, ...] = field(default=())
    default: DefaultBranch | None = None
    error: MirrorError | None = None
    damaged: frozenset[bytes] = frozenset()


def push(job: PushJob, *, progress: OnProgress = no_progress) -> PushResult:
    """Do `job`. Raises the errors of `mirror.git.failures` where not even the target's refs can be read;
    whatever happens later is in the result."""
    target = target_of(job.url, job.login, job.silence_timeout)
    before = target.refs()
    wanted = dict(sorted(job.refs.items()))
    unchanged = tuple(name for name, value in wanted.items() if before.get(name) == value)
    todo = {name: value for name, value in wanted.items() if before.get(name) != value}
    would_overwrite = tuple(name for name in todo if name in before)
    unrelated = tuple(sorted(n for n in before.keys() - wanted.keys() if n.startswith(b"refs/")))
    told = PushResult((), unchanged, (), would_overwrite, unrelated)
    if job.dry_run or (would_overwrite and not job.overwrite):
        return told if would_overwrite and not job.overwrite else _foretold(told, todo)
    with closed_after(open_objects(Path(job.mirror))) as store:
        delivery = _Delivery(target, store, todo, dict(before), progress)
        error = delivery.run()
    default = None
    if job.default is not None and (job.default in delivery.pushed or job.default in unchanged):
        default = _default_branch(job, target, before)
    pushed = tuple(sorted(delivery.pushed))
    refused = tuple(sorted(delivery.refused.items()))
    damaged = frozenset(delivery.damaged)
    return PushResult(pushed, unchanged, refused, would_overwrite, unrelated, default, error, damaged)


def _foretold(told: PushResult, todo: Mapping[bytes, str]) -> PushResult:
    """What a push would do, where nothing stands in its way."""
    return PushResult(tuple(todo), told.unchanged, (), told.would_overwrite, told.unrelated)


def _default_branch(job: PushJob, target: Target, before: Mapping[bytes, str]) -> DefaultBranch | None:
    """See that the target's default branch is the snapshot's, as far as that can be done from here."""
    assert job.default is not None
    try:
        head = target.head()
    except MirrorError as error:
        return DefaultBranch(job.default, None, problem=error.message)
    theirs = head.value if head is not None and head.kind == "symref" else None
    if theirs == job.default:
        return None
    # What stood there before is changed only where that was asked for.
    is_free = theirs is None or theirs not in before or job.overwrite
    return DefaultBranch(job.default, theirs, is_set=is_free and target.set_head(job.default))


class _Delivery:
    """Brings refs to a target, in as many pushes as that takes."""

    def __init__(
        self,
        target: Target,
        store: DiskObjectStore,
        todo: dict[bytes, str],
        theirs: dict[bytes, str],
        progress: OnProgress,
    ) -> None:
        self._target = target
        self._store = store
        self._todo = todo
        self._theirs = theirs  # the refs that the target has by now
        self._progress = progress
        self.pushed: set[bytes] = set()
        self.refused: dict[bytes, str] = {}
        self.damaged: set[bytes] = set()

    def run(self) -> MirrorError | None:
        """Bring them all; what ended it early, if anything did."""
        usual = [name for name in self._todo if name.startswith((b"refs/heads/", b"refs/tags/"))]
        others = [name for name in self._todo if name not in set(usual)]
        try:
            for names in (usual, others):
                self._bring(by_age(names))
        except MirrorError as error:
            left = self._todo.keys() - self.pushed - self.refused.keys()
            self.refused |= dict.fromkeys(left, f"not reached: {error.message}")
            return error
        return None

    def _bring(self, names: Sequence[bytes]) -> None:
        """Push these refs, all at once or, where the target does not take that, in ever smaller groups."""
        todo, budget = [list(names)] if names else [], FAILURES_MAX
        while todo:
            group = todo.pop(0)
            done = self._send({name: self._todo[name] for name in group})
            declined = dict.fromkeys(group, done.refused) if done.refused is not None else done.declined
            if len(declined) < len(group):
                budget += MORE_FOR_EACH
            budget -= 1
            if len(group) > 1 and budget > 0 and _may_be_ones(group, done):
                parts = GROUPS if len(group) == len(names) else 2
                size = -(-len(group) // parts)
                todo[:0] = [group[at : at + size] for at in range(0, len(group), size)]
                self._progress(
                    f"the target did not take {len(group)} refs at once; going on in smaller groups"
                )
                continue
            if len(group) == 1 and done.is_too_large:
                self._bring_in_steps(group[0], done)
                continue
            for name in group:
                if name in declined:
                    self.damaged |= {name} if done.is_damaged else set()
                    self.refused[name] = declined[name] or "no reason given"
                else:
                    self.pushed.add(name)

    def _send(self, updates: Mapping[bytes, str]) -> Outcome:
        done = self._target.send(self._store, updates, self._progress)
        if done.refused is None:
            for name, value in updates.items():
                if name not in done.declined:
                    self._theirs[name] = value
        if done.words and done.declined:
            told = {n: _with_words(why, done.words) for n, why in done.declined.items()}
            return Outcome(told, words=done.words)
        return done

    def _bring_in_steps(self, name: bytes, first: Outcome) -> None:
        """Bring the history of one ref in several pushes, older commits first."""
        tip = self._todo[name]
        step = name
        if not name.startswith(b"refs/heads/"):
            step = _STEPS + hashlib.sha256(name).hexdigest()[:8].encode("ascii")
            tip = peel(self._store, tip)  # a branch takes a commit only
        total = len(commits_lacking(self._store, tip, self._theirs.values()))
        reached, why = self._climb(step, tip, first)
        if step != name:
            if why is None:
                done = self._send({name: self._todo[name]})
                why = done.refused or done.declined.get(name)
            if reached is not None:
                self._send({step: ZERO})
                self._theirs.pop(step, None)
        if why is None:
            self.pushed.add(name)
            return
        if reached is None or step != name:
            self.refused[name] = why
            return
        left = len(commits_lacking(self._store, tip, self._theirs.values()))
        self.refused[name] = (
            f"it stands there at {reached[:12]}, {left} of {total} commits are not there: {why}"
        )

    def _climb(self, step: bytes, tip: str, first: Outcome) -> tuple[str | None, str | None]:
        """Push ever nearer ancestors of `tip` to the branch `step`; the commit that was reached, and why not
        `tip` itself."""
        stack, reached, last = [tip], None, first
        while stack:
            lacking = commits_lacking(self._store, stack[-1], self._theirs.values())
            if last.refused is not None:
                if not last.is_too_large or len(lacking) < 2:
                    return reached, last.refused
                stack.append(lacking[(len(lacking) - 2) // 2])
            self._progress(f"in steps: {len(lacking)} commits to go to {stack[-1][:12]}")
            last = self._send({step: stack[-1]})
            if last.declined:
                return reached, last.declined.get(step, "no reason given")
            if last.refused is None:
                reached = stack.pop()
        return reached, None


def _may_be_ones(group: Sequence[bytes], done: Outcome) -> bool:
    """Whether a group was refused as a whole for what may be the fault of one ref in it."""
    if done.refused is not None:
        return True
    if len(done.declined) < len(group):
        return False
    return any(not why.startswith(_OF_ONE_REF) for why in done.declined.values())


def _with_words(why: str, words: str) -> str:
    """Why a ref was declined, and where a hook did it what that printed."""
    return f"{why} ({words})" if "hook" in why and words not in why else why
