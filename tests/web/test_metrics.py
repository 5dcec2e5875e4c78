"""`/metrics`: read beside the requests, opened as the page is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from mirror.errors import NoStore
from mirror.metrics.definitions import BACKUP_GOOD, LIVE_METRICS, STORE_METRICS, Sample
from mirror.metrics.exposition import CONTENT_TYPE
from mirror.model.live import BudgetLeft, HooksState, NextJob, RunningJob
from mirror.web.metrics import READ_EVERY, StoreFigures
from tests.clock import FakeClock
from tests.web.helpers import TOKEN, access, client, make_store
from tests.web.live import START, Told

LIVE = Told(
    jobs=[RunningJob("backup", None, START)],
    next_jobs=[
        NextJob("backup", None, START, "every 4h"),
        NextJob("verify", "acme", None, "@weekly", is_overdue=True),
    ],
    spent=[BudgetLeft("workspaces[0].credential", "api", 120, 1000)],
    hook_state=HooksState(7, 3, 5, 2, True, START),
    reasons=["verify of acme is overdue"],
)


def read(text: str) -> dict[tuple[str, ...], float]:
    """Every sample, by name and values of its labels in their order by name."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_it_tells_what_store_and_service_tell(tmp_path: Path) -> None:
    async with client(make_store(tmp_path / "store"), FakeClock(), live=LIVE) as browser:
        answer = await browser.get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    found = read(answer.text)
    assert found["mirror_ready",] == 0
    assert found["mirror_job_running", "backup", ""] == 1
    assert found["mirror_job_next_timestamp_seconds", "backup", ""] == START.timestamp()
    assert ("mirror_job_next_timestamp_seconds", "verify", "acme") not in found
    assert found["mirror_job_overdue", "verify", "acme"] == 1
    assert found["mirror_requests_used", "workspaces[0].credential", "api"] == 120
    assert found["mirror_requests_limit", "workspaces[0].credential", "api"] == 1000
    assert [found[f"mirror_hooks_{name}_total",] for name in ("received", "refused", "announced")] == [
        7,
        3,
        5,
    ]
    assert found["mirror_unannounced_changes_total",] == 2
    assert found["mirror_hooks_trusted",] == 1
    assert found["mirror_hook_last_timestamp_seconds",] == START.timestamp()
    assert {one.name for one in LIVE_METRICS} <= {name for name, *_ in found}
    assert found["mirror_backup_success_timestamp_seconds",] == 0
    assert "# TYPE mirror_unannounced_changes_total counter" in answer.text


async def test_without_a_service_or_hooks_it_tells_of_none(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    of_store = {one.name for one in STORE_METRICS}
    async with client(store, FakeClock()) as browser:
        assert {name for name, *_ in read((await browser.get("/metrics")).text)} <= of_store
    async with client(store, FakeClock(), live=Told()) as browser:
        text = (await browser.get("/metrics")).text
        assert "mirror_ready 1.0" in text
        assert "hook" not in text


async def test_it_is_opened_as_the_page_is(tmp_path: Path) -> None:
    clock = FakeClock()
    rules = access(clock, token=TOKEN)
    async with client(make_store(tmp_path / "store"), clock, rules=rules) as browser:
        browser.headers["Accept"] = "*/*"
        assert (await browser.get("/metrics")).status_code == 401
        signed = {"Authorization": f"Bearer {TOKEN}"}
        assert (await browser.get("/metrics", headers=signed)).status_code == 200


async def test_without_a_store_it_still_tells_of_the_service(tmp_path: Path) -> None:
    async with client(tmp_path / "none", FakeClock(), live=Told()) as browser:
        with structlog.testing.capture_logs() as logged:
            answer = await browser.get("/metrics")
    assert answer.status_code == 200
    assert "mirror_ready 1.0" in answer.text
    assert [line["event"] for line in logged] == ["metrics.not_read"]


class Slow:
    """A store that is read only while `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.count = 0

    def __call__(self) -> Iterator[Sample]:
        assert self.open.wait(60)
        self.count += 1
        yield Sample(BACKUP_GOOD, self.count)


def value(text: bytes) -> float:
    return read(text.decode())["mirror_backup_success_timestamp_seconds",]


def settled(figures: StoreFigures) -> None:
    """Wait for the reading that is under way."""
    done = figures._done
    assert done is None or done.wait(60)


def test_nobody_waits_for_a_store_that_takes_long() -> None:
    slow, clock = Slow(), FakeClock()
    figures = StoreFigures(slow, clock)
    assert figures.text(patience=0) == b""
    assert figures.text(patience=0) == b""
    slow.open.set()
    assert value(figures.text(patience=60)) == 1
    settled(figures)
    clock.elapsed += READ_EVERY - 1
    assert value(figures.text(patience=60)) == 1
    slow.open.clear()
    clock.elapsed += 2
    assert value(figures.text(patience=60)) == 1, "the old ones, at once"
    slow.open.set()
    settled(figures)
    assert value(figures.text(patience=60)) == 2


def test_where_reading_fails_the_last_ones_stay() -> None:
    clock, faults = FakeClock(), [False]

    def collect() -> Iterator[Sample]:
        if faults[0]:
            raise NoStore("the disk is not mounted")
        yield Sample(BACKUP_GOOD, 5)

    figures = StoreFigures(collect, clock)
    assert value(figures.text(patience=60)) == 5
    settled(figures)
    faults[0] = True
    clock.elapsed += READ_EVERY
    with structlog.testing.capture_logs() as logged:
        figures.text()
        settled(figures)
    assert value(figures.text(patience=60)) == 5
    assert [line["reason"] for line in logged] == ["the disk is not mounted"]


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_they_only_read(tmp_path: Path, path: str) -> None:
    async with client(make_store(tmp_path / "store"), FakeClock()) as browser:
        answer: httpx.Response = await browser.post(path)
    assert answer.status_code == 405
