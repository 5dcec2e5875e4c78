"""How far the jobs of the service are, as its page shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mirror.daemon.live import ServiceLive
from mirror.daemon.state import State
from mirror.model import DONE
from mirror.model.progress import Gatherer


def test_a_running_job_has_its_picture() -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    state, nothing = State(now, now), Any
    gatherer = state.progress["backup"] = Gatherer(lambda: 0.0)
    state.running["backup"] = now
    live = ServiceLive(nothing, state, nothing, nothing, nothing)  # type: ignore[arg-type]
    gatherer.expect({"acme/a": 1, "acme/b": 1})
    gatherer.report("acme/a", DONE)
    gatherer.report("acme/b", "git", 3, 9)
    [job] = live.running()
    assert (job.kind, job.workspace, job.since) == ("backup", None, now)
    assert (job.picture.done, job.picture.total) == (1, 2)
    assert [one.subject for one in job.picture.activities] == ["acme/b"]
