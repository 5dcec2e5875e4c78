"""Restoring into Bitbucket: from a selector to a plan, and from the plan to a report. See `run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import NotFound
from mirror.errors import UsageError
from mirror.model import Clock, NoProgress, Progress, Selector, Workspace
from mirror.restore import people
from mirror.restore.carry.api import BitbucketApi
from mirror.restore.carry.report import Report
from mirror.restore.plan.order import make_plan
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Target
from mirror.restore.restore import BITBUCKET
from mirror.restore.session import Goal, Settings, choose, plan_or_carry_out
from mirror.store.reading.reader import Store


@dataclass(frozen=True)
class Place:
    """A workspace to restore into, and the new name of the one repository, where that is given."""

    workspace: str
    repository: str | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read `bitbucket:WORKSPACE[/REPOSITORY]`. Raises UsageError."""
        workspace, slash, repository = text.removeprefix(BITBUCKET).partition("/")
        names = [workspace, repository] if slash else [workspace]
        if not text.startswith(BITBUCKET) or not all(fields.is_slug(name) for name in names):
            raise UsageError(
                f"--to {text}: a workspace, or workspace/repository, is named after {BITBUCKET}",
                hint="as in --to bitbucket:acme, or --to bitbucket:acme/website; names as URLs have them",
            )
        if slash and repository != repository.lower():
            raise UsageError(
                f"--to {text}: the name of a repository in a URL has no capitals",
                hint=f"write --to {BITBUCKET}{workspace}/{repository.lower()}",
            )
        return cls(workspace, repository if slash else None)

    def __str__(self) -> str:
        return f"{BITBUCKET}{self.workspace}" + (f"/{self.repository}" if self.repository else "")


async def run(
    path: Path,
    selector: Selector,
    place: Place,
    settings: Settings,
    *,
    client: Client,
    git_url: str,
    clock: Clock,
    progress: Progress | None = None,
) -> Report | Planned:
    """Restore what `selector` selects of the store at `path` into Bitbucket; in a dry run, plan it.
    `git_url` is the root of its git URLs.

    Raises UsageError, NoStore and StoreDamaged before anything is sent; Locked where another restore into
    the same workspace is running; CredentialRefused and TryLater where the workspace cannot be asked for.
    What is refused later is in the report.
    """
    with Store.open(path) as store:
        workspace = await _target(client, place)
        members = await people.members(client, place.workspace)
        chosen = choose(store, selector, settings.at, place=str(place), new_name=place.repository)
        is_only = len(chosen.repositories) == 1
        repositories = [
            (source, Target(place.workspace, name, members, is_only=is_only))
            for source, name in chosen.repositories
        ]
        everywhere = Target(place.workspace, members=members)
        plan = make_plan(chosen.workspace, repositories, everywhere, settings.options)
        goal = Goal(str(place), workspace.uuid, workspace.uuid.strip("{}"), place.workspace)
        api = BitbucketApi(client, git_url)
        return await plan_or_carry_out(plan, chosen, goal, settings, api, clock, progress or NoProgress())


async def _target(client: Client, place: Place) -> Workspace:
    """The workspace to restore into. Raises UsageError where there is none."""
    try:
        answer = await client.get(endpoints.WORKSPACE, None, workspace=place.workspace)
    except NotFound as error:
        raise UsageError(
            f"there is no workspace {place.workspace}, or the credential does not see it",
            hint="check the name, and whose credential it is; a new workspace is made on the website",
        ) from error
    found = fields.workspace(answer.object("workspace"))
    # A renamed workspace is found by its old name, which whoever gave it may have meant for another one.
    if place.workspace.lower() != found.slug.lower():
        raise UsageError(
            f"the workspace {place.workspace} is called {found.slug} now",
            hint=f"use --to {BITBUCKET}{found.slug} if it is the one that you mean",
        )
    return found
