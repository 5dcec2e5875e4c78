"""How the kinds of the catalogue come back into Bitbucket: when, by which request, in which other form, or
why not."""

from __future__ import annotations

from enum import IntEnum


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
