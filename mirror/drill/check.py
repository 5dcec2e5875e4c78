"""Comparing a backup with what a real workspace or repository has now. See `check`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror import backup
from mirror.config.settings import Config, Parts
from mirror.drill.comparing import Comparing, Original, ask_about_commits, compare
from mirror.drill.originals import choose
from mirror.drill.temporary import size_of, temporary_folder
from mirror.errors import UsageError, worst
from mirror.model import Clock, JsonObject, NoProgress, Problem, Progress, Selector
from mirror.restore.comparison.differences import Comparison
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open

# History does not come back, so that nobody needs to read it from the target.
_PARTS = Parts(issues=False, pipelines=False, pipeline_logs=False, wiki=False)


@dataclass(frozen=True)
class Checked:
    """What a check found. `problems` are those of reading the target, each with an exit code."""

    target: str
    comparison: Comparison
    problems: tuple[Problem, ...] = ()

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies: 4 where something differs."""
        codes = {one.code for one in self.problems}
        return tuple(sorted(codes if self.comparison.is_equal else codes | {4}))

    @property
    def exit_code(self) -> int:
        """The exit code of the check."""
        return worst(self.exit_codes)

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "target": self.target,
            "exit_code": self.exit_code,
            "exit_codes": list(self.exit_codes),
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
    progress: Progress | None = None,
) -> Checked:
    """Back up `target` into a temporary store, which only reads, and compare it with what `selector` means of
    the store at `path`. `config` has the credential for the workspace of the target.

    Raises NoStore, StoreDamaged, NoRoom, and UsageError where the selector or the target means nothing.
    """
    told = progress or NoProgress()
    with Store.open(path) as store:
        originals = _originals(store, selector, target, at)
        size = await asyncio.to_thread(size_of, [_place(one) for one in originals])
        with temporary_folder(environment, size) as folder:
            wanted = _config(config, target, originals, folder)
            create_or_open(wanted.store, now=clock.now()).close()
            done = await backup.run(wanted, clock=clock, environment=environment, progress=told)
            problems = [*done.problems, *(one for entry in done.entries for one in entry.problems)]
            told.report(str(target), "comparing")
            how = Comparing(
                target.people, not target.has_secrets, not target.activates_hooks, allows_more=True
            )
            with Store.open(wanted.store) as copies:
                commits = await ask_about_commits(wanted, environment, clock, originals, copies)
                how = replace(how, commits=commits)
                found = await asyncio.to_thread(compare, originals, copies, how)
            told.report(str(target), "done")
    return Checked(str(target), found, tuple(problems))


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


def _config(config: Config, target: Target, originals: list[Original], folder: Path) -> Config:
    """The configuration of the backup of the target: the one repository, or those of the originals."""
    entry = config.signing_in_to(target.workspace)
    slugs = tuple(one.slug for one in originals if one.slug is not None)
    wanted = replace(
        entry, workspace=target.workspace, include=slugs, exclude=(), parts=_PARTS, accept_missing=()
    )
    return replace(config, store=folder / "copy", workspaces=(wanted,))
