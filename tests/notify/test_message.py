"""The text of a notice."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from mirror.logs import register_secret
from mirror.notify.conditions import Condition, Event, Report
from mirror.notify.judgement import Verdict, judge
from mirror.notify.memory import Topic
from mirror.notify.message import Message, compose
from tests.notify.test_judgement import ALL, NOW, report_of

STORE = Path("/var/lib/mirror")


def verdict_of(report: Report, before: Topic | None = None, hours: float = 0) -> Verdict:
    return judge(report, before or Topic(), now=NOW + timedelta(hours=hours), on=ALL)


def message_of(*verdicts: Verdict) -> Message:
    made = compose(verdicts, host="backup1", store=STORE)
    assert made is not None
    return made


MANY = report_of(
    a=(75, "the network is down"), b=(3, "issues missing"), c=(4, "the ledger is damaged"), d=(1, "no disk"),
    e=(3, "issues missing"),
)  # fmt: skip


def test_it_has_the_three_most_important_lines_and_where_to_look() -> None:
    message = message_of(verdict_of(MANY))
    assert message.title == "Mirror on backup1: backup found damage"
    assert message.kind == "failure"
    assert message.body.splitlines() == [
        "- c: the ledger is damaged",
        "- d: no disk",
        "- b: issues missing",
        "and 2 more",
        "",
        "backup 20261123t020000z-3f9a2c ended with 4",
        "Store /var/lib/mirror on backup1",
        "Look with: mirror status --store /var/lib/mirror",
    ]


def test_what_lasts_says_since_when() -> None:
    told = verdict_of(report_of(a=(3, "issues missing"))).if_sent
    still = message_of(verdict_of(report_of(a=(3, "issues missing")), told, hours=25))
    assert still.title == "Mirror on backup1: still not well: backup failed"
    assert "- a: issues missing (since 2026-11-23T02:00:00Z)" in still.body
    over = message_of(verdict_of(report_of(), told, hours=25))
    assert (over.title, over.kind) == ("Mirror on backup1: backup is well again", "success")


def test_one_message_is_about_everything() -> None:
    expiring = Condition("k:7", "", Event.EXPIRING, 12, "the api_token expires in 7 days", repeats=False)
    credentials = verdict_of(Report("credentials", (expiring,)))
    both = message_of(verdict_of(report_of(a=(3, "issues missing"))), credentials)
    assert both.title == "Mirror on backup1: backup failed"
    assert "- the api_token expires in 7 days\n- a: issues missing\n" in both.body
    alone = message_of(verdict_of(report_of()), credentials)
    assert (alone.title, alone.kind) == ("Mirror on backup1: a credential expires", "warning")


def test_nothing_to_tell_is_no_message() -> None:
    assert compose([verdict_of(report_of())], host="h", store=STORE) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("acme/@everyone", "acme/@\u2060everyone"),
        ("acme/a\nb\x1b[31m", "acme/a b[31m"),
        ("acme/" + "x" * 1000, "acme/" + "x" * 295 + "…"),
        ("acme/hidden-secret-word", "acme/[redacted]"),
    ],
)
def test_hostile_texts_are_harmless(name: str, shown: str) -> None:
    register_secret("hidden-secret-word")
    [line, *_] = message_of(verdict_of(report_of(**{name: (3, "x")}))).body.splitlines()
    assert line.startswith(f"- {shown}")
