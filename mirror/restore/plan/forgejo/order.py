"""Joins the planners for a Forgejo. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from mirror.git.comparison import Comparer
from mirror.restore.plan.forgejo.issues import steps_of_issues
from mirror.restore.plan.forgejo.labels import Labels
from mirror.restore.plan.forgejo.losses import losses_of
from mirror.restore.plan.forgejo.pull_requests import steps_of_pull_requests
from mirror.restore.plan.forgejo.repository import steps_of_repository
from mirror.restore.plan.forgejo.settings import (
    steps_of_downloads,
    steps_of_hooks,
    steps_of_keys,
    steps_of_restrictions,
)
from mirror.restore.plan.forgejo.target import ForgejoTarget
from mirror.restore.plan.order import plan_each, plan_of
from mirror.restore.plan.source import Options, Source
from mirror.restore.plan.steps import Loss, Plan, Step
from mirror.store.reading.folders import RepositoryFolder

# What of a repository can be brought there.
PARTS = frozenset({"code", "wiki", "settings", "downloads", "issues", "pull_requests"})


def make_plan(repositories: Sequence[tuple[Source, ForgejoTarget]], options: Options) -> Plan:
    """The plan of a restore of repositories, each to its own target. In the options `people` maps uuids to
    the names of users there.

    Issues come first and pull requests after them, each in their order: Forgejo counts both together, so an
    issue keeps its number where none before it is missing.
    A repository whose snapshot is damaged has a problem in place of steps. Raises UsageError where `options`
    match nothing.
    """
    found = plan_each(repositories, _steps_of, options)
    return plan_of(found.made, found.problems, options)


def _steps_of(source: Source, target: ForgejoTarget, options: Options) -> Iterator[Step | Loss]:
    assert isinstance(source.folder, RepositoryFolder)
    yield from steps_of_repository(source, target, options)
    labels = Labels(source, target)
    yield from steps_of_issues(source, target, options, labels)
    with Comparer(source.folder.code) if "code" in source.mirrors else nullcontext() as comparer:
        yield from steps_of_pull_requests(source, target, options, labels, comparer)
    yield from labels.steps()
    yield from steps_of_keys(source, target)
    yield from steps_of_downloads(source, target)
    yield from steps_of_restrictions(source, target, options)
    yield from steps_of_hooks(source, target, options)
    yield from losses_of(source)
