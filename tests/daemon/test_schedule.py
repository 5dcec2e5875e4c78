"""When each job runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.config import Cron, Every
from mirror.daemon.schedule import Job
from mirror.model import EVERYTHING
from tests.e2e.helpers import mirror

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)  # a Monday


@pytest.mark.parametrize(
    ("line", "zone", "following"),
    [
        ("0 */4 * * *", "UTC", datetime(2026, 11, 23, 4, 0, tzinfo=UTC)),
        ("30 3 * * sun", "UTC", datetime(2026, 11, 29, 3, 30, tzinfo=UTC)),
        ("30 3 * * 0", "UTC", datetime(2026, 11, 29, 3, 30, tzinfo=UTC)),
        ("30 3 * * 7", "UTC", datetime(2026, 11, 29, 3, 30, tzinfo=UTC)),
        ("30 3 * * 1", "UTC", datetime(2026, 11, 23, 3, 30, tzinfo=UTC)),
        ("0 6 * * 0-2", "UTC", datetime(2026, 11, 23, 6, 0, tzinfo=UTC)),
        ("0 6 * * 5,6", "UTC", datetime(2026, 11, 27, 6, 0, tzinfo=UTC)),
        ("0 5 * * *", "Europe/Berlin", datetime(2026, 11, 23, 4, 0, tzinfo=UTC)),
    ],
)
def test_cron_lines_mean_what_cron_means(line: str, zone: str, following: datetime) -> None:
    trigger = Job("backup", EVERYTHING, Cron(line), zone).scheduler_trigger(NOW)
    assert trigger.get_next_fire_time(None, NOW + timedelta(seconds=1)) == following


def test_the_scheduler_is_given_each_time_once() -> None:
    trigger = Job("backup", EVERYTHING, Cron("30 2 * * *"), "Europe/Berlin").scheduler_trigger(NOW)
    night = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in summer time; it comes again in winter time
    assert trigger.get_next_fire_time(None, night) == night
    assert trigger.get_next_fire_time(night, night) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("section", "key", "words"),
    [
        ("{backup: '99 * * * *'}", "schedule.backup", "0 to 59"),
        ("{backup: every 4h, verify: '0 0 * * nosuchday'}", "schedule.verify", "'nosuchday'"),
        ("{backup: '0 0 31 2 *'}", "schedule.backup", "never fires"),
        ("{backup: every 1s}", "schedule.backup", "every 1m"),
        ("{prune: every 1d}", "schedule.prune", "without retention"),
    ],
)
def test_config_check_refuses_what_the_daemon_would_refuse(
    tmp_path: Path, section: str, key: str, words: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"store: s\ncredential: {{kind: workspace_access_token, token: {{env: T}}}}\nschedule: {section}\n"
    )
    for command in (("config", "check"), ("daemon",)):
        done = mirror(*command, "-c", str(path), env={"T": "abcdefgh"})
        assert done.returncode == 2
        assert f"{path}:3: {key}: " in done.stderr and words in done.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("trigger", "last", "first"),
    [
        (Every(timedelta(hours=4)), None, NOW),
        (Every(timedelta(hours=4)), NOW - timedelta(hours=5), NOW),
        (Every(timedelta(hours=4)), NOW - timedelta(hours=1), NOW + timedelta(hours=3)),
        (Every(timedelta(hours=4)), NOW + timedelta(days=900), NOW),  # written under a clock that was ahead
        (Cron("0 */4 * * *"), None, NOW),
        (Cron("0 */4 * * *"), NOW - timedelta(hours=3), NOW),
        (Cron("0 */4 * * *"), NOW - timedelta(hours=1), NOW + timedelta(hours=2)),
    ],
)
def test_what_is_overdue_runs_at_once(
    trigger: Every | Cron, last: datetime | None, first: datetime | None
) -> None:
    assert Job("backup", EVERYTHING, trigger).first_run(NOW, last) == first
