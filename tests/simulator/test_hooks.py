"""What the simulator sends to webhooks, and what may befall it."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirror.simulator import HookFaults, Simulator, Switches, World
from mirror.simulator.api.render import Renderer
from mirror.simulator.hooks.payloads import payload
from mirror.simulator.world.events import Event
from mirror.simulator.writes.hooks import EVENTS
from tests.simulator.helpers import EVERYTHING, basic, sample_world
from tests.simulator.receiver import Receiver, receiver

SECRET = "the hook's own secret"
ANN = "ann@acme.example"


class Hooked:
    """The sample, a simulator of it, and a receiver of all events of its workspace."""

    def __init__(self, world: World, simulator: Simulator, got: Receiver) -> None:
        self.world, self.simulator, self.got = world, simulator, got
        self.acme = world.workspaces["acme"]
        self.shop = next(iter(self.acme.repositories.values()))
        self.ann = world.users[ANN]

    def bodies(self) -> list[dict[str, Any]]:
        """Every body received, once all is sent."""
        self.simulator.hooks.settle()
        return [json.loads(one.body) for one in self.got.received]

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send a request as Ann."""
        sign = basic(ANN, self.world.add_api_token(self.ann, EVERYTHING))
        return httpx.request(
            method, self.simulator.api_url + path, json=body, headers={"Authorization": sign},
            trust_env=False, timeout=60,
        )  # fmt: skip


@contextmanager
def hooked(
    root: Path,
    *,
    faults: HookFaults | None = None,
    switches: Switches | None = None,
    statuses: tuple[int, ...] = (),
    **hook: Any,
) -> Iterator[Hooked]:
    """A hook on the workspace for every event; `hook` changes it."""
    world = sample_world(root)
    with (
        receiver(statuses) as got,
        Simulator(world, switches=switches, hook_faults=faults) as simulator,
    ):
        document = {"uuid": "{f0}", "url": f"{got.url}/hooks/abc", "active": True, "events": list(EVENTS)}
        world.workspaces["acme"].settings["hooks"] = [document | hook]
        world.secrets["{f0}"] = SECRET
        yield Hooked(world, simulator, got)


def test_a_push_is_told_as_bitbucket_tells_it(tmp_path: Path) -> None:
    with hooked(tmp_path) as place:
        value = place.shop.commit("main", {"new.txt": b"new"}, "A change\n")
        [body] = place.bodies()
        [got] = place.got.received
    assert got.path == "/hooks/abc"
    assert got.headers["x-event-key"] == "repo:push"
    assert got.headers["x-hook-uuid"] == "f0"
    assert got.headers["x-attempt-number"] == "1"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"] == "Bitbucket-Webhooks/2.0"
    assert got.headers["x-request-uuid"] == place.simulator.deliveries[0].request
    digest = hmac.new(SECRET.encode(), got.body, hashlib.sha256).hexdigest()
    assert got.headers["x-hub-signature"] == f"sha256={digest}"
    assert body["repository"]["uuid"] == place.shop.uuid
    [change] = body["push"]["changes"]
    assert change["new"]["name"] == "main"
    assert change["new"]["target"]["hash"] == value
    assert [one["hash"] for one in change["commits"]] == [value]
    assert (change["created"], change["closed"], change["forced"]) == (False, False, False)


def test_without_a_secret_nothing_is_signed(tmp_path: Path) -> None:
    with hooked(tmp_path) as place:
        place.world.secrets.clear()
        place.shop.commit("main", {"new.txt": b"new"}, "A change\n")
        place.bodies()
    assert "x-hub-signature" not in place.got.received[0].headers


def test_branches_that_come_and_go_and_are_rewritten(tmp_path: Path) -> None:
    with hooked(tmp_path) as place:
        old = place.shop.commit("side", {"a": b"a"}, "One\n")
        tag = place.shop.tag("v9", old, "Nine\n")
        place.shop.commit("side", {"b": b"b"}, "Other\n", parents=())
        place.shop.delete_ref(b"refs/heads/side")
        new, tagged, forced, gone = [one["push"]["changes"][0] for one in place.bodies()]
    assert new["created"] is True
    assert new["old"] is None
    assert tagged["new"]["type"] == "tag"
    assert tagged["new"]["target"]["hash"] == old != tag
    assert forced["forced"] is True
    assert gone["closed"] is True
    assert gone["new"] is None


def test_a_push_over_git_is_one_delivery(tmp_path: Path) -> None:
    with hooked(tmp_path / "world") as place:
        sign = place.world.add_api_token(place.ann, EVERYTHING)
        address = place.simulator.git_url.replace("://", f"://x-bitbucket-api-token-auth:{sign}@")
        work = tmp_path / "work"

        def git(*words: str) -> None:
            subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

        git("clone", "-q", f"{address}/{place.shop.full_name}.git", str(work))
        git("-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-mx")
        git("-C", str(work), "branch", "other")
        git("-C", str(work), "push", "-q", "--all")
        [body] = place.bodies()
    assert {one["new"]["name"] for one in body["push"]["changes"]} >= {"main", "other"}
    assert body["actor"]["uuid"] == place.ann.uuid


