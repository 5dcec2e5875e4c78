"""The world behind the API: what updates what, what remains of deleted things, and that a world can be
saved."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mirror.simulator import Switches, World
from mirror.simulator.world.discussions import PullRequest
from mirror.simulator.world.sample import accident, populate
from mirror.simulator.world.world import SimRepository
from tests.simulator.helpers import Asking

PULLS = "/repositories/acme/website/pullrequests"


def open_one(ask: Asking) -> tuple[SimRepository, PullRequest]:
    """A repository, and an open pull request in it."""
    website = ask.world.workspaces["acme"].repositories["website"]
    return website, website.pull_requests[3]


@pytest.mark.parametrize(
    ("action", "switch"),
    [
        ("comment", "comments_move_updated_on"),
        ("approve", "approvals_move_updated_on"),
        ("add_task", "tasks_move_updated_on"),
        ("add_status", "builds_move_updated_on"),
    ],
)
@pytest.mark.parametrize("moves", [True, False])
async def test_what_moves_a_pull_request_is_a_switch(
    tmp_path: Path, action: str, switch: str, moves: bool
) -> None:
    ask = Asking(tmp_path, switches=dataclasses.replace(Switches(), **{switch: moves}))
    website, pull = open_one(ask)
    bob = ask.world.users["bob@acme.example"]
    before = (await ask(f"{PULLS}/3")).json()["updated_on"]
    stood = website.updated
    match action:
        case "comment":
            pull.comment("Hm.", author=bob)
        case "approve":
            pull.approve(bob)
        case "add_task":
            pull.add_task("Do it", author=bob)
        case _:
            pull.add_status("build-9")
    after = (await ask(f"{PULLS}/3")).json()["updated_on"]
    assert (after > before) == moves
    assert website.updated == stood, "only commits move the repository"


async def test_pushes_move_the_pull_request_and_its_repository(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    website, pull = open_one(ask)
    before, stood = pull.updated, website.updated
    head = pull.push({"blog.html": b"<h1>More</h1>\n"}, "More\n")
    assert (await ask(f"{PULLS}/3")).json()["source"]["commit"]["hash"] == head
    assert pull.updated > before
    assert website.updated > stood
    newest = (await ask(f"{PULLS}/3/activity")).json()["values"][0]
    assert newest["update"]["source"]["commit"]["hash"] == head[:12]
    commits = await ask.entries(f"{PULLS}/3/commits")
    assert [one["message"] for one in commits] == ["More\n", "A blog\n"]


async def test_a_merge_leaves_the_commits_in_the_api(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    billing = ask.world.workspaces["acme"].repositories["billing"]
    pull = (await ask("/repositories/acme/billing/pullrequests/1")).json()
    assert pull["state"] == "MERGED"
    assert pull["merge_commit"]["hash"] == billing.pull_requests[1].merge_hash
    assert pull["source"]["commit"]["hash"] not in billing.refs().values()
    commits = await ask.entries("/repositories/acme/billing/pullrequests/1/commits")
    assert [one["hash"] for one in commits] == [pull["source"]["commit"]["hash"]]


async def test_what_is_gone_leaves_holes(tmp_path: Path) -> None:
    ask = Asking(tmp_path / "a")
    acme = ask.world.workspaces["acme"]
    website, ann = acme.repositories["website"], ask.world.users["ann@acme.example"]
    fork = acme.add_repository("fork", parent=website)
    head = fork.commit("patch", {"p": b"p"}, "Patch\n")
    pull = website.open_pull_request(source="patch", title="Patch", author=ann, fork=fork)
    address = f"{PULLS}/{pull.id}"
    assert (await ask(address)).json()["source"]["repository"]["full_name"] == "acme/fork"
    assert [one["hash"] for one in await ask.entries(f"{address}/commits")] == [head]
    acme.delete_repository("fork")
    ann.deleted = True
    website.delete_ref(b"refs/heads/main")
    answer = (await ask(address)).json()
    assert answer["source"] == {"branch": {"name": "patch"}, "commit": None, "repository": None}
    assert answer["destination"]["commit"] is None
    assert answer["author"] is None
    assert (await ask(f"{address}/commits")).status_code == 404
    assert (await ask("/repositories/acme/website")).json()["mainbranch"] is None
    ask.app.switches = Switches(gone_branches_lose_commits=False, deleted_accounts_are_null=False)
    answer = (await ask(address)).json()
    assert answer["destination"]["commit"]["hash"] == pull.destination_hash
    assert answer["author"] == {"type": "user", "display_name": "Former user", "links": {}}


async def test_discussions_have_replies_tombstones_and_resolutions(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    question, reply = await ask.entries(f"{PULLS}/1/comments")
    assert reply["parent"]["id"] == question["id"]
    assert question["resolution"]["user"]["display_name"] == "Bob Baker"
    inline, tombstone = await ask.entries(f"{PULLS}/3/comments")
    assert inline["inline"] == {"path": "blog.html", "from": None, "to": 1}
    assert (tombstone["deleted"], tombstone["content"]["raw"]) == (True, "")
    assert (await ask(f"{PULLS}/3")).json()["comment_count"] == 1


async def test_issues_are_gone_with_a_notice_or_there_with_all_they_have(tmp_path: Path) -> None:
    path = "/repositories/acme/website/issues"
    gone = Asking(tmp_path / "a")
    answer = await gone(path)
    assert answer.status_code == 410
    assert answer.json()["error"]["message"].startswith("CHANGE-3071")
    assert "announcement_url" in answer.json()["error"]["data"]
    assert "Sunset" in answer.headers and "deprecation" in answer.headers["Link"]
    ask = Asking(tmp_path / "b", switches=Switches(issue_tracker=True, deprecation_headers=False))
    website, ann = ask.world.workspaces["acme"].repositories["website"], ask.world.users["ann@acme.example"]
    issue = website.add_issue("Broken link", author=ann, comments=["Where?"])
    issue.set_state("resolved", author=ann)
    issue.attach("screen.png", b"\x89PNG")
    assert [one["state"] for one in await ask.entries(path)] == ["resolved"]
    [change] = await ask.entries(f"{path}/1/changes")
    assert change["changes"] == {"state": {"old": "new", "new": "resolved"}}
    [attached] = await ask.entries(f"{path}/1/attachments")
    answer = await ask(attached["links"]["self"]["href"])
    assert answer.status_code == 302
    assert (await ask(answer.headers["Location"], None)).content == b"\x89PNG"
    assert (await ask(answer.headers["Location"])).status_code == 400
    token = ask.world.add_workspace_access_token("acme", ["repository"])
    assert (await ask(path, f"Bearer {token}")).status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/repositories", 410),
        ("/repositories//website", 410),
        ("/workspaces", 410),
        ("/user/permissions/repositories", 410),
        ("/repositories/acme//website", 405),
        ("/nothing/at/all", 404),
        ("/repositories/acme/nothing", 404),
        ("/repositories/acme/website/pipelines/00000000-0000-0000-0000-000000000000/steps/", 400),
        ("/repositories/acme/website/pipelines/%7B00000000-0000-0000-0000-000000000000%7D/steps/", 404),
        ("/repositories/acme/website/pullrequests/99/comments", 404),
    ],
)
async def test_addresses_that_lead_nowhere_say_so(tmp_path: Path, path: str, status: int) -> None:
    answer = await Asking(tmp_path)(path)
    assert answer.status_code == status
    assert answer.json()["type"] == "error"


async def test_a_repository_is_found_by_its_uuid_and_by_its_former_name(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    acme = ask.world.workspaces["acme"]
    uuid = acme.repositories["website"].uuid
    for place in ("acme", acme.uuid, "{}"):
        assert (await ask(f"/repositories/{place}/{uuid}")).json()["slug"] == "website"
    assert (await ask(f"/repositories/acme/{uuid.strip('{}')}")).status_code == 404
    acme.rename_repository("website", "shop")
    acme.rename_repository("shop", "store")
    answer = await ask(f"{PULLS}?state=MERGED")
    assert answer.status_code == 301
    assert answer.headers["Location"].endswith("/repositories/acme/store/pullrequests?state=MERGED")
    assert (await ask(answer.headers["Location"])).status_code == 200
    acme.add_repository("website")
    assert (await ask("/repositories/acme/website")).json()["uuid"] != uuid


async def test_pipelines_that_are_switched_off_are_refused(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    ask.world.workspaces["acme"].repositories["website"].pipelines_enabled = False
    answer = await ask("/repositories/acme/website/pipelines/")
    assert answer.status_code == 403
    assert "detail" not in answer.json()["error"], "no scope would help"


def everything(world: World) -> object:
    """Everything in a world, for comparison."""
    return [
        (repository.slug, repository.uuid, repository.refs(), repr(repository.pull_requests[number].activity))
        for workspace in world.workspaces.values()
        for repository in workspace.repositories.values()
        for number in [0, *repository.pull_requests]
        if number
    ]


def test_the_sample_is_the_same_every_time(tmp_path: Path) -> None:
    worlds = [World(tmp_path / name) for name in ("a", "b")]
    stories = []
    for world in worlds:
        populate(world)
        before = everything(world)
        stories.append((before, accident(world), everything(world)))
    assert stories[0] == stories[1]
    assert stories[0][0] != stories[0][2]
    states = {
        pull.state
        for repository in worlds[0].workspaces["acme"].repositories.values()
        for pull in repository.pull_requests.values()
    }
    assert states == {"OPEN", "MERGED", "DECLINED", "SUPERSEDED"}


async def test_a_world_survives_a_restart(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    ask.world.workspaces["acme"].rename_repository("website", "shop")
    ask.world.save()
    assert (tmp_path / "world.json").stat().st_mode & 0o077 == 0
    again = World.load(tmp_path)
    assert again is not None
    assert everything(again) == everything(ask.world)
    assert [one.secret for one in again.tokens] == [one.secret for one in ask.world.tokens]
    shop = again.workspaces["acme"].repositories["shop"]
    assert shop.pull_requests[1].repository is shop
    assert shop.world is again
    assert again.moved_to("acme", "website") is shop
    # References to one object are still references to one object.
    pull = shop.pull_requests[1]
    assert any(entry.get("comment") is pull.comments[0] for entry in pull.activity)
    shop.commit("main", {"new": b"new\n"}, "After the restart\n")


def test_a_file_that_is_no_world_is_refused(tmp_path: Path) -> None:
    assert World.load(tmp_path) is None
    (tmp_path / "world.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="not a simulated Bitbucket"):
        World.load(tmp_path)


def test_every_switch_is_explained_and_inverted() -> None:
    source = Path(__file__).parents[2] / "mirror" / "simulator" / "switches.py"
    lines = source.read_text(encoding="utf-8").splitlines()
    for one in dataclasses.fields(Switches):
        [number] = [n for n, line in enumerate(lines) if line.startswith(f"    {one.name}: bool")]
        assert lines[number - 1].startswith("    # "), f"{one.name} says nothing of what it is"
        assert getattr(Switches.inverted(), one.name) is (not getattr(Switches.default(), one.name))
    assert Switches.seeded(7) == Switches.seeded(7) != Switches.seeded(8)
