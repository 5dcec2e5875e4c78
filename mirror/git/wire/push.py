"""Pushes the refs of a snapshot to a git server or a local repository, as far as it accepts them.

Branches and tags go first, then every other ref. Where the target does not accept all refs at once, groups of
refs are pushed and halved, down to the single ref. Where the history of one ref is too large for one push, it
is pushed in steps, older commits first.
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
from mirror.git.wire.fetch_pack import split
from mirror.git.wire.outgoing import commits_lacking
from mirror.git.wire.targets import ZERO, PushOutcome, Target, target_of
from mirror.git.workers.job import Clock, OnProgress, no_progress

GROUPS = 8
# After how many pushes the search for bad refs ends; each success allows some more.
FAILURES_MAX = 64
FAILURES_PER_SUCCESS = 8
# The prefix of the temporary branch for the history of a ref that is no branch.
_STEP_BRANCH = b"refs/heads/mirror-restore-"
# Reasons that concern one ref only. With any other reason, one bad ref may be the cause for all of them.
_ONE_REF_REASONS = (
    "deny updating a hidden ref", "hook declined", "funny refname", "non-fast-forward", "refusing to",
    "failed to update ref", "branch is currently checked out", "deletion prohibited",
)  # fmt: skip


@dataclass(frozen=True)
class PushJob:
    """Push `refs` from the mirror at `mirror` to the repository at `url` (http, https or file).

    Without `overwrite`, nothing at all is pushed where the target has a ref of the same name with another
    value. Other refs of the target stay. `default`: the branch that becomes the target's default branch.
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
    """The default branch that is `wanted` and the target's own (None: unborn), and whether it was set.
    `problem`: why the target could not be asked."""

    wanted: bytes
    theirs: bytes | None
    is_set: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class PushResult:
    """The result of a push, ref by ref. `error`: what ended it early; refs that were not reached are among
    `refused`. `damaged`: those of `refused` whose objects could not be read from the mirror. `default`: None
    where the target has the wanted default branch, or none was wanted."""

    pushed: tuple[bytes, ...] = ()
    unchanged: tuple[bytes, ...] = ()
    refused: tuple[tuple[bytes, str], ...] = ()
    would_overwrite: tuple[bytes, ...] = ()
    unrelated: tuple[bytes, ...] = field(default=())
    default: DefaultBranch | None = None
    error: MirrorError | None = None
    damaged: frozenset[bytes] = frozenset()


def push(job: PushJob, *, progress: OnProgress = no_progress) -> PushResult:
    """Do `job`. Raises the errors of `mirror.git.failures` where the target's refs cannot be read; later
    failures are in the result."""
    target = target_of(job.url, job.login, job.silence_timeout)
    before = target.refs()
    wanted = dict(sorted(job.refs.items()))
    unchanged = tuple(name for name, value in wanted.items() if before.get(name) == value)
    todo = {name: value for name, value in wanted.items() if before.get(name) != value}
    would_overwrite = tuple(name for name in todo if name in before)
    unrelated = tuple(sorted(n for n in before.keys() - wanted.keys() if n.startswith(b"refs/")))
    is_blocked = bool(would_overwrite) and not job.overwrite
    if job.dry_run or is_blocked:
        return PushResult(() if is_blocked else tuple(todo), unchanged, (), would_overwrite, unrelated)
    with closed_after(open_objects(Path(job.mirror))) as store:
        pushing = _Push(target, store, todo, dict(before), progress)
        error = pushing.run()
    default = None
    if job.default is not None and (job.default in pushing.pushed or job.default in unchanged):
        default = _default_branch(job, target, before)
    pushed = tuple(sorted(pushing.pushed))
    refused = tuple(sorted(pushing.refused.items()))
    damaged = frozenset(pushing.damaged)
    return PushResult(pushed, unchanged, refused, would_overwrite, unrelated, default, error, damaged)