def _all_changes(place: Hooked) -> None:
    """Make every change that the world announces."""
    shop, acme, ann = place.shop, place.acme, place.ann
    bob = place.world.users["bob@acme.example"]
    tip = shop.commit("topic", {"t": b"t"}, "Topic\n")
    pull = shop.open_pull_request(source="topic", title="Topic", author=ann)
    pull.push({"t": b"u"}, "More\n")
    pull.edit(title="Better", author=ann)
    comment = pull.comment("Why?", author=bob)
    pull.edit_comment(comment, "Why so?")
    pull.resolve(comment, by=ann)
    pull.reopen(comment, by=ann)
    pull.delete_comment(comment)
    pull.approve(bob)
    pull.unapprove(bob)
    pull.request_changes(bob)
    pull.add_status("build")
    place.ask("DELETE", f"/repositories/{shop.full_name}/pullrequests/{pull.id}/request-changes")
    pull.merge(author=ann)
    shop.commit("second", {"s": b"s"}, "Second\n")
    shop.open_pull_request(source="second", title="Second", author=ann).decline(author=ann)
    issue = shop.add_issue("Broken", author=ann, comments=["Indeed"])
    issue.set_state("resolved", author=bob)
    shop.comment_on_commit(tip, "Nice", author=bob)
    shop.add_pipeline(steps=[("build", b"log")], result=None).finish()
    made = acme.add_repository("fresh")
    acme.add_repository("forked", parent=shop)
    acme.rename_repository("fresh", "renamed")
    place.world.add_workspace("other").settings["hooks"] = acme.settings["hooks"]
    acme.transfer_repository("renamed", place.world.workspaces["other"])
    place.world.workspaces["other"].delete_repository(made.slug)


# Nothing in the world can tell these.
UNTOLD = {"pipeline:span_created", "project:updated", "repo:imported"}


def test_every_event_that_the_world_can_tell_is_sent(tmp_path: Path) -> None:
    with hooked(tmp_path) as place:
        _all_changes(place)
        bodies = place.bodies()
        events = place.got.events()
    assert set(events) == set(EVENTS) - UNTOLD
    assert all(one["repository"]["uuid"].startswith("{") for one in bodies)
    shown = dict(zip(events, bodies, strict=True))
    assert shown["pullrequest:approved"]["approval"]["user"]["display_name"]
    assert shown["pullrequest:comment_created"]["comment"]["content"]["raw"] == "Why?"
    assert shown["repo:updated"]["changes"]["name"] == {"old": "fresh", "new": "renamed"}
    assert shown["repo:transfer"]["previous_workspace"]["slug"] == "acme"
    assert shown["repo:commit_status_updated"]["commit_status"]["state"] == "SUCCESSFUL"


def test_only_active_hooks_hear_and_only_their_events(tmp_path: Path) -> None:
    with hooked(tmp_path / "a", active=False) as place:
        place.shop.commit("main", {"a": b"a"}, "One\n")
        assert place.bodies() == []
    with hooked(tmp_path / "b", events=["repo:updated"]) as place:
        place.shop.commit("main", {"a": b"a"}, "One\n")
        place.ask("PUT", f"/repositories/{place.shop.full_name}", {"description": "Changed"})
        place.bodies()
        assert place.got.events() == ["repo:updated"]


def test_wikis_and_tasks_announce_nothing(tmp_path: Path) -> None:
    with hooked(tmp_path) as place:
        (place.shop.wiki or place.shop.add_wiki()).commit("main", {"Home.md": b"Hello"}, "Page\n")
        pull = next(iter(place.shop.pull_requests.values()))
        pull.add_task("Do it", author=place.ann)
        assert place.bodies() == []


@pytest.mark.parametrize(
    ("statuses", "sent"),
    [((500,), [500, 200]), ((502, 503, 500), [502, 503, 500]), ((404,), [404]), ((302,), [302])],
)
def test_only_a_failing_server_is_asked_again(
    tmp_path: Path, statuses: tuple[int, ...], sent: list[int]
) -> None:
    with hooked(tmp_path, statuses=statuses) as place:
        place.shop.commit("main", {"a": b"a"}, "One\n")
        place.bodies()
    assert place.simulator.deliveries[0].statuses == sent
    attempts = [one.headers["x-attempt-number"] for one in place.got.received]
    assert attempts == [str(number + 1) for number in range(len(sent))]
    assert len({one.headers["x-request-uuid"] for one in place.got.received}) == 1


def test_a_dead_listener_is_left_alone(tmp_path: Path) -> None:
    with hooked(tmp_path, url="http://127.0.0.1:1/x") as place:
        place.shop.commit("main", {"a": b"a"}, "One\n")
        place.bodies()
        assert place.simulator.deliveries[0].statuses == [None]


def test_other_machines_get_nothing_and_that_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    world = sample_world(tmp_path)
    shop = next(iter(world.workspaces["acme"].repositories.values()))
    with Simulator(world, tell=said.append) as simulator:
        for text in (b"1", b"2"):
            shop.commit("main", {"a": text}, "One\n")
        assert simulator.deliveries == []
    assert len(said) == len(set(said)) > 0
    assert all("this machine only" in one for one in said)


