"""What a drill or a check reads: the snapshots that are restored or were, by workspace."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mirror.bitbucket.people import accounts_in, groups_in
from mirror.drill.comparing import MEMBERS, Original
from mirror.drill.upstream import Members
from mirror.extract import problem_of
from mirror.model import Problem, Selector
from mirror.restore.comparison.own import Contradiction, check_own
from mirror.restore.comparison.sides import StoredSide
from mirror.store.reading.apart import apart
from mirror.store.reading.folders import AnyFolder, current_workspace
from mirror.store.reading.reader import RepositoryFolder, Store, StoreDamaged, WorkspaceFolder

_LISTED = "repositories.json"
_PERMISSIONS = "settings/users-permissions.json"


@dataclass
class Chosen:
    """One workspace of a store: the originals in it, the selectors that mean them, and what of them cannot be
    read. `home` is the workspace's own folder; None where single repositories are meant."""

    slug: str
    home: WorkspaceFolder | None = None
    originals: list[Original] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def folders(self) -> list[AnyFolder]:
        """The folders of the originals."""
        return [one.side.folder for one in self.originals]

    def read_again(self, place: str | None) -> None:
        """Take the newest snapshot of the folder at `place`, or of all: a backup may have run since."""
        for index, one in enumerate(self.originals):
            latest = one.side.folder.metadata.latest()
            if place in (None, one.side.folder.place) and latest is not None:
                self.originals[index] = Original(StoredSide(one.side.folder, latest), one.slug)

    def members(self) -> Members:
        """The members of the workspace, as far as the snapshots know them, and all groups. Where they do not
        know the members, everybody who is in them. Raises StoreDamaged."""
        listed: dict[str, str] = {}
        anybody: dict[str, str] = {}
        groups: dict[str, str] = {}
        for one in self.originals:
            for path in one.side.paths():
                document = one.side.document(path)
                users = accounts_in(document)
                anybody |= users
                groups |= groups_in(document)
                if path in (MEMBERS, _PERMISSIONS):
                    listed |= users
        is_known = any(one.slug is None and one.side.document(MEMBERS) for one in self.originals)
        return Members(listed if is_known else anybody, groups)

    def contradictions(self) -> list[Contradiction]:
        """What contradicts itself in the snapshots; damage goes to `problems`."""
        found = []
        for one in self.originals:
            try:
                found += check_own(one.side)
            except StoreDamaged as damage:
                self.problems.append(Problem(*problem_of(damage)))
        return found


def choose(
    store: Store, selectors: Sequence[Selector], at: str = "latest", *, leave_out: Collection[str] = ()
) -> list[Chosen]:
    """The workspaces that `selectors` mean, or all, with the snapshots in them that `at` selects. Of several
    repositories with one name, that which is not gone. Raises UsageError, and StoreDamaged for damaged
    folders."""
    homes = [
        one
        for one in apart(store, store.workspaces(), leave_out)
        if not selectors
        or any(two.repository is None and two.matches_workspace(one.slug, one.folder) for two in selectors)
    ]
    every = store.workspaces()
    by_slug: dict[str, Chosen] = {}
    for home in homes:
        chosen = by_slug.setdefault(home.slug, Chosen(home.slug, home))
        _add(chosen, home, None, at)
        chosen.problems += _never_taken(store, chosen)
    repositories = apart(store, store.repositories(selectors), leave_out)
    taken: dict[tuple[str, str], RepositoryFolder] = {}
    for folder in sorted(repositories, key=lambda one: one.gone_since is not None):
        home_of = current_workspace(folder, every)
        workspace = home_of.slug if home_of is not None else folder.workspace_slug
        chosen = by_slug.setdefault(workspace, Chosen(workspace))
        if (workspace, folder.slug.lower()) not in taken:
            taken[workspace, folder.slug.lower()] = folder
            _add(chosen, folder, folder.slug, at)
    return [by_slug[name] for name in sorted(by_slug)]


def _never_taken(store: Store, chosen: Chosen) -> list[Problem]:
    """A problem for each repository that the workspace lists, and that the store does not have."""
    problems = []
    for one in chosen.originals:
        listed = one.side.document(_LISTED)
        for uuid, name in sorted(listed.items()) if isinstance(listed, dict) else ():
            if store.folder_of_repository(uuid) is None:
                problems.append(Problem(3, f"{name}: the workspace has it, and the store does not"))
    return problems


def _add(chosen: Chosen, folder: AnyFolder, slug: str | None, at: str) -> None:
    snapshot = folder.metadata.latest() if at == "latest" else folder.metadata.at(at).snapshot
    if snapshot is not None:
        chosen.originals.append(Original(StoredSide(folder, snapshot), slug))
    elif slug is not None:
        chosen.problems.append(Problem(3, f"{folder.full_name}: there is no snapshot of it yet"))
