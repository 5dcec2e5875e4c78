"""Which folders of a copy selectors select, by the names that manifests tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirror.copy.format import STORE
from mirror.errors import UsageError
from mirror.model import Selector
from mirror.store.format import layout
from mirror.store.reading.selection import Candidate, matches_any, select


@dataclass(frozen=True)
class Named:
    """A folder of the store: its place, and the names that its manifest has, empty where unknown."""

    place: str
    full_name: str
    uuid: str


def names_in(facts: Mapping[str, Any]) -> tuple[dict[str, str], list[Named]] | None:
    """What the store's own manifest says of all folders: by place the name of the folder of its manifests,
    and their names. None where it does not say that of each: no version before 0.9.1 wrote names."""
    folders, names = facts.get("folders"), facts.get("names")
    if not isinstance(folders, dict) or not isinstance(names, dict) or folders.keys() != names.keys():
        return None
    several = []
    for place, one in names.items():
        match one:
            case [str() as full_name, str() as uuid] if isinstance(folders[place], str):
                several.append(Named(place, full_name, uuid))
            case _:
                return None
    return folders, several


def chosen_places(every: Collection[Named], selectors: Sequence[Selector]) -> set[str] | None:
    """The places that `selectors` select, with those of their workspaces and `store`. None where a selector
    matches no current name or several: `Store` knows former names, too, and says what is wrong."""
    repositories = [candidate for one in every if (candidate := _repository(one)) is not None]
    workspaces = [candidate for one in every if (candidate := _workspace(one)) is not None]
    places: set[str] = {STORE}
    for selector in selectors:
        try:
            if selector.repository is None and not matches_any(repositories, selector):
                places.update(select(workspaces, [selector]))
            else:
                places.update(select(repositories, [selector]))
        except UsageError:
            return None
        places.update(one.item for one in workspaces if selector.matches_workspace(*one.workspace))
    places.update("/".join(place.split("/")[:2]) for place in list(places) if place != STORE)
    return places


def _repository(one: Named) -> Candidate[str] | None:
    match one.place.split("/"):
        case [_, workspace, _, repository]:
            slug, _, name = one.full_name.partition("/")
            names = (slug or layout.slug_of(workspace), workspace)
            return Candidate(one.place, names, (name or layout.slug_of(repository), repository, one.uuid))
    return None


def _workspace(one: Named) -> Candidate[str] | None:
    match one.place.split("/"):
        case [layout.WORKSPACES, workspace]:
            return Candidate(one.place, (one.full_name or layout.slug_of(workspace), workspace, one.uuid))
    return None
