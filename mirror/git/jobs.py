"""The kinds of work that worker processes do: a plain value in, a plain value out."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from mirror.git.check import CheckJob, CheckResult, check
from mirror.git.gc import CollectJob, CollectResult, UsageJob, UsageResult, collect, usage
from mirror.git.mirrors import FetchJob, FetchResult, fetch
from mirror.git.push import PushJob, PushResult, push

Job = FetchJob | CheckJob | PushJob | CollectJob | UsageJob
Result = FetchResult | CheckResult | PushResult | CollectResult | UsageResult


@overload
def run_job(job: FetchJob, *, tell: Callable[[str], None]) -> FetchResult: ...
@overload
def run_job(job: CheckJob, *, tell: Callable[[str], None]) -> CheckResult: ...
@overload
def run_job(job: CollectJob, *, tell: Callable[[str], None]) -> CollectResult: ...
@overload
def run_job(job: UsageJob, *, tell: Callable[[str], None]) -> UsageResult: ...
@overload
def run_job(job: PushJob, *, tell: Callable[[str], None]) -> PushResult: ...
def run_job(job: Job, *, tell: Callable[[str], None]) -> Result:
    """Do a job here and now; raises what the work raises."""
    if isinstance(job, FetchJob):
        return fetch(job, tell=tell)
    if isinstance(job, CheckJob):
        return check(job, tell=tell)
    if isinstance(job, CollectJob):
        return collect(job)
    if isinstance(job, UsageJob):
        return usage(job)
    return push(job, tell=tell)
