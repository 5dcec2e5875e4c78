"""Texts are sent as they were, but that nobody is told, and that they say whose they are."""

from __future__ import annotations

import pytest

from mirror.bitbucket.readable.values import Text
from mirror.restore.plan.texts import code, day, listed, minute, named, without_mentions, written
from tests.restore.plan.given import ANN, BOB

PEOPLE = {ANN["account_id"]: "Ann Archer", "0f9c4a2e-1111-4222-8333-444455556666": "Eve [x](y)"}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (f"Ask @{{{ANN['account_id']}}}.", "Ask Ann Archer."),
        (f"Ask @{ANN['account_id']}.", "Ask Ann Archer."),
        (f"@@{{{ANN['account_id']}}}", "Ann Archer"),
        ("@{0f9c4a2e-1111-4222-8333-444455556666}", r"Eve \[x\](y)"),
        ("@{{0f9c4a2e-1111-4222-8333-444455556666}}", r"Eve \[x\](y)"),
        (f"@{{{BOB['account_id']}}}", BOB["account_id"]),
        ('th:href="@{/orders}" and @Override', 'th:href="@{/orders}" and @Override'),
    ],
)
def test_nobody_is_mentioned(text: str, sent: str) -> None:
    assert without_mentions(Text(text, PEOPLE)) == sent


def test_names_mean_nothing_but_themselves() -> None:
    assert named("Ann\n# Archer") == r"Ann \# Archer"
    assert named(f"@{{{ANN['account_id']}}}").startswith(r"(at)\{")
    assert named("\x1b[31m<b>*x*") == r"\[31m\<b\>\*x\*"
    assert named("") == "somebody"
    assert len(named("x" * 1000)) == 200
    assert listed(["A", "B", "C"]) == "A, B and C" and listed(["A"]) == "A"


def test_paths_are_code() -> None:
    assert code("src/a.py") == "`src/a.py`"
    assert code("a``b") == "```a``b```"
    assert code("`a\nb") == "`` `a b ``"


def test_times_are_of_utc() -> None:
    assert day("2026-03-02T00:30:00+02:00") == "2026-03-01"
    assert minute("2026-03-02T00:30:00.123456+02:00") == "2026-03-01 22:30 UTC"
    assert day("*soon*") == r"\*soon\*" and minute("") == "at an unknown time"


def test_a_long_text_is_cut_where_it_is_refused() -> None:
    short = written("*A*", Text("x" * 90), 100)
    assert (short.text, short.cut, short.retries("f")) == ("*A*\n\n" + "x" * 90, None, ())
    long = written("*A*", Text("x" * 98), 100)
    assert long.text == "*A*\n\n" + "x" * 98
    assert long.cut is not None and len(long.cut) == 100
    assert long.cut.endswith("x\n\n*The text goes on in the backup.*")
    [retry] = long.retries("content.raw")
    assert (retry.status, retry.field, retry.value) == (400, "content.raw", long.cut)
    assert written("*A*", Text("  \n"), 100).text == "*A*"
