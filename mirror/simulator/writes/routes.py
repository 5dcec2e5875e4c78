"""WRITES: all writing routes."""

from __future__ import annotations

from mirror.simulator.writes.commits import COMMITS
from mirror.simulator.writes.files import FILES
from mirror.simulator.writes.hooks import HOOKS
from mirror.simulator.writes.permissions import PERMISSIONS
from mirror.simulator.writes.pipelines import PIPELINES
from mirror.simulator.writes.pull_requests import PULLS
from mirror.simulator.writes.repositories import PLACES
from mirror.simulator.writes.routing import WriteRoute
from mirror.simulator.writes.settings import SETTINGS

WRITES: tuple[WriteRoute, ...] = (
    *PLACES, *SETTINGS, *HOOKS, *PERMISSIONS, *PIPELINES, *PULLS, *COMMITS, *FILES,
)  # fmt: skip
