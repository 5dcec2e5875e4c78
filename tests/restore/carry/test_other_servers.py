"""A server that is unlike the simulator: nothing comes twice, and nothing is called restored that is not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from mirror.errors import UsageError
from mirror.logs import register_secret
from mirror.restore.carry.report import Outcome, Report
from mirror.restore.plan.steps import Why
from mirror.simulator.faults import Fault
from mirror.store.reading.reader import Store
from tests.restore.carry.target import Upstream, upstream

WEBSITE = "acme/website"
REPOSITORY = "/2.0/repositories/spare/website"

Onward = Callable[[httpx.Request], Awaitable[httpx.Response]]
# What a server does with a request; `onward` has the simulator carry it out. None: what the simulator does.
Manners = Callable[[httpx.Request, Onward], Awaitable[httpx.Response | None]]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Upstream]:
    with upstream(tmp_path) as found:
        yield found


@pytest.fixture
def with_manners(monkeypatch: pytest.MonkeyPatch) -> Callable[[Manners], None]:
    """Puts a server of other manners before the simulator."""

    def put(manners: Manners) -> None:
        class Between(httpx.AsyncHTTPTransport):
            def __init__(self, *_args: object) -> None:
                super().__init__()

            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                onward = super().handle_async_request
                return await manners(request, onward) or await onward(request)

        monkeypatch.setattr("mirror.bitbucket.client.sender.NetworkTransport", Between)

    return put


async def restored(target: Upstream, store: Store, **more: object) -> Report:
    found = await target.restore(store.path, WEBSITE, **more)  # type: ignore[arg-type]
    assert isinstance(found, Report)
    return found


def texts(target: Upstream) -> list[str]:
    """What tells comments apart."""
    website = target.workspace.repositories["website"]
    return [one.text for pull in website.pull_requests.values() for one in pull.comments]


def answer(status: int, data: object, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=data, headers=headers)


@pytest.mark.parametrize("more", [{}, {"retry-after": "1"}])
async def test_a_gateway_gives_up_and_lists_lag_behind(
    target: Upstream, stored: Store, with_manners: Callable[[Manners], None], more: dict[str, str]
) -> None:
    """What was carried out all the same is found when the lists have it, and not made twice."""
    lagging: dict[str, int] = {}

    async def manners(request: httpx.Request, onward: Onward) -> httpx.Response | None:
        path = request.url.path
        if request.method == "POST" and path.endswith(("/comments", "/hooks", "/pullrequests")):
            await onward(request)
            lagging[path] = 2
            return answer(504, {"error": {"message": "Gateway timeout"}}, **more)
        if request.method == "GET" and lagging.get(path, 0) > 0:
            lagging[path] -= 1
            return answer(200, {"values": []})
        return None

    with_manners(manners)
    report = await restored(target, stored)
    assert report.exit_code == 0, report.lines()
    assert texts(target) and len(texts(target)) == len(set(texts(target)))
    assert len(target.workspace.repositories["website"].settings["hooks"]) == 1


async def test_the_old_address_of_another_repository_is_not_the_repository(
    target: Upstream, stored: Store
) -> None:
    """It leads to the renamed one, which nothing may be restored into."""
    target.workspace.add_repository("website")
    target.workspace.rename_repository("website", "shop")
    report = await restored(target, stored)
    assert report.exit_code == 0, report.lines()
    shop, website = (target.workspace.repositories[one] for one in ("shop", "website"))
    assert not shop.refs() and not shop.pull_requests and not shop.settings.get("hooks")
    assert website.refs() and website.pull_requests


async def test_a_workspace_of_another_name_is_not_the_workspace(
    target: Upstream, stored: Store, with_manners: Callable[[Manners], None]
) -> None:
    async def manners(request: httpx.Request, onward: Onward) -> httpx.Response | None:
        if request.url.path != "/2.0/workspaces/spare":
            return None
        found = await onward(request)
        return answer(200, {**json.loads(await found.aread()), "slug": "spare-parts"})

    with_manners(manners)
    with pytest.raises(UsageError, match="called spare-parts now") as caught:
        await restored(target, stored)
    assert "--to bitbucket:spare-parts" in str(caught.value.hint)
    assert not target.workspace.repositories


async def test_what_was_put_into_a_repository_that_is_gone_is_put_into_the_next(
    target: Upstream, stored: Store
) -> None:
    """The first one was there before the restore, so that the journal does not say that it was made."""
    target.workspace.add_repository("website", project="WEB")
    target.simulator.order(Fault(f"POST {REPOSITORY}/hooks", status=403, times=9))
    report = await restored(target, stored)
    assert report.exit_code == 3 and target.workspace.repositories["website"].pull_requests
    target.simulator.faults.clear()
    target.workspace.delete_repository("website")
    report = await restored(target, stored)
    assert report.exit_code == 0, report.lines()
    website = target.workspace.repositories["website"]
    assert website.pull_requests and texts(target) and website.settings["hooks"]


async def test_a_server_says_nothing_of_what_it_made(
    target: Upstream, stored: Store, with_manners: Callable[[Manners], None]
) -> None:
    """And it takes a while until what it made is found."""
    made: dict[str, int] = {}

    async def manners(request: httpx.Request, onward: Onward) -> httpx.Response | None:
        path = request.url.path
        if request.method == "POST" and path == REPOSITORY:
            await onward(request)
            made[path] = 2
            return httpx.Response(201)
        if made.get(REPOSITORY, 0) > 0 and path.startswith(REPOSITORY):
            made[REPOSITORY] -= 1
            return answer(404, {"type": "error", "error": {"message": "Repository not found"}})
        if request.method == "POST":
            done = await onward(request)
            return answer(200, []) if done.is_success else done
        return None

    with_manners(manners)
    report = await restored(target, stored)
    assert report.exit_code == 0, report.lines()
    assert texts(target) and len(texts(target)) == len(set(texts(target)))


async def test_a_server_accepts_and_makes_nothing(
    target: Upstream, stored: Store, with_manners: Callable[[Manners], None]
) -> None:
    """Nothing is called made; and a repository by another name is not the one that was wanted."""

    async def manners(request: httpx.Request, onward: Onward) -> httpx.Response | None:
        if request.method == "POST" and request.url.path == REPOSITORY:
            made = {"uuid": "{1}", "slug": "website-1", "full_name": "spare/website-1"}
            return answer(202, made)
        return None

    with_manners(manners)
    for _ in range(2):  # the journal does not call it made either
        report = await restored(target, stored)
        [one] = [one for one in report.entries if one.key == "website/repository"]
        assert one.outcome is Outcome.UNKNOWN and "spare/website-1" in one.message
        rest = {entry.outcome for entry in report.entries if entry.key.startswith("website/")} - {one.outcome}
        assert report.exit_code == 3 and rest == {Outcome.NOT_TRIED}, report.lines()


async def test_what_was_just_made_is_not_known_everywhere_at_once(
    target: Upstream, stored: Store, with_manners: Callable[[Manners], None]
) -> None:
    left = {"PUT": 2, "POST": 2}

    async def manners(request: httpx.Request, _onward: Onward) -> httpx.Response | None:
        is_inside = request.url.path.startswith(f"{REPOSITORY}/")
        if not is_inside or left.get(request.method, 0) == 0:
            return None
        left[request.method] -= 1
        return answer(404, {"type": "error", "error": {"message": "Repository not found"}})

    with_manners(manners)
    report = await restored(target, stored)
    assert report.exit_code == 0, report.lines()
    assert left == {"PUT": 0, "POST": 0}


async def test_a_server_repeats_a_secret_in_its_refusal(target: Upstream, stored: Store) -> None:
    register_secret("hunter2-hunter2")
    message = "The value hunter2-hunter2 is too weak"
    target.simulator.order(Fault(f"POST {REPOSITORY}/hooks", status=400, times=9, message=message))
    report = await restored(target, stored)
    assert "is too weak" in json.dumps(report.to_json())
    assert "hunter2" not in json.dumps(report.to_json()) and "hunter2" not in str(report)


async def test_a_server_says_in_its_own_words_that_it_is_there(
    target: Upstream, stored: Store, with_manners: Callable[[Manners], None]
) -> None:
    """What it makes by itself is found, whatever it answers to those who make it."""

    async def manners(request: httpx.Request, onward: Onward) -> httpx.Response | None:
        if request.method != "POST" or not request.url.path.endswith("/hooks"):
            return None
        await onward(request)
        return answer(400, {"type": "error", "error": {"message": "Ein solcher Haken ist schon da"}})

    with_manners(manners)
    report = await restored(target, stored)
    assert report.exit_code == 0, report.lines()
    assert len(target.workspace.repositories["website"].settings["hooks"]) == 1


async def test_an_empty_list_of_members_leaves_nobody_out(
    target: Upstream, stored: Store, with_manners: Callable[[Manners], None]
) -> None:
    """Whoever restores is a member, so the list does not show all."""

    async def manners(request: httpx.Request, _onward: Onward) -> httpx.Response | None:
        return answer(200, {"values": []}) if request.url.path.endswith("/spare/members") else None

    with_manners(manners)
    report = await restored(target, stored)
    assert not [one for one in report.losses if one.why is Why.PERSON], report.lines()
