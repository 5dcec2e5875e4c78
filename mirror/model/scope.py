"""Which workspaces a scheduled run is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """Everything, the workspace `only`, or everything but the workspaces `but`: names as the configuration
    has them, in lower case."""

    only: str | None = None
    but: frozenset[str] = frozenset()

    @property
    def is_everything(self) -> bool:
        """Whether it is every workspace."""
        return self.only is None and not self.but

    def has(self, workspace: str | None) -> bool:
        """Whether it has the workspace that an entry of the configuration names; None: for all
        that no other names."""
        name = None if workspace is None else workspace.lower()
        return name not in self.but if self.only is None else name == self.only

    def covers(self, other: Scope) -> bool:
        """Whether a run of this scope is one of `other` too."""
        if self.only is not None or other.only is not None:
            return self == other or (self.only is None and other.only not in self.but)
        return self.but <= other.but

    def job(self, kind: str) -> str:
        """A run of this kind and scope, in words; no two have the same."""
        if self.only is not None:
            return f"{kind} of {self.only}"
        return f"{kind} of all but {', '.join(sorted(self.but))}" if self.but else kind

    def facts(self) -> dict[str, Any]:
        """The facts of a run record; none for everything."""
        if self.only is not None:
            return {"only": self.only}
        return {"but": sorted(self.but)} if self.but else {}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Scope:
        """The scope in the facts of a run record."""
        return cls(facts.get("only"), frozenset(facts.get("but", ())))

    @classmethod
    def of_job(cls, text: str) -> tuple[str, Scope]:
        """The kind and the scope that `job` put into words."""
        kind, _, rest = text.partition(" of ")
        if rest.startswith("all but "):
            return kind, cls(but=frozenset(rest.removeprefix("all but ").split(", ")))
        return kind, cls(only=rest or None)


EVERYTHING = Scope()


def covering(found: Mapping[str, T], kind: str, scope: Scope) -> list[T]:
    """What `found` has, by `Scope.job`, of the runs of this kind that cover `scope`."""
    several = []
    for job, value in found.items():
        other, wide = Scope.of_job(job)
        if other == kind and wide.covers(scope):
            several.append(value)
    return several
