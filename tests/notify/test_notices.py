"""Notices and pings of whole runs, to real servers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from mirror.config import Config, load_text
from mirror.connect.notices import Notices, check_notices, expiring_report
from mirror.doctor.notices import notice_checks
from mirror.errors import NoStore, UsageError
from mirror.model import Selector
from mirror.notify.judgement import judge
from mirror.notify.memory import Topic
from tests.clock import FakeClock
from tests.notify.servers import CHECK, Healthchecks, Receiver
from tests.notify.test_judgement import ALL, run_of

FAILED = run_of(entries={"acme/website": (3, "issues missing")})
WELL = run_of()


class Told:
    """A store and a configuration with a webhook and a ping, and the process that tells."""

    def __init__(self, folder: Path, hook: Receiver, checks: Healthchecks) -> None:
        self.folder, self.hook, self.checks = folder, hook, checks
        (folder / "store" / "cache").mkdir(parents=True, exist_ok=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOOK": f"json://127.0.0.1:{hook.port}/h00k-s3cret",
            "PING": checks.url,
        }
        self.clock = FakeClock()
        self.config = self.read("notify: {urls: [{env: HOOK}]}\nping: {url: {env: PING}}\n")
        self.start_again()

    def read(self, text: str) -> Config:
        base = "store: store\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
        return load_text(base + text, "config.yaml", folder=self.folder)

    def start_again(self) -> None:
        """As after a restart: only what is on the disk is known."""
        self.notices = Notices(self.config, clock=self.clock, environment=self.environment, host="backup1")

    async def sent(self) -> list[str]:
        """The titles that have been sent so far."""
        await self.notices.finish()
        return [json.loads(body)["title"] for _, body in self.hook.got]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with Receiver() as hook, Healthchecks() as checks:
        yield Told(tmp_path, hook, checks)


async def test_a_failure_and_its_end_are_told_across_restarts(told: Told) -> None:
    told.notices.began("backup")
    told.notices.ended("backup", FAILED)
    title = "Mirror on backup1: backup failed"
    assert await told.sent() == [title]
    told.start_again()
    told.notices.ended("backup", FAILED)
    assert await told.sent() == [title]
    told.start_again()
    told.notices.began("backup")
    told.notices.ended("backup", WELL)
    assert await told.sent() == [title, "Mirror on backup1: backup is well again"]
    assert told.checks.signals == ["start", "fail", "fail", "start", ""]
    assert "acme/website: issues missing" in told.checks.got[1][1]


async def test_a_lasting_failure_is_repeated_between_runs(told: Told) -> None:
    """As of a verification that is due once a week."""
    told.notices.ended("verify", FAILED)
    await told.sent()
    told.start_again()
    told.clock.elapsed += timedelta(hours=24).total_seconds()
    told.notices.tell(again=["backup", "verify", "prune"])
    told.notices.tell(again=["backup", "verify", "prune"])
    assert (await told.sent())[1:] == ["Mirror on backup1: still not well: backup failed"]
    assert told.checks.signals == []  # pings are of backups


async def test_a_run_of_some_repositories_is_no_ping(told: Told) -> None:
    some = [Selector.parse("acme/website")]
    told.notices.began("backup", some)
    told.notices.ended("backup", WELL, some)
    told.notices.ended("backup", NoStore("there is no store"), some)
    assert await told.sent() == ["Mirror on backup1: backup acme/website failed"]
    assert told.checks.signals == []


async def test_bad_servers_delay_nothing_and_the_log_has_no_secret(told: Told) -> None:
    told.hook.is_slow = told.checks.is_slow = True
    with structlog.testing.capture_logs() as logged:
        began = time.monotonic()
        told.notices.began("backup")
        told.notices.ended("backup", FAILED)
        assert time.monotonic() - began < 0.2
        await asyncio.sleep(0)
        await told.notices.finish(0.5)
        assert time.monotonic() - began < 3
        told.hook.is_slow = told.checks.is_slow = False
        told.hook.ended.set()
        told.hook.status = 500
        told.environment["PING"] = "http://example.org/p1ng-s3cret"
        told.start_again()
        told.notices.ended("backup", FAILED)
        await told.sent()
    assert {line["event"] for line in logged} == {"notify.failed", "notify.not_sent"}
    assert "s3cret" not in str(logged) and CHECK.rpartition("/")[2] not in str(logged)
    told.hook.status = 200
    told.hook.got.clear()
    told.start_again()
    told.notices.ended("backup", FAILED)  # nobody knows of it yet
    assert await told.sent() == ["Mirror on backup1: backup failed"]


async def test_a_reload_changes_who_is_told(told: Told) -> None:
    told.notices.use(told.read("notify: {urls: [{env: HOOK}], on: [damage]}\n"))
    told.notices.began("backup")
    told.notices.ended("backup", FAILED)
    assert await told.sent() == []
    assert told.checks.signals == []


def test_expiring_credentials_are_told_four_times_and_once_expired(told: Told) -> None:
    text = (
        "store: store\ncredential: {kind: api_token, email: a@x.org, token: {env: T}, expires: 2026-12-31}\n"
    )
    config = load_text(text, "config.yaml", folder=told.folder)
    topic, days = Topic(), []
    for number in range(45):
        day = date(2026, 11, 25) + timedelta(days=number)
        verdict = judge(expiring_report(config, day), topic, now=datetime(2026, 11, 25, tzinfo=UTC), on=ALL)
        topic = verdict.if_sent
        if verdict.kind != "nothing":
            days.append((date(2026, 12, 31) - day).days)
    assert days == [30, 14, 7, 1, -1]
    renewed = expiring_report(told.config, date(2026, 12, 1))
    assert judge(renewed, topic, now=datetime(2027, 1, 9, tzinfo=UTC), on=ALL).kind == "nothing"


async def test_what_cannot_work_is_said_beforehand(told: Told) -> None:
    await check_notices(told.config, told.environment)
    for name, value, words in (
        ("HOOK", "jsno://127.0.0.1/s3cret", "notify.urls[0], from env HOOK"),
        ("PING", "http://example.org/s3cret", "ping.url"),
        ("PING", "", "env PING is missing"),
    ):
        with pytest.raises(UsageError) as found:
            await check_notices(told.config, {**told.environment, name: value})
        assert words in found.value.message and "s3cret" not in found.value.message
    assert (told.hook.got, told.checks.got) == ([], [])


async def test_doctor_checks_and_sends_a_test(told: Told) -> None:
    quiet = await notice_checks(told.config, told.environment, test=False)
    assert [one.state for one in quiet] == ["ok"]
    assert told.hook.got == []
    loud = await notice_checks(told.config, told.environment, test=True)
    assert [(one.name, one.state) for one in loud] == [("notices", "ok"), ("notify.urls[0]", "ok")]
    told.hook.status = 500
    assert (await notice_checks(told.config, told.environment, test=True))[1].state == "fail"
    assert [json.loads(body)["title"] for _, body in told.hook.got] == 2 * [
        f"Mirror on {socket.gethostname()}: this is a test"
    ]
    assert told.checks.got == []
    told.environment.pop("HOOK")
    [broken] = await notice_checks(told.config, told.environment, test=False)
    assert (broken.state, broken.code) == ("fail", 2)
    [nobody] = await notice_checks(told.read(""), told.environment, test=False)
    assert nobody.state == "warn"
