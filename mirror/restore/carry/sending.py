"""Sending one step's request: noted before and after, sent again only as its plan allows."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from mirror.errors import DamageFound, MirrorError
from mirror.http.requests import FilePart, MaybeMade, RequestFailed
from mirror.model import Json, JsonObject, value_at, with_value
from mirror.restore.carry.api import Api, Request
from mirror.restore.carry.journal import Is
from mirror.restore.carry.lookup import Lookup
from mirror.restore.carry.report import Outcome
from mirror.restore.carry.values import resolved
from mirror.restore.plan.source import Source
from mirror.restore.plan.steps import Call, Excuse, Made, Retry, Secret, Step

# Files up to this size are held in memory until they are sent, larger ones on the disk.
_IN_MEMORY = 8 << 20
_CHUNK = 1 << 20
# A request may be refused so because the thing is there, in words of any language.
_MAY_EXIST = (400, 409, 422)
# A gateway gives up before the server behind it does, and what was made may not be found at once: the seconds
# before each look for it.
WAITS = (1.0, 3.0, 9.0)


class Unresolved(MirrorError):
    """Something that stands in a request is not known: nothing was sent."""


@dataclass(frozen=True)
class Sent:
    """The outcome of a request: its answer; or `exists`, what is there already; or why it was refused
    (`outcome` is then REFUSED or UNKNOWN), perhaps with an excuse. `notes` say what was left out of it."""

    answer: JsonObject = field(default_factory=dict)
    exists: JsonObject | None = None
    refusal: MirrorError | None = None
    excuse: Excuse | None = None
    outcome: Outcome = Outcome.REFUSED
    notes: tuple[str, ...] = ()


class Sending:
    """Sends the requests of steps.

    `value_of` gives what stands for something else in them. `look` looks for the thing of a step, anew unless
    `again` is false. `note` writes to the journal how a step stands. `is_new` says whether what it is inside
    of was made just now. `sleep` waits so many seconds.
    """

    def __init__(
        self,
        api: Api,
        lookup: Lookup,
        sources: Mapping[str, Source],
        value_of: Callable[[Made | Secret], Json],
        look: Callable[..., Awaitable[JsonObject | None]],
        note: Callable[[Step, Is], None],
        is_new: Callable[[Step], bool],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._api = api
        self._lookup = lookup
        self._sources = sources
        self._value_of = value_of
        self._look = look
        self._note = note
        self._is_new = is_new
        self._sleep = sleep

    async def send(self, step: Step, call: Call, *, is_change: bool) -> Sent:
        """Send `call`, which is the step's own request or its change. Raises Unresolved and DamageFound
        before anything is sent, and what ends a restore."""
        body = resolved(call.body or {}, self._value_of)
        parts = {name: resolved(value, self._value_of) for name, value in call.parts.items()}
        retries = list(step.retries)
        notes: list[str] = []
        is_again = False
        waits = list(WAITS)
        with self._files(step, call) as files:
            while True:
                request = Request(call.method, call.endpoint, parts, body, files, step.needs_user)
                self._note(step, Is.CHANGING if is_change else Is.SENDING)
                try:
                    answer = await self._api.send(request)
                except MaybeMade as error:
                    # To change the same thing in the same way once more does no harm.
                    if not is_change:
                        if step.find is None:
                            return Sent(refusal=error, outcome=Outcome.UNKNOWN)
                        found = await self.look_patiently(step, WAITS[:1] if is_again else WAITS)
                        if found is not None:
                            return Sent(found, notes=_once(notes))
                    if is_again:  # twice without a trace; a later run looks first, because of the journal
                        return Sent(refusal=error)
                    is_again = True
                except RequestFailed as error:
                    self._note(step, Is.OPEN)
                    is_excused = _excuse_of(step, error) is not None
                    if error.status == 404 and waits and not is_excused and self._is_new(step):
                        await self._sleep(waits.pop(0))
                        continue
                    retry = _retry_after(error, retries, body)
                    if retry is None:
                        return await self._refused(step, error, is_change=is_change)
                    body, is_used_up, names = _without(retry, error, body)
                    if is_used_up:
                        retries.remove(retry)
                    notes.append(f"{retry.note}: {', '.join(names)}" if names else retry.note)
                else:
                    made = answer if isinstance(answer, dict) else {}
                    self._remember(step, made, is_change=is_change)
                    return Sent(made, notes=_once(notes))

    async def look_patiently(self, step: Step, waits: Sequence[float] = WAITS) -> JsonObject | None:
        """What is there of the thing of a step that was made, or may have been."""
        for seconds in waits:
            await self._sleep(seconds)
            found = await self._look(step)
            if found is not None:
                return found
        return None

    def _remember(self, step: Step, made: JsonObject, *, is_change: bool) -> None:
        if step.find is None:
            return
        if made and not is_change:
            self._lookup.note(step.find, made)
        else:
            self._lookup.forget(step.find)

    async def _refused(self, step: Step, error: RequestFailed, *, is_change: bool) -> Sent:
        excuse = _excuse_of(step, error)
        if excuse is not None:
            return Sent(excuse=excuse)
        if step.find is not None and not is_change and error.status in _MAY_EXIST:
            found = await self._look(step, again=_says_it_exists(error))
            if found is not None:
                return Sent(exists=found)
        return Sent(refusal=error)

    @contextmanager
    def _files(self, step: Step, call: Call) -> Iterator[tuple[FilePart, ...]]:
        """The files of a request, each checked to its end before anything is sent."""
        source = self._sources.get(step.key.partition("/")[0])
        with ExitStack() as held:
            parts = []
            for one in call.files:
                stored = None if source is None else source.stored(one.sha256)
                if stored is None:
                    raise DamageFound(f"the file {one.sha256} of {step.label} is missing in the store")
                stream = held.enter_context(tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))
                with held.enter_context(stored.open()) as plain:
                    while chunk := plain.read(_CHUNK):
                        stream.write(chunk)
                parts.append(FilePart(one.field, one.name, cast("BinaryIO", stream)))
            yield tuple(parts)


def _once(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _excuse_of(step: Step, error: RequestFailed) -> Excuse | None:
    message = error.message.lower()
    several = (one for one in step.excuses if one.status == error.status and one.text.lower() in message)
    return next(several, None)


def _says_it_exists(error: RequestFailed) -> bool:
    return error.status == 409 or "already exists" in error.message.lower()


def _retry_after(error: RequestFailed, retries: Sequence[Retry], body: Json) -> Retry | None:
    """The retry that helps after a refusal: one with an entry that the refusal names, else the first whose
    field the request has; None where none does."""
    several = [one for one in retries if one.status == error.status and value_at(body, one.field) is not None]
    named = (one for one in several if _named(one, error, value_at(body, one.field)))
    return next(named, several[0] if several else None)


def _named(retry: Retry, error: RequestFailed, sent: Json) -> list[tuple[str, Json]]:
    """The entries of a list that a refusal names, each with the text that it has."""
    several = sent if isinstance(sent, list) else []
    return [
        (text, value) for text, value in retry.named if text and text in error.message and value in several
    ]


def _without(retry: Retry, error: RequestFailed, body: Json) -> tuple[Json, bool, list[str]]:
    """The body without what a refusal names, else without the field; whether the retry is used up; and the
    names of what was left out."""
    several = value_at(body, retry.field)
    if not isinstance(several, list):
        return with_value(body, retry.field, retry.value), True, []
    bad = _named(retry, error, several)
    left = [one for one in several if one not in [value for _, value in bad]]
    if bad and left:
        return with_value(body, retry.field, left), False, [name for name, _ in bad]
    named = [next((name for name, value in retry.named if value == one), "") for one in several]
    return with_value(body, retry.field, retry.value), True, [name for name in named if name]
