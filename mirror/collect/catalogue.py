"""The catalogue: one row for each kind of thing that Bitbucket has and we keep.

Collecting, the scope check of `doctor` and the documentation read it. A new kind is a new row, and
a function that brings its documents up to date.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mirror.bitbucket import endpoints
from mirror.bitbucket.endpoints import Endpoint

Upkeep = Literal["every run", "cursor and sweep", "until done"]


@dataclass(frozen=True)
class Row:
    """One kind. `part` is what snapshots and the configuration call it.

    `absence` says what a 404 or 410 for it means; `restorable` whether and how it can be put back
    into Bitbucket.
    """

    kind: str
    part: str
    level: Literal["workspace", "repository"]
    endpoint: Endpoint
    document: str
    upkeep: Upkeep
    absence: str
    restorable: str


CATALOGUE: tuple[Row, ...] = (
    Row(
        "workspace profile", "profile", "workspace", endpoints.WORKSPACE, "workspace.json", "every run",
        "the workspace is hidden or gone", "no: a workspace is made by its owner",
    ),
    Row(
        "repository list", "repositories", "workspace", endpoints.REPOSITORIES, "repositories.json",
        "every run", "the credential may not list; the named repositories are asked one by one",
        "as repositories",
    ),
    Row(
        "repository profile", "profile", "repository", endpoints.REPOSITORY, "repository.json", "every run",
        "hidden or gone; confirmed over days before it counts", "most fields",
    ),
    Row(
        "pull requests", "pull_requests", "repository", endpoints.PULL_REQUESTS,
        "pull-requests/<n/100>/<n>.json", "cursor and sweep", "hidden from this credential",
        "open ones as new pull requests; the others as an archive",
    ),
    Row(
        "pull request comments", "pull_requests", "repository", endpoints.PULL_REQUEST_COMMENTS,
        "in the pull request", "cursor and sweep", "the last good copy is kept", "as new comments",
    ),
    Row(
        "pull request tasks", "pull_requests", "repository", endpoints.PULL_REQUEST_TASKS,
        "in the pull request", "cursor and sweep", "the last good copy is kept", "as new tasks",
    ),
    Row(
        "pull request activity", "pull_requests", "repository", endpoints.PULL_REQUEST_ACTIVITY,
        "in the pull request", "cursor and sweep", "the last good copy is kept", "no",
    ),
    Row(
        "issues", "issues", "repository", endpoints.ISSUES, "issues/<n/100>/<n>.json", "cursor and sweep",
        "Bitbucket removed its issue tracker in August 2026; the last good copy is kept", "no",
    ),
    Row(
        "pipelines", "pipelines", "repository", endpoints.PIPELINES, "pipelines/<n/100>/<n>.json",
        "until done", "pipelines were never switched on, or no longer are", "no",
    ),
    Row(
        "pipeline steps", "pipelines", "repository", endpoints.PIPELINE_STEPS, "in the pipeline",
        "until done", "the last good copy is kept", "no",
    ),
    Row(
        "step logs", "pipeline_logs", "repository", endpoints.STEP_LOG, "files/", "until done",
        "there was no log, or it has expired", "no",
    ),
)  # fmt: skip


def rows(part: str) -> tuple[Row, ...]:
    """The rows of a part."""
    return tuple(row for row in CATALOGUE if row.part == part)
