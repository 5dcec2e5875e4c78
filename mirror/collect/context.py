"""What collecting is handed: the run it belongs to, and the folder it collects into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import REPOSITORY, Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, Denied
from mirror.collect.failures import Failures
from mirror.collect.marks import Marks
from mirror.collect.state import State
from mirror.collect.times import parse_time
from mirror.errors import MirrorError, TryLater
from mirror.model import (
    Clock,
    Json,
    JsonObject,
    NotCanonical,
    PartState,
    Progress,
    Repository,
    dumps,
    time_text,
)

# So many things are asked for side by side.
BATCH = 16
# An endpoint that answers 410 may be back after some hours; after so long it is retired.
RETIRED_AFTER = timedelta(days=3)
# For so long, in seconds, it is believed that the repository itself answers, or does not.
ANSWERS_SECONDS = 60.0
# So many entries of a list that have no number are remembered.
LEFT_OUT_MAX = 100

T = TypeVar("T")


class Draft(Protocol):
    """Documents on their way to a snapshot; `store` implements it."""

    @property
    def held(self) -> int:
        """How many bytes are held in memory until the next checkpoint."""
        ...

    def get(self, path: str) -> Json | None:
        """The document at `path`, or None."""
        ...

    def put(self, path: str, value: Json) -> bool:
        """Set a document; returns whether that changed it. Raises NotCanonical where it cannot be kept."""
        ...

    def paths(self, prefix: str = "") -> Iterator[str]:
        """The paths of the documents below a folder."""
        ...

    async def put_file(
        self, chunks: AsyncIterable[bytes] | Iterable[bytes], name: str, *, text: bool = False
    ) -> JsonObject:
        """Store a file; returns the pointer to it, for a document."""
        ...

    def has_file(self, sha256: str) -> bool:
        """Whether the file with this SHA-256 is stored."""
        ...

    def room(self) -> int:
        """How many bytes the disk has free for files."""
        ...

    def is_erased(self, path: str) -> bool:
        """Whether a document was erased on purpose, and is not to be asked for."""
        ...

    def checkpoint(self) -> bool:
        """Make everything put so far durable; returns whether there was anything."""
        ...


@dataclass(frozen=True)
class CheckpointLimits:
    """A checkpoint is due after so many seconds, changed documents, or bytes held in memory."""

    seconds: float = 30.0
    documents: int = 500
    bytes: int = 32 * 1024 * 1024


DEFAULT_LIMITS = CheckpointLimits()


class WorkspaceRun(Protocol):
    """What all folders of a workspace share during a run; `backup` implements it.

    `full` ignores cursors. `accepted_missing` are parts and kinds (`settings/deploy-keys`) that may be
    missing. `lacking_scopes`: by scope, the refusal that named it as missing, where only one credential
    is configured.
    """

    @property
    def client(self) -> Client: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def progress(self) -> Progress: ...

    @property
    def full(self) -> bool: ...

    @property
    def accepted_missing(self) -> frozenset[str]: ...

    @property
    def lacking_scopes(self) -> dict[str, Denied]: ...

    @property
    def checkpoint_limits(self) -> CheckpointLimits: ...


@dataclass
class Context:
    """Collecting into one folder, of a repository or a workspace.

    Cursors in `state` move as documents are put; `save` keeps them, and is called only after a checkpoint
    that covers them. `until` (monotonic) is when a wait for the rate limit must end, except for requests
    of priority FIRST. `moved` counts the pull requests and issues that were listed as new or updated.
    """

    run: WorkspaceRun
    repository: Repository
    draft: Draft
    state: State
    save: Callable[[JsonObject], None]
    until: float | None = None
    failures: Failures = field(default_factory=Failures)
    moved: int = 0
    _changed: int = 0
    _last_checkpoint: float = 0.0
    # When the repository itself was last asked for, and whether it answered.
    _asked_repository: tuple[float, bool] | None = None
    _has_answered: bool = False

    def __post_init__(self) -> None:
        self._last_checkpoint = self.clock.monotonic()

    @property
    def client(self) -> Client:
        """The client of the run, which asks with priority FIRST."""
        return self.run.client

    @property
    def clock(self) -> Clock:
        """The clock of the run."""
        return self.run.clock

    @property
    def names(self) -> dict[str, str | int]:
        """What fills in the addresses of the repository."""
        return {"workspace": self.repository.workspace, "repository": self.repository.slug}

    @property
    def now(self) -> str:
        """The time now, as documents and the state hold it."""
        return time_text(self.clock.now())

    def client_for(self, priority: Priority) -> Client:
        """The client that asks with this priority."""
        until = self.until if priority is not Priority.FIRST else None
        return self.client.with_priority(priority, until=until)

    def report_progress(self, part: str, done: int | None = None, total: int | None = None) -> None:
        """Report how far a part is."""
        self.run.progress.report(self.repository.full_name, part, done, total)

    # -- times

    def is_due(self, last: object, every: timedelta) -> bool:
        """Whether something that was `last` done at this time (a text, or None) is to be done again. A time
        that is yet to come counts as never."""
        when = parse_time(last)
        if self.run.full or when is None:
            return True
        return not timedelta(0) <= self.clock.now() - when < every

    def valid_cursor(self, text: object) -> str | None:
        """A time up to which everything is known; None where it is no time, or yet to come: a clock was
        wrong, or one entry upstream is."""
        when = parse_time(text)
        return str(text) if when is not None and when <= self.clock.now() else None

    # -- documents

    def document(self, path: str) -> JsonObject:
        """The document at `path`; empty where there is none."""
        held = self.draft.get(path)
        return held if isinstance(held, dict) else {}

    def put(self, path: str, value: Json) -> bool:
        """Set a document, with a checkpoint where one is due; returns whether that changed it. Raises
        BadAnswer where it cannot be kept."""
        try:
            changed = self.draft.put(path, value)
        except NotCanonical as error:
            raise BadAnswer(f"{path} cannot be kept: {error}") from error
        self._changed += changed
        if changed:
            self.checkpoint_if_due()
        return changed

    def put_children(
        self, part: str, path: str, before: JsonObject, document: JsonObject, names: Sequence[str]
    ) -> list[str]:
        """Put a document in which the children `names` are new; returns the names of those that are kept.

        Where the whole is too large for one document, as many children as fit are kept. The others keep
        their value of `before`, are marked, and are reported for `part`.
        """
        try:
            self.put(path, document)
            return list(names)
        except BadAnswer as error:
            self.failures.texts[part].append(error.message)
        marks = Marks.of(document)
        for name in names:
            marks.put_state(name, PartState.PARTIAL)
        kept = marks.on(before)
        fit = []
        for name in names:
            marks = Marks.of(kept)
            marks.remove(name)
            more = marks.on({**kept, name: document[name]})
            if can_be_kept(more):
                kept = more
                fit.append(name)
        self.put(path, kept)
        return fit

    def leave_out(self, part: str, what: str, error: MirrorError) -> None:
        """Remember that an entry of a list cannot be kept: `what` is its number, or what is wrong with one
        that has none. It is reported for the part until it can be, or the list is read anew."""
        state = self.state.listed(part)
        if state.left_out is None:
            state.left_out = {}
        if what.isdigit() or len(state.left_out) < LEFT_OUT_MAX:
            state.left_out[what] = error.message

    def left_out(self, part: str) -> JsonObject:
        """The entries of a part that are left out, and why."""
        return self.state.listed(part).left_out or {}

    # -- checkpoints

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether enough was done since the last one. No more than that is asked for again after a kill."""
        limits = self.run.checkpoint_limits
        return (
            self.clock.monotonic() - self._last_checkpoint >= limits.seconds
            or self._changed >= limits.documents
            or self.draft.held >= limits.bytes
        )

    def checkpoint_if_due(self) -> None:
        """Make a checkpoint where one is due."""
        if self.is_checkpoint_due:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make the documents durable, then the state that covers them."""
        self.draft.checkpoint()
        self.save_state()
        self._changed = 0
        self._last_checkpoint = self.clock.monotonic()

    def save_state(self) -> None:
        """Keep the state. Every document that it covers is durable already."""
        self.save(self.state.to_json())

    # -- what endpoints say of themselves

    def note_answer(self, endpoint: Endpoint) -> None:
        """Note that an endpoint answers: a refusal there concerns one thing only, and it is not retired."""
        self.failures.refusals.pop(endpoint.name, None)
        self._has_answered = True
        self.state.forget_retired(endpoint.name)

    async def repository_answers(self) -> bool:
        """Whether the repository itself answers now. Otherwise a 404 for something in it says nothing:
        whole workspaces have been "not found" for most of an hour."""
        now = self.clock.monotonic()
        if self._asked_repository is None or now - self._asked_repository[0] > ANSWERS_SECONDS:
            try:
                await self.client.get(REPOSITORY, None, **self.names)
                self._asked_repository = now, True
            except ApiError:
                self._asked_repository = now, False
            except TryLater:  # it cannot be asked now: what it has answered in this turn counts
                return self._has_answered
        return self._asked_repository[1]

    def retired_since(self, endpoint: Endpoint) -> str:
        """Since when an endpoint answers 410: since now, where that is new."""
        return str(self.state.retired.setdefault(endpoint.name, self.now))

    def is_retired(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint has answered 410 for long enough to be retired."""
        since = parse_time(self.retired_since(endpoint))
        return since is not None and self.clock.now() - since >= RETIRED_AFTER

    # -- side by side

    async def ask_in_batches(
        self,
        items: Sequence[T],
        ask: Callable[[T], Coroutine[Any, Any, None]],
        after: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Ask for each item, some side by side, until the turn is stopped. `after` is called behind each
        batch with the index of its first item. Raises the first failure."""
        for start in range(0, len(items), BATCH):
            if self.failures.stopped is not None:
                return
            await gather(ask(item) for item in items[start : start + BATCH])
            after(start)


def can_be_kept(value: Json) -> bool:
    """Whether `value` is neither too deep nor too large for a document."""
    try:
        dumps(value)
    except NotCanonical:
        return False
    return True


async def gather(tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run `tasks` side by side. The first failure cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except* MirrorError as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
