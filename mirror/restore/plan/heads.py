"""Which branches the pull requests that are made anew come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mirror.bitbucket import fields
from mirror.bitbucket.readable.parts import string
from mirror.git.refs import name_fault
from mirror.model import Json
from mirror.restore.plan.repository import takes_ref
from mirror.restore.plan.source import Options, Source
from mirror.restore.plan.steps import Why

_HEADS = b"refs/heads/"


@dataclass(frozen=True)
class Ends:
    """The branches of a pull request. `pushed` is the hash that its source branch is made of, because the
    repository lacks the branch; None where it has it."""

    source: str
    destination: str
    pushed: str | None = None

    @property
    def ref(self) -> bytes:
        """The full name of the source branch."""
        return _ref(self.source)


@dataclass(frozen=True)
class NoEnds:
    """Why a pull request has no branches to be made from."""

    why: Why
    detail: str


@dataclass
class Branches:
    """The branches of a repository, and those that are made for pull requests."""

    source: Source
    options: Options
    # By the repository and the name that a branch had, and by its hash: the name that it is given.
    _made: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _taken: set[bytes] = field(default_factory=set)
    _folders: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name in self.source.refs:
            self._take(name)

    def ends(self, number: int, pull: Json) -> Ends | NoEnds:
        """The branches that the pull request of this number gets."""
        destination = string(pull, "destination", "branch", "name")
        old = string(pull, "source", "branch", "name")
        left_out = [name for name in (old, destination) if not takes_ref(self.options, _ref(name))]
        if left_out:
            return NoEnds(Why.CHOSEN, f"--refs leaves out {' and '.join(left_out)}")
        into = self.source.refs.get(_ref(destination))
        if into is None:
            return NoEnds(Why.ARCHIVED, f"its destination, the branch {destination}, is gone")
        home = self._home(pull)
        held = self.source.refs.get(_ref(old)) if home == "" else None
        head = self.source.pins.get(number)
        if into == (held or head):
            return NoEnds(Why.ARCHIVED, f"its head is in {destination} already")
        if held is not None:
            return Ends(old, destination)
        if head is None:
            return NoEnds(Why.ARCHIVED, f"its branch {old} is gone, and git does not have its head")
        return Ends(self._name_for(number, home, old, head), destination, head)

    def _home(self, pull: Json) -> str:
        """Whose the source branch is: empty for the repository itself, a fork's name, `?` if that is gone."""
        repository = self.source.repository
        if repository is None or not string(pull, "source", "repository", "full_name"):
            return "?"
        return fields.fork(pull, repository) or ""

    def _name_for(self, number: int, home: str, old: str, head: str) -> str:
        """The name of the branch that is made: the one that it had, if that is free."""
        key = (home, old, head)
        if key not in self._made:
            name = next(one for one in _names(number, old) if self._is_free(_ref(one)))
            self._take(_ref(name))
            self._made[key] = name
        return self._made[key]

    def _is_free(self, ref: bytes) -> bool:
        """Whether git takes the name beside the others: `a` and `a/b` cannot both be branches."""
        is_known = ref in self._taken or ref in self._folders
        is_inside = any(one in self._taken for one in _folders_of(ref))
        return name_fault(ref) is None and not is_known and not is_inside

    def _take(self, ref: bytes) -> None:
        self._taken.add(ref)
        self._folders.update(_folders_of(ref))


def _ref(branch: str) -> bytes:
    return _HEADS + branch.encode("utf-8", "surrogateescape")


def _folders_of(ref: bytes) -> Iterator[bytes]:
    parts = ref.split(b"/")
    return (b"/".join(parts[:length]) for length in range(3, len(parts)))


def _names(number: int, old: str) -> Iterator[str]:
    yield old
    yield f"pull-request-{number}"
    for again in range(2, 1 << 30):
        yield f"pull-request-{number}-{again}"
