"""How the kinds of the catalogue come back into Bitbucket: when, by which request, in which other form, or
why not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mirror.bitbucket.writes import Write


class Stage(IntEnum):
    """The order of a plan: every step of a stage, of all repositories, comes before the next stage."""

    PROJECT = 1
    REPOSITORY = 2
    LFS_OBJECTS = 3
    BRANCHES = 4  # heads and tags
    MAIN_BRANCH = 5
    OTHER_REFS = 6
    PERMISSIONS = 7  # reviewers need them
    SETTINGS = 8
    PIPELINES_ENABLED = 9  # variables, environments and schedules may need it
    PIPELINES = 10
    PIPELINES_DISABLED = 11  # a pull request must not start a build
    PULL_REQUESTS = 12
    COMMENTS = 13
    RESTRICTIONS = 14
    HOOKS = 15
    PIPELINES_AS_THEY_WERE = 16


@dataclass(frozen=True)
class Sent:
    """It is sent as it was, at this stage of a plan. `more` says what else there is to know of it."""

    stage: Stage
    write: Write
    more: str = ""

    def __str__(self) -> str:
        write, limits = self.write, []
        if write.hidden is not None:
            limits.append("with what is secret from the secrets file")
        if write.who or write.people is not None:
            limits.append(
                "where the group is there" if write.who == "group.slug" else "where the people are there"
            )
        if write.needs_user:
            limits.append("by a user's credential")
        return ", ".join(["yes", *limits, *([self.more] if self.more else [])])


@dataclass(frozen=True)
class InOtherForm:
    """It comes back by the steps of another kind, or as something else: `how`."""

    how: str

    def __str__(self) -> str:
        return self.how


@dataclass(frozen=True)
class Stays:
    """It does not come back. `reason` says why. `is_lacking`: because no backup can hold all of it; otherwise
    because Bitbucket lets nobody set it."""

    reason: str = ""
    is_lacking: bool = False

    def __str__(self) -> str:
        return f"no: {self.reason}" if self.reason else "no"


PutBack = Sent | InOtherForm | Stays
