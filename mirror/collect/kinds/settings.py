"""Settings change seldom, so they are asked for in rounds, on a period of their own.

One round asks for every row of the catalogue; an interrupted round resumes at the row where it stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

from mirror.bitbucket import fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import Denied, EntriesLost
from mirror.bitbucket.lists import all_of
from mirror.collect.catalogue import Row
from mirror.collect.context import Context
from mirror.collect.marks import SETTINGS as MARKS
from mirror.collect.marks import Marks
from mirror.collect.outcomes import part_after
from mirror.collect.state import KindState
from mirror.errors import MirrorError, TryLater
from mirror.model import Json, Part, PartState

# A round is due after so long; sooner, after IDLE_EVERY, only with requests that nothing else needs.
EVERY = timedelta(days=7)
IDLE_EVERY = timedelta(days=1)
# Priority of asking again for what was refused or failed.
RETRY = Priority.CLOSED
PROFILE = "repository.json"
_ATTEMPT = "settings"

Names = Mapping[str, str | int]
Collect = Callable[[Context, Client, Row], Awaitable[None]]


def round_priority(context: Context) -> Priority | None:
    """Priority of a round now; None while it is too early for one."""
    state = context.state.settings
    if state.asked is None or context.run.full:
        return Priority.OPEN
    if context.is_due(state.asked, EVERY):
        return Priority.OLD
    return Priority.IDLE if context.is_due(state.asked, IDLE_EVERY) else None


def lacking(context: Context) -> set[str]:
    """The kinds that were refused or failed when they were last asked for, and that are not accepted as
    missing. They are asked for in each run, so that what is mended upstream does not wait for a round."""
    kinds = context.state.settings.kinds or {}
    return {name for name, one in kinds.items() if _is_gap(one) and not _is_accepted(one, context)}


async def read_with_other(context: Context, client: Client, row: Row) -> None:
    """Nothing: what reads another row reads this one, too."""


async def read_setting(context: Context, client: Client, row: Row) -> None:
    """Bring the one document of a row up to date."""
    try:
        context.put(row.document, await ask(client, row.endpoint, context.names))
    except EntriesLost as error:
        context.put(row.document, fields.with_held(context.draft.get(row.document), error.values))
        raise


async def ask(client: Client, endpoint: Endpoint, names: Names) -> Json:
    """What an endpoint gives: a list, in a stable order, or a single object. Raises BadAnswer for anything
    else."""
    if endpoint.page_size:
        return fields.ordered(await all_of(client, endpoint, None, **names))
    return fields.stable((await client.get(endpoint, None, **names)).object(endpoint.name))


class Round:
    """One round over `rows`. A row is read by `readers`, by name, or else by `read_setting`. The document
    MARKS says of each kind what could not be read.

    With `only_lacking`, only what was refused or failed is asked for: no round is due.
    """

    def __init__(
        self,
        context: Context,
        priority: Priority,
        rows: Sequence[Row],
        readers: Mapping[str, Collect],
        *,
        only_lacking: bool = False,
    ) -> None:
        self._context = context
        self._readers = readers
        self._rows = [row for row in rows if readers.get(row.name) is not read_with_other]
        self._only_lacking = only_lacking
        self._lacking = lacking(context)
        self._client = context.client_for(priority)
        self._state = context.state.settings
        self._marks = Marks(context.document(MARKS))
        self._done: list[str] = list(self._state.done or [])
        # The kinds that were answered in this turn, and why others could not be read.
        self._answered: set[str] = set()
        self._reasons: dict[str, str] = {}

    async def run(self) -> None:
        """Ask for every row. Raises only where the credential as a whole is refused."""
        has_failed = False
        for row in self._rows:
            if self._context.failures.stopped is not None:
                break
            if not self._is_due(row):
                continue
            if not await self._ask(row):
                has_failed = True
                continue
            self._answered.add(row.name)
            # The mark is put before the row counts as done: a run killed in between must not leave what
            # was denied as complete.
            self._put_marks()
            self._note_done(row)
            self._context.checkpoint_if_due()
        self._put_marks()
        before = self._state.kinds or {}
        self._state.kinds = {row.name: self._state_of(row, before.get(row.name)) for row in self._rows}
        if not self._only_lacking and self._context.failures.stopped is None and not has_failed:
            self._state.done = None
            self._state.asked = self._context.now
        self._context.checkpoint()

    def _is_due(self, row: Row) -> bool:
        """Whether to ask for a row. What failed in this turn waits for the next run."""
        if row.name not in self._lacking and (self._only_lacking or row.name in self._done):
            return False
        return (_ATTEMPT, 0, row.name) not in self._context.failures.tried

    def _note_done(self, row: Row) -> None:
        if not self._only_lacking and row.name not in self._done:
            self._done.append(row.name)
            self._state.done = list(self._done)

    async def _ask(self, row: Row) -> bool:
        """Ask for a row; returns whether there was an answer, a refusal included. Otherwise the next run
        asks again."""
        try:
            raise_known_denial(self._context, row.endpoint)
            await self._readers.get(row.name, read_setting)(self._context, self._client, row)
            self._marks.remove(row.name)
            self._context.note_answer(row.endpoint)
        except MirrorError as error:
            self._context.failures.tried.add((_ATTEMPT, 0, row.name))
            self._reasons[row.name] = error.message
            await self._mark(row, error)
            return not isinstance(error, TryLater)
        return True

    def _put_marks(self) -> None:
        marks = self._marks.to_json()
        if marks != self._context.document(MARKS):
            self._context.put(MARKS, marks)

    async def _mark(self, row: Row, error: MirrorError) -> None:
        """Mark why a kind could not be read. The time of an absence stays that of the first time."""
        if isinstance(error, TryLater):
            self._context.failures.record(row.part, row.kind, error, row.endpoint)
            self._marks.put_state(row.name, PartState.PARTIAL)
            return
        note_denial(self._context, row.endpoint, error)
        is_held = self._is_held(row)
        # What the last run reported as gone is not reported as missing again.
        is_missing = is_held and not self._marks.is_gone(row.name)
        part = await part_after(self._context, row, error, is_held=is_missing)
        self._reasons[row.name] = part.reason or error.message
        mark = {"state": str(part.state)}
        if part.scope is not None:
            mark["scope"] = part.scope
        # A kind of which nothing was ever held has no time at which it went.
        if part.state is PartState.GONE and is_held:
            mark["since"] = self._marks.get(row.name).get("since") or self._context.now
        self._marks.put(row.name, mark)

    def _is_held(self, row: Row) -> bool:
        folder, _, name = row.document.rpartition("/")
        if name.startswith("<"):
            return next(self._context.draft.paths(folder), None) is not None
        return self._context.draft.get(row.document) is not None

    def _state_of(self, row: Row, before: KindState | None) -> KindState:
        """How a kind stands after this turn."""
        is_answered = row.name in self._answered
        if not is_answered and row.name not in self._reasons and before is not None:
            return before
        mark = self._marks.get(row.name)
        is_asked = is_answered or row.name in self._done
        state = PartState.COMPLETE if is_asked else PartState.PARTIAL
        return KindState(
            part=row.part,
            kind=row.kind,
            state=mark.get("state", str(state)),
            scope=mark.get("scope") or None,
            reason=self._reasons.get(row.name) if mark else None,
            accepted_as=row.accepted_as,
            # Where there was an answer, asking again does not help.
            retryable=not is_asked,
        )


def raise_known_denial(context: Context, endpoint: Endpoint) -> None:
    """Raise the refusal that is known already: a single credential that lacks a scope lacks it everywhere,
    and is asked for it once in a run."""
    known = context.run.lacking_scopes.get(endpoint.scope)
    if known is not None:
        reason = known.message.partition(": ")[2]
        error = Denied(f"{endpoint.name}: {reason}", status=known.status, endpoint=endpoint.name)
        error.required, error.granted, error.said = known.required, known.granted, known.said
        raise error


def note_denial(context: Context, endpoint: Endpoint, error: MirrorError) -> None:
    """Remember that the scope of an endpoint is missing, where the refusal names it and there is no other
    credential that could have it."""
    if not isinstance(error, Denied) or error.endpoint != endpoint.name:
        return
    if len(context.client.sign_ins) == 1 and set(error.required) & {endpoint.scope, endpoint.api_token_scope}:
        context.run.lacking_scopes.setdefault(endpoint.scope, error)


def mark_gone(context: Context, folder: str, seen: set[str], key: str) -> None:
    """Mark the documents of what a whole list does not have any more; they stay. `seen` are the names of
    the documents of what it has, `key` is the thing's place in them."""
    for path in list(context.draft.paths(folder)):
        document = context.draft.get(path)
        if path.rpartition("/")[2].removesuffix(".json") in seen or not isinstance(document, dict):
            continue
        marks = Marks.of(document)
        if key not in marks:
            marks.put_gone(key, context.now)
            context.put(path, marks.on(document))


