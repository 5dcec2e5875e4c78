"""Joins the planners: of snapshots, a target and options it makes the steps in their order. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple, TypeVar

from mirror.collect.catalogue import CATALOGUE
from mirror.errors import UsageError
from mirror.restore.plan.commits import steps_of_commits
from mirror.restore.plan.history import steps_of_history
from mirror.restore.plan.pull_requests import steps_of_pull_requests
from mirror.restore.plan.repository import (
    PROJECT,
    REFS,
    REPOSITORY,
    project_key,
    pushable,
    steps_of_projects,
    steps_of_repository,
    takes_ref,
)
from mirror.restore.plan.selection import choose_things, thing_named
from mirror.restore.plan.settings import steps_of_settings, steps_of_workspace
from mirror.restore.plan.source import Options, Source, Target
from mirror.restore.plan.steps import Call, Loss, Made, Plan, Step, Why
from mirror.store.reading.reader import StoreDamaged

T = TypeVar("T")
Planner = Callable[[Source, Target, Options], Iterator[Step | Loss]]

# What makes the steps of a workspace itself, and of each repository.
OF_WORKSPACE: tuple[Planner, ...] = (steps_of_workspace,)
OF_REPOSITORY: tuple[Planner, ...] = (
    steps_of_repository, steps_of_settings, steps_of_pull_requests, steps_of_commits, steps_of_history
)  # fmt: skip
# What `--only` names: parts of snapshots, and everything but the code.
# These are git repositories, and no metadata.
_GIT = frozenset({"code", "wiki", "snippets"})
PARTS = frozenset({"code", "settings", "downloads", "pull_requests", "commit_comments", "snippets"})
METADATA = "metadata"
# These are made, or found, whatever parts were asked for: the others are inside them.
_GROUND = frozenset({PROJECT, REPOSITORY})


def make_plan(
    workspace: Source | None, repositories: Sequence[tuple[Source, Target]], target: Target, options: Options
) -> Plan:
    """The plan of a restore to the workspace of `target`. `workspace` is its own snapshot, None where single
    repositories are restored; each repository comes with its own target.

    A repository whose snapshot is damaged has a problem in place of steps. Raises StoreDamaged where the
    workspace's own snapshot is damaged, and UsageError where `options` match nothing.
    """
    made: list[Step | Loss] = []
    if workspace is not None:
        made += not_whole(workspace)
        for planner in OF_WORKSPACE:
            made += planner(workspace, target, options)
    found = plan_each(repositories, _steps_of, options)
    made += [*found.made, *steps_of_projects(workspace, found.intact, target)]
    return plan_of(made, found.problems, options)


def _steps_of(source: Source, target: Target, options: Options) -> Iterator[Step | Loss]:
    for planner in OF_REPOSITORY:
        yield from planner(source, target, options)


class Repositories(NamedTuple):
    """What the planners made of the `intact` repositories, and the problems of the damaged ones."""

    made: list[Step | Loss]
    intact: list[Source]
    problems: list[tuple[int, str]]


def plan_each(
    repositories: Sequence[tuple[Source, T]],
    steps_of: Callable[[Source, T, Options], Iterator[Step | Loss]],
    options: Options,
) -> Repositories:
    """Plan each repository for its own target. Raises UsageError where a glob of `options` matches no ref of
    any of them."""
    found = Repositories([], [], [])
    for source, target in repositories:
        try:
            inside = [*not_whole(source), *steps_of(source, target, options)]
        except StoreDamaged as damage:
            found.problems.append((damage.exit_code, f"{source.snapshot.full_name}: {damage.message}"))
        else:
            found.intact.append(source)
            found.made.extend(inside)
    check_globs(found.intact, options)
    return found


def plan_of(made: Sequence[Step | Loss], problems: Sequence[tuple[int, str]], options: Options) -> Plan:
    """The plan of what `options` ask for. Raises UsageError where they name a thing that is not there."""
    chosen = wanted(made, options.only)
    losses = tuple(one for one in chosen if isinstance(one, Loss))
    return Plan(in_order(chosen), losses, tuple(problems))


def check_globs(repositories: Sequence[Source], options: Options) -> None:
    """Raise UsageError where a glob matches no ref of any repository."""
    for glob in options.refs:
        one = replace(options, refs=(glob,))
        if not any(takes_ref(one, name) for source in repositories for name in pushable(source)):
            raise UsageError(
                f"--refs {glob}: the snapshot has no ref of such a name",
                hint="name refs in full, as in --refs 'refs/heads/*'; mirror show … refs.json lists them",
            )


def in_order(made: Iterable[Step | Loss]) -> tuple[Step, ...]:
    """The steps by stage, as they came within each. Two with one key are a fault of a planner: ValueError."""
    steps = sorted((one for one in made if isinstance(one, Step)), key=lambda step: step.stage)
    seen: set[str] = set()
    for step in steps:
        if step.key in seen:
            raise ValueError(f"two steps have the key {step.key}")
        seen.add(step.key)
    return tuple(steps)


def not_whole(source: Source) -> Iterator[Loss]:
    """The parts that the snapshot has not, or not whole."""
    for name, part in source.snapshot.parts.items():
        if not part.is_settled:
            label = f"{name} of {source.title}"
            yield Loss(source.key("part", name), name, label, Why.LACKING, part.summary or "")


def wanted(made: Sequence[Step | Loss], only: frozenset[str]) -> list[Step | Loss]:
    """The steps and losses that `only` asks for: all of the parts that it names, and single things. Raises
    UsageError where it names a thing that is not there."""
    things = frozenset(name for name in only if "/" in name)
    parts = only - things
    found = [one for one in made if (parts or not things) and is_wanted(one, parts)]
    if things:
        seen = {one.key for one in found}
        more = choose_things(made, things, part_of, lambda one: one.kind in _GROUND)
        found += [one for one in more if one.key not in seen]
    return found


def is_wanted(one: Step | Loss, parts: frozenset[str]) -> bool:
    """Whether a step or loss belongs to the parts that were asked for."""
    return not parts or one.kind in _GROUND or part_of(one.kind) in parts


def parts_named(names: frozenset[str], every: frozenset[str] = PARTS) -> frozenset[str]:
    """The parts and the single things that `--only` means by these names, of all parts that a forge takes
    (`every`). Raises UsageError for a part that it does not take."""
    things = {thing_named(name) for name in names if "/" in name}
    named = {name.replace("-", "_") for name in names if "/" not in name}
    if METADATA in named:
        named = named - {METADATA} | every - _GIT
    if unknown := sorted(named - every):
        parts = ", ".join(sorted(one.replace("_", "-") for one in {*every, METADATA}))
        raise UsageError(f"--only {', '.join(unknown)}: there it should be some of {parts}")
    return frozenset(named | things)


def part_of(kind: str) -> str:
    """The part that a kind belongs to, as `--only` names it."""
    return _parts().get(kind, kind)


@cache
def _parts() -> dict[str, str]:
    return {**{row.kind: row.part for row in CATALOGUE}, REFS: "code"}


def container_of(step: Step) -> frozenset[str]:
    """The keys of the steps that make what the thing of a step is inside of: its repository or project, and
    whatever else its path names. None for what is of the workspace itself."""
    parts = step.action.parts if isinstance(step.action, Call) else {}
    around = {one.step for one in parts.values() if isinstance(one, Made)}
    if "repository" in parts:
        around.add(f"{step.key.partition('/')[0]}/repository")
    elif "project" in parts:
        around.add(project_key(str(parts["project"])))
    return frozenset(around - {step.key})
