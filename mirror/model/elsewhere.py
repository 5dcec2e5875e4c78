"""What other hosts of a cluster say of a workspace that is spread over their stores: values, and a port.

Unknown is never zero: where a host has not reported, nothing that was lost counts as back, and nothing is
pruned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Tally:
    """What the repositories of a workspace had of one kind of thing in one store, or in several.

    There `was` so much of it before `lost` were lost, `vanished` of them in the last run. `is_missing`:
    something is not back yet, or cannot be read.
    """

    was: int = 0
    lost: int = 0
    vanished: int = 0
    is_missing: bool = False

    def __add__(self, other: Tally) -> Tally:
        """The tally of both."""
        return Tally(
            self.was + other.was,
            self.lost + other.lost,
            self.vanished + other.vanished,
            self.is_missing or other.is_missing,
        )


@dataclass(frozen=True)
class Others:
    """The tallies of all other hosts together, by kind, as they last reported them. `is_whole`: each of them
    that holds something of the workspace did so lately."""

    tallies: Mapping[str, Tally] = field(default_factory=dict)
    is_whole: bool = True

    def of(self, what: str) -> Tally:
        """The tally of one kind."""
        return self.tallies.get(what, Tally())


class Elsewhere(Protocol):
    """The other hosts. `workspace` is a uuid."""

    async def exchange(self, workspace: str, own: Mapping[str, Tally]) -> Others:
        """Report this host's tallies of a workspace; returns those of the others. Raises nothing."""
        ...

    async def obstacle(self, workspace: str) -> str | None:
        """Why nothing of a workspace may be pruned here, as far as others know; None where it may."""
        ...

    async def why_not_here(self, repository: str) -> str | None:
        """Why this host may make no folder for a repository, a uuid; None where it may. Raises nothing."""
        ...


class Unheard:
    """Other hosts that nobody asked: their tallies are unknown."""

    async def exchange(self, _workspace: str, _own: Mapping[str, Tally]) -> Others:
        """Nothing is known."""
        return Others(is_whole=False)

    async def obstacle(self, _workspace: str) -> str | None:
        """Nobody knows what the others lost."""
        return "it is not known what the other hosts of the cluster lost"

    async def why_not_here(self, _repository: str) -> str | None:
        """Nobody knows whether another has it."""
        return "it is not known whether another host of the cluster has it"