def test_a_long_payload_is_dropped_without_a_word(tmp_path: Path) -> None:
    with hooked(tmp_path) as place:
        pull = next(iter(place.shop.pull_requests.values()))
        pull.comment("x" * 200_000, author=place.ann)
        assert place.bodies() == []
        assert place.simulator.deliveries[0].fate == "dropped"


def _pushes(place: Hooked, count: int) -> list[str]:
    return [place.shop.commit("main", {"n": str(one).encode()}, "Push\n") for one in range(count)]


def _arrived(place: Hooked) -> list[str]:
    return [body["push"]["changes"][0]["new"]["target"]["hash"] for body in place.bodies()]


@pytest.mark.parametrize("fate", ["lost", "oversized"])
def test_a_share_is_lost_or_dropped_the_same_each_time(tmp_path: Path, fate: str) -> None:
    arrived = []
    for name in ("a", "b"):
        with hooked(tmp_path / name, faults=HookFaults(**{fate: 0.5}, seed=3)) as place:
            values = _pushes(place, 8)
            arrived.append([values.index(one) for one in _arrived(place)])
    assert arrived[0] == arrived[1]
    assert 0 < len(arrived[0]) < 8


def test_doubled_late_and_reordered(tmp_path: Path) -> None:
    with hooked(tmp_path / "a", faults=HookFaults(doubled=1.0)) as place:
        [value] = _pushes(place, 1)
        assert _arrived(place) == [value, value]
    with hooked(tmp_path / "b", faults=HookFaults(late=1.0, seconds=3600)) as place:
        values = _pushes(place, 2)
        assert _arrived(place) == []
        place.simulator.hooks.release()
        assert _arrived(place) == values
    with hooked(tmp_path / "c", faults=HookFaults(reordered=0.5, seed=2)) as place:
        values = _pushes(place, 8)
        _arrived(place)
        place.simulator.hooks.release()
        arrived = _arrived(place)
    assert arrived != values
    assert sorted(arrived) == sorted(values)


def test_a_late_one_comes_by_itself(tmp_path: Path) -> None:
    with hooked(tmp_path, faults=HookFaults(late=1.0, seconds=0.0)) as place:
        [value] = _pushes(place, 1)
        place.simulator.hooks.settle()
        while not place.got.received:
            place.simulator.hooks.settle()
        assert _arrived(place) == [value]


def test_a_forged_one_has_another_signature(tmp_path: Path) -> None:
    with hooked(tmp_path, faults=HookFaults(forged=1.0)) as place:
        _pushes(place, 1)
        forged, true = place.bodies()
        signatures = [one.headers["x-hub-signature"] for one in place.got.received]
    assert forged == true
    digest = hmac.new(SECRET.encode(), place.got.received[1].body, hashlib.sha256).hexdigest()
    assert signatures[1] == f"sha256={digest}" != signatures[0]


def test_a_change_can_be_seen_once_it_is_told_or_only_later(tmp_path: Path) -> None:
    path = "/pullrequests?sort=-updated_on&pagelen=1"
    for name, lags in (("a", False), ("b", True)):
        with hooked(tmp_path / name, switches=Switches(hooks_precede_changes=lags)) as place:
            sign = {"Authorization": basic(ANN, place.world.add_api_token(place.ann, EVERYTHING))}
            url = f"{place.simulator.api_url}/repositories/{place.shop.full_name}{path}"
            before = httpx.get(url, headers=sign, trust_env=False, timeout=60).json()
            pull = next(one for one in place.shop.pull_requests.values() if one.state == "OPEN")
            pull.edit(title="Changed", author=place.ann)
            place.bodies()
            seen = [httpx.get(url, headers=sign, trust_env=False, timeout=60).json() for _ in range(2)]
        assert seen[1]["values"][0]["title"] == "Changed"
        assert (seen[0] == before) is lags


def test_hooks_to_this_machine_are_taken_or_refused(tmp_path: Path) -> None:
    body = {"url": "http://127.0.0.1:9/x", "events": ["repo:push"], "secret": "s"}
    for name, refused in (("a", False), ("b", True)):
        with hooked(tmp_path / name, switches=Switches(loopback_hooks_refused=refused)) as place:
            assert place.ask("POST", "/workspaces/acme/hooks", body).status_code == (400 if refused else 201)
            inside = {**body, "url": "http://10.0.0.1/x"}
            assert place.ask("POST", "/workspaces/acme/hooks", inside).status_code == 400


def test_what_has_no_hook_costs_no_rendering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(event: Event, render: Renderer) -> dict[str, Any]:
        raise AssertionError((event, render, payload))

    monkeypatch.setattr("mirror.simulator.hooks.sender.payload", fails)
    with hooked(tmp_path, events=["repo:deleted"]) as place:
        place.shop.commit("main", {"a": b"a"}, "One\n")
        assert place.bodies() == []
