"""What carrying out a plan on an empty target costs: requests, and the time that they take."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mirror.restore.plan.order import container_of
from mirror.restore.plan.steps import Call, Find, Plan, Push, PushPages, SendObjects

# Requests an hour for each group of resources: Bitbucket's usual limit, which a paid workspace may exceed.
LIMIT = 1000
# Seconds that one request takes, one after the other in each repository: a cautious guess.
SECONDS_EACH = 0.4
HOUR = 3600
# The workspace and its members are asked for in any case.
ALWAYS = 2


@dataclass(frozen=True)
class Estimate:
    """`requests` to the API, `git` operations, which have a limit of their own, and `seconds` in all, without
    the time that the objects need on their way. `limit` is that of requests an hour, None where none is
    known."""

    requests: int
    git: int
    seconds: int
    limit: int | None = LIMIT


def estimate(plan: Plan, limit: int | None = LIMIT) -> Estimate:
    """What a plan costs where nothing of it exists and nothing is refused."""
    groups: Counter[str] = Counter({"api": ALWAYS})
    looked_at: set[str] = set()
    git = 0
    for step in plan.steps:
        if isinstance(step.action, Push | PushPages | SendObjects):
            git += 1
            continue
        groups[_group(step.action)] += 1
        if step.find is not None and not container_of(step) and (place := _place(step.find)) not in looked_at:
            looked_at.add(place)
            groups[_group(step.find)] += 1
    requests = sum(groups.values())
    windows = max((count - 1) // limit for count in groups.values()) if limit is not None else 0
    return Estimate(requests, git, round(windows * HOUR + requests * SECONDS_EACH), limit)


def _group(one: Call | Find) -> str:
    return str(getattr(one.endpoint, "group", "api"))


def _place(find: Find) -> str:
    return f"{find.endpoint.template} {sorted(find.parts.items(), key=str)}"
