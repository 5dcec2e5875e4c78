"""What prune and erase removed from a folder, as its small files record it.

Verify distinguishes it from damage, and backup does not store it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mirror.model import Json, JsonObject, name_from_json, name_to_json, time_from_text, time_text
from mirror.store.format import layout
from mirror.store.format.failures import Malformed
from mirror.store.format.refs_document import MAIN_MIRROR, split_ref
from mirror.store.format.small_files import read_small_file

# Removes people from a document, given digests of their names. The store does not know the form of a person.
WithoutPeople = Callable[[Json, Collection[str]], Json]


@dataclass(frozen=True)
class Erasure:
    """One erasure. `run` is the id of the run that did it.

    At most one of `document` (a path), `ref`, and `people` (digests of one person's names) is set; with none,
    the whole folder was erased. `trees` and `refs` describe the rewritten snapshots (id to tree, id to sha256
    of refs.json). `done` is False until the old bytes are gone.
    """

    run: str
    at: datetime
    by: str
    reason: str
    document: str | None = None
    ref: bytes | None = None
    people: frozenset[str] = frozenset()
    trees: Mapping[str, str] = field(default_factory=dict)
    refs: Mapping[str, str | None] = field(default_factory=dict)
    done: bool = False

    @property
    def target(self) -> tuple[str | None, bytes | None, frozenset[str]]:
        """What was erased. A folder has one erasure of each target."""
        return self.document, self.ref, self.people

    def covers(self, other: Erasure) -> bool:
        """Whether this erasure includes `other`; it may have more names of the person."""
        mine, its = (self.document, self.ref), (other.document, other.ref)
        return mine == its and bool(self.people) == bool(other.people) and self.people >= other.people

    @property
    def is_everything(self) -> bool:
        """Whether the whole folder was erased."""
        return self.document is None and self.ref is None and not self.people

    @property
    def tombstone(self) -> JsonObject:
        """The document that replaces the erased one."""
        return {"erased": {"at": time_text(self.at), "reason": self.reason}}

    def to_json(self) -> JsonObject:
        """The JSON in the folder's file."""
        what: JsonObject = {}
        if self.document is not None:
            what = {"document": self.document}
        elif self.ref is not None:
            what = {"ref": name_to_json(self.ref)}
        elif self.people:
            what = {"person": sorted(self.people)}
        return {
            "run": self.run,
            "at": time_text(self.at),
            "by": self.by,
            "reason": self.reason,
            "what": what,
            "trees": dict(self.trees),
            "refs": dict(self.refs),
            "done": self.done,
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Erasure:
        """Read what `to_json` wrote. Raises Malformed."""
        try:
            what = data["what"]
            ref = what.get("ref")
            return cls(
                run=str(data["run"]),
                at=time_from_text(data["at"]),
                by=str(data["by"]),
                reason=str(data["reason"]),
                document=what.get("document"),
                ref=None if ref is None else name_from_json(ref),
                people=frozenset(what.get("person", ())),
                trees=dict(data["trees"]),
                refs=dict(data["refs"]),
                done=bool(data["done"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise Malformed(f"an erasure is not of its form: {error}") from error


class ErasureFilter:
    """Keeps what was erased out of new snapshots of a folder."""

    def __init__(
        self, erasures: Iterable[Erasure] = (), without_people: WithoutPeople = lambda value, _: value
    ) -> None:
        self._erasures = tuple(erasures)
        self._without_people = without_people
        self._documents = {one.document: one for one in self._erasures if one.document is not None}
        self._people = frozenset(digest for one in self._erasures for digest in one.people)

    @property
    def everything(self) -> Erasure | None:
        """The erasure of the whole folder, or None."""
        return next((one for one in self._erasures if one.is_everything), None)

    @property
    def refs(self) -> frozenset[bytes]:
        """The erased refs of the code."""
        return self.refs_of(MAIN_MIRROR)

    def refs_of(self, mirror: str) -> frozenset[bytes]:
        """The erased refs of a mirror."""
        named = (split_ref(one.ref) for one in self._erasures if one.ref is not None)
        return frozenset(name for where, name in named if where == mirror)

    def is_erased(self, path: str) -> bool:
        """Whether the document at `path` was erased."""
        return path in self._documents

    def apply(self, path: str, value: Json) -> Json:
        """The document without what was erased."""
        found = self._documents.get(path)
        if found is not None:
            return found.tombstone
        return self._without_people(value, self._people) if self._people else value


def read_erasures(root: Path, place: str) -> tuple[Erasure, ...]:
    """A folder's erasures, the oldest first. Raises StoreDamaged."""
    if not (root / place / layout.ERASURES_FILE).exists():
        return ()
    file = f"{place}/{layout.ERASURES_FILE}"
    return read_small_file(root, file, lambda data: tuple(Erasure.from_json(one) for one in data["erasures"]))


def erasures_json(erasures: Iterable[Erasure]) -> JsonObject:
    """The JSON that read_erasures reads."""
    return {"schema": 1, "erasures": [one.to_json() for one in erasures]}


@dataclass(frozen=True)
class Pruned:
    """The snapshots that retention removed, last in the run `run`. Written before they are removed.

    `done` is False until their bytes are free.
    """

    run: str
    snapshots: tuple[str, ...]
    done: bool

    def to_json(self) -> JsonObject:
        """The JSON in the folder's file."""
        return {"schema": 1, "run": self.run, "snapshots": sorted(self.snapshots), "done": self.done}


def read_pruned(root: Path, place: str) -> Pruned | None:
    """What retention removed from a folder last, or None. Raises StoreDamaged."""
    if not (root / place / layout.PRUNED_FILE).exists():
        return None
    return read_small_file(
        root,
        f"{place}/{layout.PRUNED_FILE}",
        lambda data: Pruned(
            str(data["run"]), tuple(str(one) for one in data["snapshots"]), bool(data["done"])
        ),
    )


def read_dropped(root: Path, place: str) -> dict[str, str]:
    """The step logs that retention removed: sha256 to time. Raises StoreDamaged."""
    if not (root / place / layout.DROPPED_FILE).exists():
        return {}
    return read_small_file(root, f"{place}/{layout.DROPPED_FILE}", lambda data: dict(data["files"]))
