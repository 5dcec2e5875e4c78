"""The words of a plan. All of it are values; whoever carries a plan out resolves `Made` and `Secret`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Literal

from mirror.collect.put_back import Stage as Stage
from mirror.http.requests import Endpoint
from mirror.model import Json


@dataclass(frozen=True)
class Made:
    """Stands in a path or a body for a field (dotted) of what another step made or found."""

    step: str
    field: str = "uuid"


@dataclass(frozen=True)
class Secret:
    """Stands in a body for a value that the secrets file gives under `key`. A plan never holds the value."""

    key: str


def stand_ins(value: object) -> Iterator[Made | Secret]:
    """Everything in a step, or in a value of one, that stands for something else."""
    if isinstance(value, Made | Secret):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from stand_ins(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from stand_ins(one)
    elif is_dataclass(value):
        for name in fields(value):
            yield from stand_ins(getattr(value, name.name))


@dataclass(frozen=True)
class Upload:
    """A stored file that is sent as a part of a multipart body: its field, its name, and its sha256 in the
    folder that the plan reads."""

    field: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Call:
    """One request that makes or changes something. A body of None is sent as `{}`; anywhere in it `Made` and
    `Secret` may stand for a value."""

    method: Literal["POST", "PUT", "PATCH"]
    endpoint: Endpoint
    parts: Mapping[str, str | int | Made]
    body: object = None
    files: tuple[Upload, ...] = ()


@dataclass(frozen=True)
class Find:
    """How to find at the target what a step makes: by its natural key.

    `endpoint` is a list, whose item has all the values of `key` (by dotted field) and, where `marker` is
    given, text that begins with it in the field `marker[0]`; without `key` and `marker` it is one thing.
    `otherwise` is how to look again where nothing was found.
    """

    endpoint: Endpoint
    parts: Mapping[str, str | int | Made]
    key: Mapping[str, Json] = field(default_factory=dict)
    marker: tuple[str, str] | None = None
    otherwise: Find | None = None


@dataclass(frozen=True)
class Push:
    """Refs of a mirror (`code`, or a snippet's) that are pushed, each to its own name."""

    mirror: str
    refs: Mapping[bytes, str]


@dataclass(frozen=True)
class SendObjects:
    """The LFS objects that these hashes reach are sent."""

    tips: tuple[str, ...]


@dataclass(frozen=True)
class PushPages:
    """Pages that show what cannot be made anew are pushed to this branch, unless its tip is not such
    pages."""

    branch: str


@dataclass(frozen=True)
class Retry:
    """After a refusal with this status the request is sent once more, with `value` in the place of `field`
    (dotted); None: without the field. `note` is what the report says then.

    `named` are entries of a list, each by the text that names it: those that the refusal names are left out
    first, as often as it names others; the whole field only where it names none.
    """

    status: int
    field: str
    note: str
    value: Json = None
    named: tuple[tuple[str, Json], ...] = ()


@dataclass(frozen=True)
class Excuse:
    """A refusal with this status, whose message has this text in any case of letters, is no failure. The
    thing is a loss because of `why`; where that is None, it is there already. `note` says more."""

    status: int
    text: str = ""
    why: Why | None = None
    note: str = ""


class Why(StrEnum):
    """Why something does not come back."""

    NEVER = "Bitbucket lets nobody set it"
    SECRET = "to be entered again: the secrets file does not have it"  # noqa: S105 - a reason
    PERSON = "the person or group is not at the target"
    CHOSEN = "left out as asked"
    LACKING = "the backup does not have it"
    ARCHIVED = "only the archive has it"
    UNPUBLISHED = "its author has not published it"
    SAME = "another one is the same"
    UNKNOWN_THERE = "the other forge has nothing like it"


@dataclass(frozen=True)
class Step:
    """One thing that a restore makes.

    `key` is the same whenever a plan is made of the same snapshot: the journal knows a step by it. `kind` is
    the catalogue's. `label` names the thing for people. `after` are the keys of steps that must have been
    done. `wanted` are the fields (dotted) that are compared where the thing exists; `change` is sent where
    they differ and it may be overwritten, or where this restore made what has it by default.
    `needs_user`: Bitbucket takes it from a user's credential only. `is_passing`: the step only prepares
    others; where it finds something else that it may not change, that is neither noted nor owed. `fixed` are
    wanted fields that `change` does not set.
    """

    key: str
    kind: str
    label: str
    action: Call | Push | SendObjects | PushPages
    stage: Stage
    after: tuple[str, ...] = ()
    find: Find | None = None
    change: Call | None = None
    wanted: Mapping[str, object] = field(default_factory=dict)
    retries: tuple[Retry, ...] = ()
    excuses: tuple[Excuse, ...] = ()
    needs_user: bool = False
    is_passing: bool = False
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loss:
    """Something of the original that does not come back. None of these makes a restore incomplete."""

    key: str
    kind: str
    label: str
    why: Why
    detail: str = ""


@dataclass(frozen=True)
class Plan:
    """The steps in the order in which they are carried out, and what does not come back. `problems` are the
    damages for which there are no steps, each with its exit code."""

    steps: tuple[Step, ...]
    losses: tuple[Loss, ...]
    problems: tuple[tuple[int, str], ...] = ()
