"""The folders of a store that selectors select, with hints where they match none or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, TypeVar

from mirror.errors import UsageError
from mirror.model import Selector

T = TypeVar("T")


@dataclass(frozen=True)
class Candidate(Generic[T]):
    """A folder that a selector may match. `repository` is empty for a workspace.

    `workspace` and `repository` are the current names: slug, folder, uuid. `former` are earlier full names.
    `note` distinguishes it for a person.
    """

    item: T
    workspace: tuple[str, ...]
    repository: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    note: str = ""

    @property
    def full_name(self) -> str:
        """The name that a person uses."""
        return "/".join(names[0] for names in (self.workspace, self.repository) if names)

    @property
    def folder(self) -> str:
        """The unique name."""
        return "/".join(names[1] for names in (self.workspace, self.repository) if names)


def select(candidates: Sequence[Candidate[T]], selectors: Iterable[Selector]) -> list[T]:
    """The items that any of `selectors` matches, each once, in the order of `candidates`.

    Former names count only where no current one matches. Raises UsageError where a selector matches nothing,
    or an exact one several.
    """
    chosen: set[int] = set()
    for selector in selectors:
        found = [index for index, one in enumerate(candidates) if _matches(one, selector)]
        if not found:
            found = [index for index, one in enumerate(candidates) if _matches_former(one, selector)]
        if not found:
            raise UsageError(
                f"{str(selector)!r} matches nothing in this store", hint=_hint(candidates, selector)
            )
        if selector.is_exact and len(found) > 1:
            raise _ambiguous(selector, [candidates[index] for index in found])
        chosen.update(found)
    return [one.item for index, one in enumerate(candidates) if index in chosen]


def matches_any(candidates: Sequence[Candidate[T]], selector: Selector) -> bool:
    """Whether `selector` matches one of `candidates` by a current or former name."""
    return any(_matches(one, selector) or _matches_former(one, selector) for one in candidates)


def _matches(one: Candidate[T], selector: Selector) -> bool:
    if not selector.matches_workspace(*one.workspace):
        return False
    return selector.matches_repository(*one.repository) if one.repository else selector.repository is None


def _matches_former(one: Candidate[T], selector: Selector) -> bool:
    """Whether the selector matches a former name."""
    for name in one.former:
        workspace, _, repository = name.partition("/")
        if not selector.matches_workspace(workspace):
            continue
        if not one.repository:
            return selector.repository is None
        if selector.matches_repository(repository):
            return True
    return False


def _ambiguous(selector: Selector, found: Sequence[Candidate[T]]) -> UsageError:
    names = "; ".join(one.folder + (f" ({one.note})" if one.note else "") for one in found)
    return UsageError(
        f"{str(selector)!r} is the name of {len(found)} repositories in this store",
        hint=f"name one of them by its folder: {names}",
    )


def _hint(candidates: Sequence[Candidate[T]], selector: Selector) -> str:
    if not candidates:
        return "the store is empty: run mirror backup first"
    names: dict[str, None] = {}
    for one in candidates:
        names[one.full_name.lower()] = None
        names[one.folder.lower()] = None
        names.update(dict.fromkeys(one.former))
        if selector.repository is None:
            names[one.workspace[0].lower()] = None
    near = get_close_matches(str(selector), names, n=3, cutoff=0.75)
    if near:
        return f"did you mean {' or '.join(near)}?"
    others = [one.full_name for one in candidates if selector.matches_workspace(*one.workspace)]
    if selector.repository is not None and others:
        return f"the store holds of that workspace: {', '.join(others[:5])}; mirror status lists all"
    workspaces = ", ".join(sorted({one.workspace[0] for one in candidates})[:5])
    return f"the store holds the workspaces {workspaces}; mirror status lists all"
