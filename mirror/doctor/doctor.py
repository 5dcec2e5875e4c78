"""Runs all checks."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from mirror.config.settings import Config
from mirror.doctor.access import workspace_checks
from mirror.doctor.checks import Report
from mirror.doctor.machine import maintenance_check, network_checks, store_checks
from mirror.model import Clock


async def run(
    config: Config,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None = None,
) -> Report:
    """Check everything that `config` needs. Findings are reported, never raised."""
    checks = [*store_checks(config.store), maintenance_check(environment)]
    checks += await network_checks(config, environment)
    for workspace in config.workspaces:
        checks += await workspace_checks(config, workspace, clock, environment, transport)
    return Report(tuple(checks))
