"""What collecting needs from elsewhere, and what it remembers on its way."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import REPOSITORY, Endpoint
from mirror.bitbucket.failures import ApiError, BadAnswer, Denied, NotFound, RateLimited
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.model import (
    Clock,
    Json,
    JsonObject,
    NotCanonical,
    PartState,
    Progress,
    Repository,
    dumps,
    time_from_text,
    time_text,
)

CHECKPOINT_SECONDS = 30.0
CHECKPOINT_DOCUMENTS = 500
CHECKPOINT_BYTES = 32 * 1024 * 1024
# After so many failures of the server in one repository it is left for the next run.
TROUBLE_MAX = 5
# After so many refusals of one address, one after the other, it is not asked any more in this turn.
REFUSALS_MAX = 8
# What answers that it is retired (410) may be back after some hours; after so long it is not.
RETIRED_AFTER = timedelta(days=3)
# So long it is believed that the repository itself is there, or is not.
STANDS_SECONDS = 60.0
# So many entries of a list that have no number are remembered.
LEFT_OUT_MAX = 100
# Before this no time is told in earnest, and a span may be taken from any after it.
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


class Draft(Protocol):
    """Documents on their way to a snapshot; `store` has the real one."""

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
        """The documents below a folder."""
        ...

    async def put_file(
        self, chunks: AsyncIterable[bytes] | Iterable[bytes], name: str, *, text: bool = False
    ) -> JsonObject:
        """Keep a file; returns what a document says of it."""
        ...

    def has_file(self, sha256: str) -> bool:
        """Whether the file of these bytes is held."""
        ...

    def room(self) -> int:
        """How many bytes the disk has free for files."""
        ...

    def is_erased(self, path: str) -> bool:
        """Whether a document was erased on purpose, and is not to be asked for."""
        ...

    def checkpoint(self) -> bool:
        """Make everything put so far durable."""
        ...


Numbers = defaultdict[str, set[int]]


@dataclass
class Work:
    """One repository's collecting: who to ask, where to put it, and how to remember how far.

    `state` is changed as cursors move; `save` keeps it, and is called only after a checkpoint that
    covers it. `full` ignores cursors. `until` (monotonic) is how long the rate limit may be waited
    for where it is not the first things that are asked. `agreed` are parts and kinds
    (`settings/deploy-keys`) whose absence is known and agreed.
    """

    client: Client
    repository: Repository
    draft: Draft
    state: JsonObject
    save: Callable[[JsonObject], None]
    clock: Clock
    progress: Progress
    full: bool = False
    until: float | None = None
    agreed: frozenset[str] = frozenset()
    uncommitted: int = 0
    last_checkpoint: float = 0.0
    # By part: what could not be had, in words; and why asking was given up for now.
    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    # By endpoint: the part, and the refusal for want of a scope.
    denied: dict[str, tuple[str, Denied]] = field(default_factory=dict)
    # By endpoint: how often it refused in a row, without telling a scope.
    refusals: Counter[str] = field(default_factory=Counter)
    # Parts that asking again later may complete.
    passing: set[str] = field(default_factory=set)
    # Parts for which nobody could sign in.
    refused: set[str] = field(default_factory=set)
    stopped: TryLater | None = None
    trouble: int = 0
    # By scope the refusal of a single credential for want of it, whatever repository was asked about.
    lacking: dict[str, Denied] = field(default_factory=dict)
    # When the repository itself was last asked for, and whether it answered.
    _stood: tuple[float, bool] | None = None
    _has_answered: bool = False
    # What was asked for and could not be had, so that it is not asked for twice in one turn.
    tried: set[tuple[str, int, str]] = field(default_factory=set)
    _numbers: dict[str, Numbers] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str | int]:
        """What every address of the repository names."""
        return {"workspace": self.repository.workspace, "repository": self.repository.slug}

    @property
    def codes(self) -> dict[str, int]:
        """By part the exit code of what it lacks, where that is another than of what is just missing."""
        passing = dict.fromkeys(self.passing, TryLater.exit_code)
        return passing | dict.fromkeys(self.refused, CredentialRefused.exit_code)

    def asking(self, priority: Priority) -> Client:
        """The client that asks with this priority."""
        return self.client.with_priority(
            priority, until=self.until if priority is not Priority.FIRST else None
        )

    def part_state(self, part: str) -> JsonObject:
        """What is remembered for a part, empty at first."""
        value = self.state.setdefault(part, {})
        if not isinstance(value, dict):
            value = self.state[part] = {}
        return value

    def numbers(self, part: str) -> Numbers:
        """Sets of the numbers of a part's things: those that are held, and by what is still to be
        asked of them."""
        found = self._numbers.get(part)
        if found is None:
            saved = self.part_state(part).get("numbers")
            found = self._numbers[part] = defaultdict(set)
            for name, text in saved.items() if isinstance(saved, dict) else ():
                found[name] = numbers_from(text)
        return found

    def is_due(self, state: JsonObject, name: str, every: timedelta) -> bool:
        """Whether what `state` remembers as last done at `name` is that long ago, or never was; what is
        yet to come never was."""
        last = moment(state.get(name))
        if self.full or last is None:
            return True
        return not timedelta(0) <= self.clock.now() - last < every

    def cursor(self, text: object) -> str | None:
        """A time up to which all is known; None where that is none, or yet to come: a clock was wrong, or
        one thing upstream is."""
        when = moment(text)
        return str(text) if when is not None and when <= self.clock.now() else None

    def put(self, path: str, value: Json) -> bool:
        """Set a document, with a checkpoint where one is due. Raises BadAnswer where it cannot be kept."""
        try:
            changed = self.draft.put(path, value)
        except NotCanonical as error:
            raise BadAnswer(f"{path} cannot be kept: {error}") from error
        self.uncommitted += changed
        if changed:
            self.tick()
        return changed

    def put_children(
        self, part: str, path: str, before: JsonObject, document: JsonObject, names: Sequence[str]
    ) -> list[str]:
        """Put a document in which the children `names` are new; returns those that are kept.

        Where all together are too much for one document, as many as fit are; the others keep their value
        of `before`, are marked in `_parts`, and told of `part`.
        """
        try:
            self.put(path, document)
            return list(names)
        except BadAnswer as error:
            self.faults[part].append(error.message)
        marks = {**document["_parts"], **{name: {"state": str(PartState.PARTIAL)} for name in names}}
        kept: JsonObject = {**before, "_parts": marks}
        fit = []
        for name in names:
            marks = {of: mark for of, mark in kept["_parts"].items() if of != name}
            more = {**kept, name: document[name], "_parts": marks}
            if can_be_kept(more):
                kept = more
                fit.append(name)
        self.put(path, kept)
        return fit

    def leave_out(self, part: str, what: str, error: MirrorError) -> None:
        """Remember that an entry of a list cannot be taken: `what` is its number, or where it has none
        what is wrong with it. It is told of the part until it is taken, or the list read anew."""
        found = self.part_state(part).setdefault("left_out", {})
        if what.isdigit() or len(found) < LEFT_OUT_MAX:
            found[what] = error.message

    def left_out(self, part: str) -> JsonObject:
        """What was left out of a part, and why."""
        found: JsonObject = self.part_state(part).get("left_out") or {}
        return found

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether enough was done since the last one. No more than that is asked again after a kill."""
        waited = self.clock.monotonic() - self.last_checkpoint
        return (
            waited >= CHECKPOINT_SECONDS
            or self.uncommitted >= CHECKPOINT_DOCUMENTS
            or self.draft.held >= CHECKPOINT_BYTES
        )

    def tick(self) -> None:
        """A checkpoint where one is due."""
        if self.is_checkpoint_due:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make documents durable, then what is remembered of how far they are."""
        self.draft.checkpoint()
        self.checkpoint_state()
        self.uncommitted = 0
        self.last_checkpoint = self.clock.monotonic()

    def checkpoint_state(self) -> None:
        """Keep what is remembered, where every document is durable already."""
        for part, numbers in self._numbers.items():
            self.part_state(part)["numbers"] = {
                name: numbers_text(several) for name, several in sorted(numbers.items()) if several
            }
        self.save(self.state)

    def may_ask(self, endpoint: Endpoint) -> bool:
        """Whether to ask there: not where the credential lacks the scope, where nothing but
        refusals came, nor where the rate limit or the server have made an end for now."""
        if self.stopped is not None or endpoint.name in self.denied:
            return False
        return self.refusals[endpoint.name] < REFUSALS_MAX

    def answered(self, endpoint: Endpoint) -> None:
        """Note that it answers: a refusal there is of one thing."""
        self.refusals.pop(endpoint.name, None)
        self._has_answered = True
        if "retired" in self.state:
            self.part_state("retired").pop(endpoint.name, None)

    async def stands(self) -> bool:
        """Whether the repository itself answers just now. Otherwise a 404 for something in it says
        nothing: whole workspaces have been "not found" for most of an hour."""
        now = self.clock.monotonic()
        if self._stood is None or now - self._stood[0] > STANDS_SECONDS:
            try:
                await self.client.get(REPOSITORY, None, **self.names)
                self._stood = now, True
            except ApiError:
                self._stood = now, False
            except TryLater:  # it cannot be asked now; then what it has answered in this turn counts
                return self._has_answered
        return self._stood[1]

    def retired_since(self, endpoint: Endpoint) -> str:
        """Since when an endpoint answers that it is retired (410): from now on, where that is new."""
        since: JsonObject = self.part_state("retired")
        return str(since.setdefault(endpoint.name, time_text(self.clock.now())))

    def is_retired(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint that answers so has done it for long enough to be believed."""
        since = moment(self.retired_since(endpoint))
        return since is not None and self.clock.now() - since >= RETIRED_AFTER

    def failed(self, part: str, what: str, error: MirrorError, endpoint: Endpoint) -> None:
        """Note that something could not be had. Raises what concerns everything."""
        if isinstance(error, Denied) and error.required:
            self.denied[endpoint.name] = part, error
        elif isinstance(error, Denied | NotFound):
            self.refusals[endpoint.name] += 1
        if isinstance(error, RateLimited):
            self.stopped = error
            return
        if isinstance(error, TryLater):
            self.passing.add(part)
            self.trouble += 1
            if self.trouble >= TROUBLE_MAX:
                self.stopped = error
        elif not isinstance(error, ApiError):
            raise error
        self.faults[part].append(f"{what}: {error.message}")


def can_be_kept(value: Json) -> bool:
    """Whether `value` may be a document, as deep and as large as it is."""
    try:
        dumps(value)
    except NotCanonical:
        return False
    return True


def moment(text: object) -> datetime | None:
    """The time that a text names, or None where it names none that can be reckoned with."""
    try:
        when = time_from_text(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
    return when if when is not None and when > _FIRST else None


def latest(*texts: str) -> str:
    """The latest of some times, in whatever form each is told; the first where none is one."""
    return max(texts, key=lambda text: moment(text) or _FIRST)


def earliest(one: str, other: str) -> str:
    """The earlier of two times, in whatever form; what is no time comes before all."""
    return min(one, other, key=lambda text: moment(text) or _FIRST)


def numbers_text(numbers: Iterable[int]) -> str:
    """Numbers as ranges: `1-500,502`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def numbers_from(text: object) -> set[int]:
    """What `numbers_text` wrote. Raises ValueError where it is something else."""
    found: set[int] = set()
    for one in str(text).split(",") if text else ():
        first, _, last = one.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


async def together(tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run `tasks` side by side; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except* MirrorError as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
