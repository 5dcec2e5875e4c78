"""The metrics of a running service."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.metrics import definitions
from mirror.metrics.definitions import Sample
from mirror.model.live import Live


def samples(live: Live) -> Iterator[Sample]:
    """Every sample of a service. Never blocks, and reads no store."""
    yield Sample(definitions.READY, not live.not_ready())
    for running in live.running():
        yield Sample(definitions.JOB_RUNNING, 1, (running.kind, running.workspace or ""))
    for job in live.following():
        labels = (job.kind, job.workspace or "")
        yield Sample(definitions.JOB_OVERDUE, job.is_overdue, labels)
        if job.time is not None:
            yield Sample(definitions.JOB_NEXT, job.time.timestamp(), labels)
    for one in live.budget():
        yield Sample(definitions.REQUESTS_USED, one.used, (one.credential, one.group))
        yield Sample(definitions.REQUESTS_LIMIT, one.limit, (one.credential, one.group))
    yield from _of_hooks(live)


def _of_hooks(live: Live) -> Iterator[Sample]:
    hooks = live.hooks()
    if hooks is None:
        return
    yield Sample(definitions.HOOKS_RECEIVED, hooks.received)
    yield Sample(definitions.HOOKS_REFUSED, hooks.refused)
    yield Sample(definitions.HOOKS_ANNOUNCED, hooks.announced)
    yield Sample(definitions.HOOK_LAST, hooks.last.timestamp() if hooks.last is not None else 0)
    yield Sample(definitions.HOOKS_TRUSTED, hooks.are_trusted)
    yield Sample(definitions.UNANNOUNCED, hooks.unannounced_changes)
