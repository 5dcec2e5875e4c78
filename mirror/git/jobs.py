"""The kinds of work that worker processes do: a plain value in, a plain value out."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from mirror.git.check import CheckJob, CheckResult, check
from mirror.git.gc import CollectJob, CollectResult, UsageJob, UsageResult, collect, usage
from mirror.git.heads import HeadsJob, HeadsResult, pin_heads
from mirror.git.lfs import (
    LfsFindJob,
    LfsFindResult,
    LfsJob,
    LfsPushJob,
    LfsPushResult,
    LfsResult,
    bring,
    find,
    hold,
)
from mirror.git.mirrors import FetchJob, FetchResult, fetch
from mirror.git.push import PushJob, PushResult, push
from mirror.git.upkeep import UpkeepJob, UpkeepResult, keep_up

Job = (
    FetchJob | HeadsJob | CheckJob | PushJob | CollectJob | UsageJob | UpkeepJob
    | LfsJob | LfsPushJob | LfsFindJob
)  # fmt: skip
Result = (
    FetchResult | HeadsResult | CheckResult | PushResult | CollectResult | UsageResult | UpkeepResult
    | LfsResult | LfsPushResult | LfsFindResult
)  # fmt: skip


@overload
def run_job(
    job: FetchJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> FetchResult: ...
@overload
def run_job(
    job: HeadsJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> HeadsResult: ...
@overload
def run_job(
    job: CheckJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> CheckResult: ...
@overload
def run_job(
    job: CollectJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> CollectResult: ...
@overload
def run_job(
    job: UsageJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> UsageResult: ...
@overload
def run_job(
    job: LfsJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> LfsResult: ...
@overload
def run_job(
    job: LfsPushJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> LfsPushResult: ...
@overload
def run_job(
    job: LfsFindJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> LfsFindResult: ...
@overload
def run_job(
    job: UpkeepJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> UpkeepResult: ...
@overload
def run_job(
    job: PushJob, *, tell: Callable[[str], None], clock: Callable[[], float] | None = ...
) -> PushResult: ...
def run_job(job: Job, *, tell: Callable[[str], None], clock: Callable[[], float] | None = None) -> Result:
    """Do a job here and now; raises what the work raises. `clock` tells monotonic seconds."""
    if isinstance(job, FetchJob):
        return fetch(job, tell=tell, clock=clock)
    if isinstance(job, HeadsJob):
        return pin_heads(job, tell=tell, clock=clock)
    if isinstance(job, CheckJob):
        return check(job, tell=tell)
    if isinstance(job, CollectJob):
        return collect(job)
    if isinstance(job, UsageJob):
        return usage(job)
    if isinstance(job, LfsJob):
        return hold(job, tell=tell)
    if isinstance(job, LfsPushJob):
        return bring(job, tell=tell)
    if isinstance(job, LfsFindJob):
        return find(job, tell=tell)
    if isinstance(job, UpkeepJob):
        return keep_up(job, tell=tell)
    return push(job, tell=tell)
