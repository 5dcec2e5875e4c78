"""Runs all checks."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from mirror.bitbucket.client.budget import Budget
from mirror.config.settings import Config
from mirror.doctor.access import workspace_checks
from mirror.doctor.checks import Report
from mirror.doctor.copies import copy_checks
from mirror.doctor.machine import maintenance_check, network_checks, store_checks
from mirror.doctor.notices import notice_checks
from mirror.model import Clock


async def run(
    config: Config,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    test_notices: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Report:
    """Check everything that `config` needs. Findings are reported, never raised. `test_notices` sends a test
    notice to each address. Requests are taken of `budget`."""
    checks = [*store_checks(config.store), maintenance_check(environment)]
    checks += await network_checks(config, environment)
    checks += await notice_checks(config, environment, test=test_notices)
    checks += await copy_checks(config, clock, environment)
    for workspace in config.workspaces:
        checks += await workspace_checks(config, workspace, clock, environment, budget, transport)
    return Report(tuple(checks))
