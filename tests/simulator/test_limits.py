"""Rate limits: by identity and group, over a rolling hour, announced in every way that has been seen."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from mirror.simulator import Switches
from tests.simulator.helpers import Asking, basic

REPOSITORY = "/repositories/acme/website"


async def use_up(ask: Asking, times: int) -> None:
    """Make requests until none are left."""
    for _ in range(times):
        assert (await ask(REPOSITORY)).status_code == 200


async def test_the_hour_is_a_rolling_one(tmp_path: Path) -> None:
    ask = Asking(tmp_path, limit=3)
    await use_up(ask, 2)
    ask.time[0] += timedelta(minutes=30)
    await use_up(ask, 1)
    refused = await ask(REPOSITORY)
    assert refused.status_code == 429
    assert refused.json()["error"]["message"] == "Rate limit for this resource has been exceeded"
    # In seconds from now, not a time of day.
    assert 1790 <= int(refused.headers["X-RateLimit-Reset"]) <= 1801
    ask.time[0] += timedelta(minutes=31)
    await use_up(ask, 2)
    assert (await ask(REPOSITORY)).status_code == 429


async def test_each_token_has_its_own_hour_and_a_user_only_one(tmp_path: Path) -> None:
    ask = Asking(tmp_path, limit=2)
    await use_up(ask, 2)
    assert (await ask(REPOSITORY)).status_code == 429
    other = ask.world.add_workspace_access_token("acme", ["repository"])
    assert (await ask(REPOSITORY, f"Bearer {other}")).status_code == 200
    ann = ask.world.users["ann@acme.example"]
    tokens = [ask.world.add_api_token(ann, ["read:repository:bitbucket"]) for _ in range(2)]
    statuses = [(await ask(REPOSITORY, basic(ann.email, tokens[n % 2]))).status_code for n in range(3)]
    assert statuses == [200, 200, 429]


async def test_git_is_counted_apart_and_anonymous_callers_have_little(tmp_path: Path) -> None:
    ask = Asking(tmp_path, limit=1)
    await use_up(ask, 1)
    git = f"{ask.app.git}/acme/website.git/info/refs?service=git-upload-pack"
    login = basic("x-token-auth", ask.token)
    assert (await ask(git, login, **{"User-Agent": "git/2"})).status_code == 200
    ask.world.limits["git"] = 1
    assert (await ask(git, login, **{"User-Agent": "git/2"})).status_code == 429
    ask.world.workspaces["acme"].repositories["website"].private = False
    answers = [await ask(REPOSITORY, None) for _ in range(61)]
    assert [one.status_code for one in answers] == [200] * 60 + [429]
    assert answers[0].headers["X-Ratelimit-Limit"] == "60, 60;w=3600"
    assert answers[0].headers["X-Ratelimit-Remaining"] == "59"


@pytest.mark.parametrize(
    ("switches", "told"),
    [
        (Switches(), {"X-RateLimit-Limit": "1", "X-RateLimit-Resource": "api"}),
        (Switches(rate_limit_headers_as_policy=True), {"X-Ratelimit-Limit": "1, 1;w=3600"}),
        (Switches(rate_limit_headers=False), {}),
    ],
)
async def test_what_headers_tell(tmp_path: Path, switches: Switches, told: dict[str, str]) -> None:
    ask = Asking(tmp_path, limit=1, switches=switches)
    headers = (await ask(REPOSITORY)).headers
    assert {name: headers.get(name) for name in told} == told
    assert any(name.startswith("x-ratelimit") for name in headers) == bool(told)


async def test_users_are_told_nothing_unless_the_switch_says(tmp_path: Path) -> None:
    for told in (False, True):
        ask = Asking(tmp_path / str(told), switches=Switches(rate_limit_headers_for_all=told))
        ann = ask.world.users["ann@acme.example"]
        api = ask.world.add_api_token(ann, ["read:repository:bitbucket"])
        headers = (await ask(REPOSITORY, basic(ann.email, api))).headers
        assert ("X-RateLimit-Limit" in headers) == told


async def test_retry_after_is_absent_or_seconds_or_a_date(tmp_path: Path) -> None:
    seen = []
    for number, switches in enumerate(
        (Switches(), Switches(retry_after=True), Switches(retry_after=True, retry_after_is_a_date=True))
    ):
        ask = Asking(tmp_path / str(number), limit=1, switches=switches)
        await use_up(ask, 1)
        ask.time[0] += timedelta(minutes=40)
        seen.append((await ask(REPOSITORY)).headers.get("Retry-After"))
    assert seen[0] is None
    assert 1195 <= int(seen[1] or 0) <= 1205
    assert abs((parsedate_to_datetime(seen[2] or "") - ask.time[0]).total_seconds() - 1200) < 5


async def test_a_refusal_may_be_plain_text(tmp_path: Path) -> None:
    ask = Asking(tmp_path, limit=0, switches=Switches(rate_limit_refusal_is_text=True))
    answer = await ask(REPOSITORY)
    assert answer.status_code == 429
    assert answer.text == "Rate limit for this resource has been exceeded"


async def test_what_has_not_changed_still_counts(tmp_path: Path) -> None:
    ask = Asking(tmp_path, limit=2)
    first = await ask(REPOSITORY)
    again = await ask(REPOSITORY, **{"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await ask(REPOSITORY)).status_code == 429


async def test_dates_are_those_of_the_worlds_clock(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    assert parsedate_to_datetime((await ask(REPOSITORY)).headers["Date"]) == ask.time[0]
