"""Comparing a backup with what a real workspace or repository has now. See `check`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror import backup
from mirror.bitbucket import fields
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.endpoints import REPOSITORIES
from mirror.bitbucket.failures import NotFound
from mirror.bitbucket.lists import all_of
from mirror.config.settings import Config, Parts
from mirror.connect import client_of
from mirror.drill.comparing import Original, compare_with_backup
from mirror.drill.originals import choose
from mirror.drill.temporary import size_of, temporary_folder
from mirror.errors import Result, UsageError
from mirror.model import Clock, JsonObject, NoProgress, Outcome, Problem, Progress, Run, Selector
from mirror.restore.comparison.differences import Comparison, How
from mirror.restore.comparison.matching import Match, Rules
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open

_FAILED = frozenset({Outcome.FAILED, Outcome.LOCKED, Outcome.PENDING, Outcome.UNREACHED})
# History does not come back, so that nobody needs to read it from the target.
_PARTS = Parts(issues=False, pipelines=False, pipeline_logs=False, wiki=False)


@dataclass(frozen=True)
class Checked(Result):
    """What a check found. `problems` are those of reading the target, each with an exit code."""

    target: str
    comparison: Comparison
    problems: tuple[Problem, ...] = ()

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies: 4 where something differs."""
        codes = {one.code for one in self.problems}
        return tuple(sorted(codes if self.comparison.is_equal else codes | {4}))

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "target": self.target,
            **self.codes_to_json(),
            **self.comparison.to_json(),
            "problems": [one.to_json() for one in self.problems],
        }


@dataclass(frozen=True)
class Target:
    """The workspace that was restored to, and the repository; None for all."""

    workspace: str
    repository: str | None = None
    people: Mapping[str, str] = field(default_factory=dict)
    has_secrets: bool = False
    activates_hooks: bool = False

    def __str__(self) -> str:
        return self.workspace if self.repository is None else f"{self.workspace}/{self.repository}"


async def check(
    path: Path,
    selector: Selector,
    target: Target,
    config: Config,
    *,
    at: str = "latest",
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    progress: Progress | None = None,
) -> Checked:
    """Back up `target` into a temporary store, which only reads, and compare it with what `selector` means of
    the store at `path`. `config` has the credential for the workspace of the target; requests are taken of
    `budget`.

    What cannot be read of the target is a problem and no difference. Raises NoStore, StoreDamaged, NoRoom,
    UsageError where the selector or the target means nothing, and CredentialRefused and TryLater where the
    target cannot be asked for.
    """
    progress = progress or NoProgress()
    with Store.open(path) as store:
        originals = _originals(store, selector, target, at)
        there = await _slugs(config, target, clock, environment, budget)
        if not any(one.slug in there for one in originals):
            return Checked(str(target), _all_missing(originals), _without_repositories(originals))
        size = await asyncio.to_thread(size_of, [_place(one) for one in originals])
        with temporary_folder(environment, size) as folder:
            wanted = _config(config, target, there, originals, folder)
            create_or_open(wanted.store, now=clock.now()).close()
            done = await backup.run(
                wanted, clock=clock, environment=environment, progress=progress, budget=budget
            )
            originals = [one for one in originals if not _is_unread(done, one)]
            progress.report(str(target), "comparing")
            rules = Rules(
                target.people, without_secrets=not target.has_secrets,
                hooks_inactive=not target.activates_hooks, allows_more=True,
            )  # fmt: skip
            found = await compare_with_backup(wanted, environment, clock, budget, originals, rules)
            progress.report(str(target), "done")
    return Checked(str(target), found, done.all_problems)


def _place(one: Original) -> Path:
    return one.side.folder.root / one.side.folder.place


def _originals(store: Store, selector: Selector, target: Target, at: str) -> list[Original]:
    chosen = choose(store, [selector], at)
    if len(chosen) != 1:
        names = ", ".join(one.slug for one in chosen)
        raise UsageError(f"{selector} matches several workspaces: {names}", hint="name one of them")
    originals = chosen[0].originals
    if target.repository is None:
        return originals
    repositories = [one for one in originals if one.slug is not None]
    if len(repositories) != 1:
        raise UsageError(
            f"{selector} matches {len(repositories)} repositories, and {target} is one",
            hint="name one repository, or bitbucket:WORKSPACE alone",
        )
    return [Original(repositories[0].side, target.repository)]


async def _slugs(
    config: Config, target: Target, clock: Clock, environment: Mapping[str, str], budget: Budget
) -> frozenset[str]:
    """The repositories that the workspace of the target has. Raises UsageError where there is no such
    workspace."""
    entry = config.signing_in_to(target.workspace)
    async with client_of(config, entry, clock=clock, environment=environment, budget=budget) as client:
        try:
            listed = await all_of(client, REPOSITORIES, None, workspace=target.workspace)
        except NotFound as error:
            raise UsageError(
                f"there is no workspace {target.workspace}, or the credential does not see it",
                hint="name the workspace that was restored to",
            ) from error
    return frozenset(fields.repository(one, workspace=target.workspace).slug.lower() for one in listed)


def _all_missing(originals: list[Original]) -> Comparison:
    result = Comparison()
    for one in originals:
        if one.slug is not None:
            Match(one.side.name, result).note("", "repository", one.slug, How.MISSING)
    return result


def _without_repositories(originals: list[Original]) -> tuple[Problem, ...]:
    """What is not compared where the target has none of the repositories."""
    text = "what belongs to the workspace itself was not compared, as none of the repositories is there"
    return (Problem(3, text),) if any(one.slug is None for one in originals) else ()


def _is_unread(done: Run, original: Original) -> bool:
    """Whether the backup of the target failed for the copy of an original; its problems say why."""
    kind = "workspace" if original.slug is None else "repository"
    return any(
        one.kind == kind
        and one.outcome in _FAILED
        and original.slug in (None, one.full_name.partition("/")[2].lower())
        for one in done.entries
    )


def _config(
    config: Config, target: Target, there: frozenset[str], originals: list[Original], folder: Path
) -> Config:
    """The configuration of the backup of the target: of the originals' repositories that are there."""
    entry = config.signing_in_to(target.workspace)
    slugs = tuple(one.slug for one in originals if one.slug is not None and one.slug in there)
    wanted = replace(
        entry, workspace=target.workspace, include=slugs, exclude=(), parts=_PARTS, accept_missing=()
    )
    return replace(config, store=folder / "copy", workspaces=(wanted,))
