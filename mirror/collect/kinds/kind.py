"""How pull requests and issues differ: a `Kind` each, with its children and its hooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from mirror.bitbucket import fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import BadAnswer
from mirror.collect.context import Context
from mirror.collect.marks import Marks
from mirror.model import Json, JsonObject

Ask = Callable[[Context, Priority, int, JsonObject], Awaitable[Json]]


def _replaced(held: Json, values: Sequence[JsonObject]) -> list[Json]:
    del held
    return [fields.stable(value) for value in values]


@dataclass(frozen=True)
class Child:
    """A part of a thing that takes a request of its own.

    `count` reads how many the thing says it has (None: it does not say), of which those that `is_kept`
    count. `is_idle`: of closed things it is asked for with priority IDLE. `may_be_gone`: a 404 means that
    there is none; otherwise that it is hidden. `is_on_demand`: it is due only where something else says
    so, and not because the thing changed. `is_optional`: a document without it never had one. `ask` reads
    it where it is no plain list; `merge` joins the value held with the list that was read.
    """

    name: str
    endpoint: Endpoint
    count: Callable[[Json], int | None] = lambda _: None
    is_kept: Callable[[Json], bool] = lambda _: True
    is_idle: bool = False
    may_be_gone: bool = False
    is_on_demand: bool = False
    is_optional: bool = False
    ask: Ask | None = None
    merge: Callable[[Json, Sequence[JsonObject]], list[Json]] = _replaced


@dataclass(frozen=True)
class Change:
    """A thing as a list gives it now (`listed`), beside the document `old` that is held.

    `thing` is what the document keeps of it. `moved`: it is new, or was updated since. `sweep`: the
    listing looks at everything.
    """

    number: int
    old: JsonObject
    listed: JsonObject
    thing: JsonObject
    moved: bool
    is_open: bool
    sweep: bool


@dataclass(frozen=True)
class Kind:
    """One kind of numbered thing.

    `key` is the thing's own place in its document, `folder` the folder of the documents. `single` is asked
    for a thing of which the list gives less than the thing's own address (`is_thin`).

    The hooks are called while things are listed and fetched: `on_listed` with each thing that is not known
    to be as it was, `on_kept` with each change before its document is put, `on_fetched` with a document and
    the children that were read, `on_swept` after a listing of everything. `stale_children` names those
    children whose marks belong to another state of the thing, `also_due` those that are due though they
    are on demand.
    """

    part: str
    key: str
    folder: str
    noun: str
    listing: Endpoint
    children: tuple[Child, ...]
    is_open: Callable[[Json], bool] = lambda _: True
    single: Endpoint | None = None
    is_thin: Callable[[Json], bool] = lambda _: False
    on_listed: Callable[[Context, int, JsonObject], None] = lambda *_: None
    on_kept: Callable[[Context, Change], None] = lambda *_: None
    on_fetched: Callable[[Context, int, JsonObject, Sequence[str]], None] = lambda *_: None
    on_swept: Callable[[Context], None] = lambda *_: None
    stale_children: Callable[[Json, Json], tuple[str, ...]] = lambda *_: ()
    also_due: Callable[[Context, JsonObject], Iterable[str]] = lambda *_: ()
    # Whether the activity is read from a list for all, and not to its end yet.
    is_under_way: Callable[[Context], bool] = lambda _: False

    def path(self, number: int) -> str:
        """Where the document of a thing stands."""
        return f"{self.folder}/{number // 100}/{number}.json"

    def number_of(self, thing: JsonObject) -> int:
        """The number of a thing. Raises BadAnswer where it has none."""
        return fields.number_of(thing, self.noun)

    def is_marked_gone(self, document: Json) -> bool:
        """Whether the document of a thing says that upstream does not have it any more."""
        return self.key in Marks.of(document)

    @cached_property
    def asked(self) -> tuple[Child, ...]:
        """What is asked of a thing: itself, where lists are thinner, before its children."""
        single = self.single
        if single is None:
            return self.children

        async def whole(context: Context, priority: Priority, number: int, document: JsonObject) -> Json:
            answer = await context.client_for(priority).get(single, None, id=number, **context.names)
            thing = fields.stable(answer.object(self.noun))
            if self.number_of(thing) != number:
                raise BadAnswer(f"{self.noun} {number}: another one came")
            return fields.merged(document.get(self.key), thing)

        return (Child(self.key, single, ask=whole), *self.children)

    def names_for(self, priority: Priority) -> list[str]:
        """What is asked for with this priority."""
        match priority:
            case Priority.OPEN:
                return [child.name for child in self.asked]
            case Priority.CLOSED:
                return [child.name for child in self.asked if not child.is_idle]
            case Priority.IDLE:
                return [child.name for child in self.asked if child.is_idle]
        return []


def change_of(kind: Kind, number: int, old: JsonObject, listed: JsonObject, *, sweep: bool) -> Change:
    """What a listing changes in the document `old` of a thing (empty: there is none)."""
    previous = old.get(kind.key)
    thing = fields.merged(previous, fields.stable(listed))
    moved = previous is None or fields.updated_on(previous) != fields.updated_on(thing)
    return Change(number, old, listed, thing, moved, kind.is_open(thing), sweep)
