"""Restoring into the simulated Bitbucket, with every secret given: what is secret is made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe

from mirror.auth.secrets import SecretSource
from mirror.bitbucket.client.client import Client
from mirror.connect import budget_of, client_of
from mirror.drill.originals import Chosen
from mirror.drill.results import Seconds
from mirror.drill.upstream import Upstream
from mirror.model import Clock, Problem, Progress, Selector
from mirror.restore.carry.report import Outcome, Report
from mirror.restore.comparison.differences import Difference
from mirror.restore.into import Place
from mirror.restore.into import run as restore
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Options
from mirror.restore.plan.steps import Loss
from mirror.restore.secrets import SecretsFile, secret_keys
from mirror.restore.session import Settings

_NOTED = (Outcome.MADE, Outcome.CHANGED, Outcome.LOST)
_SECRET = "MIRROR_DRILL_SECRET"  # noqa: S105 - the name of a variable


@dataclass
class Restored:
    """The result of a restore, besides what the simulated Bitbucket has now. `losses` do not come back,
    `problems` were owed and refused."""

    losses: list[Loss] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)
    # By the key of its step, what the server turned out not to take, as nobody could know before.
    notes: dict[str, str] = field(default_factory=dict)

    def explain(self, difference: Difference) -> str | None:
        """What the restore reported of a difference that only the server could know of, or None."""
        slug = difference.place.partition("/")[2]
        return self.notes.get(f"{slug}/{difference.key}") if difference.key else None


async def restore_into(
    store: Path, chosen: Chosen, upstream: Upstream, folder: Path, *, clock: Clock, progress: Progress
) -> Restored:
    """Restore what is `chosen` of the store; journals are kept below `folder`. Raises MirrorError where the
    restore cannot begin."""
    restored = Restored()
    budget = budget_of(upstream.config, clock, reserve=0)
    async with client_of(
        upstream.config, upstream.config.workspaces[0], clock=clock, environment=upstream.environment,
        budget=budget,
    ) as client:  # fmt: skip
        run = _Run(store, chosen, upstream, folder, client, clock, progress)
        for selector, place in _selectors(chosen):
            planned = await run.plan(selector)
            if keys := secret_keys(planned.plan):
                planned = await run.plan(selector, keys)
            restored.seconds.requests += planned.cost.requests
            restored.seconds.real += planned.cost.seconds
            chosen.read_again(place)  # what is restored is what is compared
            report = await run.restore(selector, keys)
            restored.losses += report.losses
            restored.notes |= _notes(report)
            restored.problems += _problems(report)
    return restored


def _selectors(chosen: Chosen) -> Sequence[tuple[Selector, str | None]]:
    """The selector of the whole workspace, or of each repository with the place of its folder."""
    if chosen.home is not None:
        return [(Selector(chosen.slug), None)]
    folders = chosen.folders
    return [(Selector(chosen.slug, one.folder), one.place) for one in folders]


def _problems(report: Report) -> list[Problem]:
    """What was owed and did not come."""
    found = [Problem(code, text) for code, text in report.problems]
    for one in report.owed:
        status = f" ({one.status})" if one.status else ""
        found.append(Problem(one.code or 3, f"{one.outcome}{status}: {one.label}: {one.message}"))
    if report.stopped is not None:
        found.append(Problem(report.stopped.exit_code, f"the restore stopped: {report.stopped.message}"))
    return found


def _notes(report: Report) -> dict[str, str]:
    why = {one.key: one.detail or str(one.why) for one in report.losses}
    found = {one.key: one.message or why.get(one.key, "") for one in report.entries if one.outcome in _NOTED}
    return {key: text for key, text in found.items() if text}


@dataclass(frozen=True)
class _Run:
    store: Path
    chosen: Chosen
    upstream: Upstream
    folder: Path
    client: Client
    clock: Clock
    progress: Progress

    async def plan(self, selector: Selector, secrets: frozenset[str] = frozenset()) -> Planned:
        """The plan, with the secrets of these keys given."""
        found = await self._run(selector, secrets, dry_run=True)
        assert isinstance(found, Planned)
        return found

    async def restore(self, selector: Selector, secrets: frozenset[str]) -> Report:
        """The report of the restore."""
        found = await self._run(selector, secrets, dry_run=False)
        assert isinstance(found, Report)
        return found

    async def _run(self, selector: Selector, secrets: frozenset[str], *, dry_run: bool) -> Report | Planned:
        source = SecretSource("env", _SECRET)
        settings = Settings(
            state=self.folder / "journals",
            options=Options(activate_hooks=True, secrets=secrets),
            secrets=SecretsFile("", dict.fromkeys(secrets, source), {}),
            dry_run=dry_run,
            environment={**self.upstream.environment, _SECRET: token_urlsafe()},
        )
        return await restore(
            self.store, selector, Place(self.chosen.slug), settings, client=self.client,
            git_url=self.upstream.config.bitbucket.git_url, clock=self.clock, progress=self.progress,
        )  # fmt: skip