def _default_branch(job: PushJob, target: Target, before: Mapping[bytes, str]) -> DefaultBranch | None:
    """Set the target's default branch where it differs and that is possible; None where it is right."""
    assert job.default is not None
    try:
        head = target.head()
    except MirrorError as error:
        return DefaultBranch(job.default, None, problem=error.message)
    theirs = head.value if head is not None and head.kind == "symref" else None
    if theirs == job.default:
        return None
    # An existing branch stays the default one unless `overwrite` allows the change.
    is_free = theirs is None or theirs not in before or job.overwrite
    return DefaultBranch(job.default, theirs, is_set=is_free and target.set_head(job.default))


class _Push:
    """Pushes refs to a target, in as many pushes as it takes."""

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
        self._theirs = theirs  # the refs of the target, with those pushed so far
        self._progress = progress
        self.pushed: set[bytes] = set()
        self.refused: dict[bytes, str] = {}
        self.damaged: set[bytes] = set()

    def run(self) -> MirrorError | None:
        """Push all refs; returns the error that ended it early, or None."""
        usual = [name for name in self._todo if name.startswith((b"refs/heads/", b"refs/tags/"))]
        others = [name for name in self._todo if name not in set(usual)]
        try:
            for names in (usual, others):
                self._push_groups(by_age(names))
        except MirrorError as error:
            left = self._todo.keys() - self.pushed - self.refused.keys()
            self.refused |= dict.fromkeys(left, f"not reached: {error.message}")
            return error
        return None

    def _push_groups(self, names: Sequence[bytes]) -> None:
        """Push these refs, all at once or, where the target does not accept that, in ever smaller groups."""
        todo, budget = [list(names)] if names else [], FAILURES_MAX
        while todo:
            group = todo.pop(0)
            done = self._send({name: self._todo[name] for name in group})
            declined = dict.fromkeys(group, done.refused) if done.refused is not None else done.declined
            if len(declined) < len(group):
                budget += FAILURES_PER_SUCCESS
            budget -= 1
            if len(group) > 1 and budget > 0 and _may_be_one_ref(group, done):
                parts = GROUPS if len(group) == len(names) else 2
                todo[:0] = split(group, parts)
                self._progress(f"the target did not accept {len(group)} refs at once; pushing smaller groups")
                continue
            if len(group) == 1 and done.is_too_large:
                self._push_in_steps(group[0], done)
                continue
            for name in group:
                if name in declined:
                    self.damaged |= {name} if done.is_damaged else set()
                    self.refused[name] = declined[name] or "no reason given"
                else:
                    self.pushed.add(name)

    def _send(self, updates: Mapping[bytes, str]) -> PushOutcome:
        done = self._target.send(self._store, updates, self._progress)
        if done.refused is None:
            for name, value in updates.items():
                if name not in done.declined:
                    self._theirs[name] = value
        if done.message and done.declined:
            declined = {n: _with_message(why, done.message) for n, why in done.declined.items()}
            return PushOutcome(declined, message=done.message)
        return done

    def _push_in_steps(self, name: bytes, first: PushOutcome) -> None:
        """Push the history of one ref in several steps, older commits first."""
        tip = self._todo[name]
        step = name
        if not name.startswith(b"refs/heads/"):
            step = _STEP_BRANCH + hashlib.sha256(name).hexdigest()[:8].encode("ascii")
            tip = peel(self._store, tip)  # a branch can only point to a commit
        total = len(commits_lacking(self._store, tip, self._theirs.values()))
        reached, why = self._push_ancestors(step, tip, first)
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
        self.refused[name] = f"it is at {reached[:12]} there, {left} of {total} commits are missing: {why}"

    def _push_ancestors(self, step: bytes, tip: str, first: PushOutcome) -> tuple[str | None, str | None]:
        """Push ever nearer ancestors of `tip` to the branch `step`; returns the last accepted commit, and
        why `tip` itself was not."""
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


def _may_be_one_ref(group: Sequence[bytes], done: PushOutcome) -> bool:
    """Whether a whole group was refused for a reason that may concern only one ref in it."""
    if done.refused is not None:
        return True
    if len(done.declined) < len(group):
        return False
    return any(not why.startswith(_ONE_REF_REASONS) for why in done.declined.values())


def _with_message(why: str, message: str) -> str:
    """The reason why a ref was declined, with the output of the hook that did it."""
    return f"{why} ({message})" if "hook" in why and message not in why else why
