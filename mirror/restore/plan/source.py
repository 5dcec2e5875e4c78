"""What a plan is made of: the snapshots that it reads, the place that it is for, and what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mirror.collect.marks import Marks, entry_unmarked
from mirror.extract import WORKSPACE, read_consistently
from mirror.model import Head, Json, JsonObject, Repository, Snapshot
from mirror.store.reading.folders import AnyFolder, RepositoryFolder
from mirror.store.reading.reader import MirrorRefs, StoredFile

OURS = b"refs/mirror/"


@dataclass(frozen=True)
class Source:
    """One snapshot of a repository, or of what belongs to a workspace itself. Every byte is checked.

    `name` begins the keys of its steps: the repository's slug, or `~workspace`. Whatever reads the store
    raises StoreDamaged where it is damaged.
    """

    folder: AnyFolder = field(repr=False)
    snapshot: Snapshot
    name: str = WORKSPACE

    @property
    def title(self) -> str:
        """What people call it: the repository's slug, or the workspace."""
        return "the workspace" if self.name == WORKSPACE else self.name

    def key(self, *parts: str | int) -> str:
        """The key of a step: `name/kind/natural key`."""
        return "/".join((self.name, *map(str, parts)))

    @property
    def workspace(self) -> str:
        """The slug that the workspace had."""
        return self.snapshot.full_name.partition("/")[0]

    @cached_property
    def repository(self) -> Repository | None:
        """The repository as it was; None for a workspace's own snapshot."""
        if not isinstance(self.folder, RepositoryFolder):
            return None
        profile = self.object("repository.json")
        project = profile.get("project")
        key = project.get("key") if isinstance(project, dict) else None
        slug = self.snapshot.full_name.partition("/")[2]
        return Repository(self.snapshot.uuid, self.workspace, slug, key, profile)

    def document(self, path: str) -> Json | None:
        """The document at `path`; None where the snapshot has none."""
        return read_consistently(self.folder, lambda: self.folder.metadata.read(self.snapshot, path))

    def object(self, path: str) -> JsonObject:
        """The document at `path` as an object; an empty one where there is none, or it is something else."""
        found = self.document(path)
        return found if isinstance(found, dict) else {}

    def entries(self, path: str) -> list[JsonObject]:
        """The entries of the list at `path`, without those that upstream did not have any more; none where
        there is no list."""
        found = self.document(path)
        several = found if isinstance(found, list) else []
        return [one for one in several if isinstance(one, dict) and entry_unmarked(one) == one]

    def paths(self, prefix: str = "") -> list[str]:
        """The paths of the documents below the folder `prefix`, sorted."""
        return read_consistently(self.folder, lambda: self.folder.metadata.paths(self.snapshot, prefix))

    @cached_property
    def mirrors(self) -> Mapping[str, MirrorRefs]:
        """The refs of each mirror (`code`, `snippets/…`), by its name."""
        return read_consistently(self.folder, lambda: self.folder.metadata.mirrors(self.snapshot))

    @cached_property
    def refs(self) -> dict[bytes, str]:
        """The refs of the code as upstream had them, each with its hash; none where it was never readable."""
        code = self.mirrors.get("code")
        found = {} if code is None else code.refs.refs
        return {name: value for name, value in found.items() if not name.startswith(OURS)}

    @property
    def head(self) -> Head | None:
        """HEAD of the code."""
        code = self.mirrors.get("code")
        return None if code is None else code.refs.head

    @property
    def pins(self) -> Mapping[int, str]:
        """The hash of the head of each pull request, by its number, where git has it."""
        code = self.mirrors.get("code")
        return {} if code is None else code.pins

    def stored(self, sha256: str) -> StoredFile | None:
        """The stored file with these bytes; None where the store does not have it."""
        return self.folder.find_file(sha256)

    def text(self, value: Json) -> str | None:
        """The text in a document: itself, or that of the file which it points to. None for anything else and
        where the store does not have the file. Raises StoreDamaged."""
        if not isinstance(value, dict):
            return value if isinstance(value, str) else None
        found = self.stored(str(value.get("sha256")))
        if found is None:
            return None
        with found.open() as stream:
            return stream.read().decode("utf-8", "replace")


def was_gone(document: Json, thing: str) -> bool:
    """Whether upstream did not have it any more: `thing` is its place in the document (`project`)."""
    return Marks.of(document).is_gone(thing)


@dataclass(frozen=True)
class Target:
    """Where a plan restores to: a workspace, and for what is of a repository its slug there.

    `members` are the uuids of the workspace's members, None where nobody could ask. `is_only`: no other
    repository is restored there, so this one is asked for by its name and not in the list of all.
    """

    workspace: str
    repository: str | None = None
    members: frozenset[str] | None = None
    is_only: bool = False

    @property
    def parts(self) -> dict[str, str]:
        """The parts of every path of the workspace, or of the repository."""
        parts = {"workspace": self.workspace}
        return parts if self.repository is None else {**parts, "repository": self.repository}


@dataclass(frozen=True)
class Options:
    """What was asked for. `only` are parts of snapshots (`code`, `settings`, `pull_requests`, …) and single
    things (`settings/variables`, `pull-requests/17`), empty for all. `refs` are globs of full names. `people`
    maps uuids of then to uuids of now. `secrets` are the keys that the secrets file has; a plan never sees a
    value. `archive` is the branch for pages of what cannot be made anew."""

    only: frozenset[str] = frozenset()
    refs: tuple[str, ...] = ()
    overwrite: bool = False
    activate_hooks: bool = False
    people: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    archive: str | None = None

    def person(self, uuid: str) -> str:
        """The uuid at the target of a person or account."""
        return self.people.get(uuid, uuid)