# -- what snapshots say


def parts(context: Context) -> dict[str, Part]:
    """What snapshots say of each part, from how its kinds stand."""
    state = context.state.settings
    if state.kinds is None:  # version 0.3 kept the parts themselves
        return {name: Part.from_json(data) for name, data in (state.parts or {}).items()}
    names = dict.fromkeys(str(one.part) for one in state.kinds.values())
    return {name: _part([one for one in state.kinds.values() if one.part == name], context) for name in names}


def note_retryable(context: Context, name: str, part: Part) -> None:
    """Note whether the next run may complete a part: all that it lacks is still to be asked for."""
    missing = [
        one
        for one in (context.state.settings.kinds or {}).values()
        if one.part == name and one.state == PartState.PARTIAL and not _is_accepted(one, context)
    ]
    if part.state is PartState.PARTIAL and all(one.retryable is not False for one in missing):
        context.failures.retryable.add(name)
    else:
        context.failures.retryable.discard(name)


def _part(kinds: Sequence[KindState], context: Context) -> Part:
    """What a snapshot says of all kinds of one part together. A kind that is accepted as missing is named,
    and leaves the part complete."""
    by_state: dict[PartState, list[KindState]] = {}
    for one in kinds:
        by_state.setdefault(PartState(str(one.state)), []).append(one)
    counts = {f"kinds_{state}": len(found) for state, found in sorted(by_state.items())}
    reason = "; ".join(
        f"{state}: {', '.join(sorted(_name(one, context) for one in found))}{_why(found, context)}"
        for state, found in sorted(by_state.items())
        if state is not PartState.COMPLETE
    )
    gaps = {
        state: [one for one in by_state.get(state, []) if not _is_accepted(one, context)]
        for state in (PartState.DENIED, PartState.PARTIAL)
    }
    scopes = {one.scope for one in gaps[PartState.DENIED] if one.scope is not None}
    state = next((state for state, found in gaps.items() if found), None) or _settled(by_state)
    return Part(state, counts, reason or None, ", ".join(sorted(scopes)) or None)


def _settled(by_state: Mapping[PartState, object]) -> PartState:
    """The state of a part without a gap: complete, unless all of its kinds are absent."""
    absent = (PartState.UNAVAILABLE, PartState.GONE)
    if by_state and by_state.keys() <= set(absent):
        return next(state for state in absent if state in by_state)
    return PartState.COMPLETE


def _is_gap(kind: KindState) -> bool:
    return kind.state in (PartState.DENIED, PartState.PARTIAL)


def _is_accepted(kind: KindState, context: Context) -> bool:
    return kind.accepted_as in context.run.accepted_missing


def _why(kinds: Sequence[KindState], context: Context) -> str:
    """Why the first of some kinds could not be read, where that is a gap."""
    with_reason = [one for one in kinds if _is_gap(one) and one.reason and not _is_accepted(one, context)]
    if not with_reason:
        return ""
    first = min(with_reason, key=lambda one: str(one.kind))
    return f" ({first.reason}{', and others' if len(with_reason) > 1 else ''})"


def _name(kind: KindState, context: Context) -> str:
    return f"{kind.kind} (agreed)" if _is_gap(kind) and _is_accepted(kind, context) else str(kind.kind)
