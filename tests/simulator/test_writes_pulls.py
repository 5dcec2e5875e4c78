"""Writing pull requests, and what is said in them and about commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mirror.simulator import Switches
from tests.simulator.helpers import Asking

SITE = "/repositories/acme/website"
PULLS = f"{SITE}/pullrequests"


async def opened(root: Path, **switches: bool) -> tuple[Asking, str, str]:
    """A world with a new pull request, who may write to it, and its address."""
    ask = Asking(root, switches=Switches(**switches))
    who = ask.writing_user()
    ask.world.workspaces["acme"].repositories["website"].commit("topic", {"new.txt": b"1\n2\n"}, "New\n")
    body = {"title": "New", "source": {"branch": {"name": "topic"}}}
    made = await ask.write("POST", PULLS, body, who)
    assert made.status_code == 201, made.text
    return ask, who, f"{PULLS}/{made.json()['id']}"


async def test_a_pull_request_is_what_was_asked_for(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    who, bob = ask.writing_user(), ask.world.users["bob@acme.example"]
    website = ask.world.workspaces["acme"].repositories["website"]
    website.settings["default_reviewers"] = [{"@user": "eve@acme.example"}]
    website.commit("topic", {"new.txt": b"new\n"}, "New\n")
    body: dict[str, Any] = {
        "title": "New", "description": "All new", "draft": True, "close_source_branch": True,
        "source": {"branch": {"name": "topic"}}, "destination": {"branch": {"name": "main"}},
        "reviewers": [{"uuid": bob.uuid}],
    }  # fmt: skip
    made = await ask.write("POST", PULLS, body, who)
    assert made.status_code == 201
    shown = (await ask(f"{PULLS}/{made.json()['id']}", who)).json()
    for name in ("title", "description", "draft", "close_source_branch"):
        assert shown[name] == body[name]
    assert shown["author"]["uuid"] == ask.world.users["ann@acme.example"].uuid
    assert [one["uuid"] for one in shown["reviewers"]] == [bob.uuid]
    change = {"title": "Newer", "draft": False, "reviewers": []}
    changed = await ask.write("PUT", f"{PULLS}/{shown['id']}", change, who)
    assert {name: changed.json()[name] for name in change} == change
    assert changed.json()["description"] == "All new"
    assert (await ask.write("PUT", f"{PULLS}/1", change, who)).status_code == 400


async def test_a_change_may_take_away_what_it_omits(tmp_path: Path) -> None:
    for clears in (True, False):
        ask, who, pull = await opened(tmp_path / str(clears), changes_clear_what_they_omit=clears)
        bob = {"uuid": ask.world.users["bob@acme.example"].uuid}
        whole = {"title": "T", "reviewers": [bob], "close_source_branch": True, "draft": True}
        assert (await ask.write("PUT", pull, whole, who)).status_code == 200
        shown = (await ask.write("PUT", pull, {"title": "U"}, who)).json()
        assert (shown["title"], shown["draft"]) == ("U", True)
        assert (len(shown["reviewers"]), shown["close_source_branch"]) == (
            (0, False) if clears else (1, True)
        )


async def test_pull_requests_that_cannot_be(tmp_path: Path) -> None:
    ask, who, first = await opened(tmp_path / "a")
    ann, sue = ask.world.users["ann@acme.example"], ask.world.add_user("Sue", "sue@x.example", workspaces=[])
    ask.world.workspaces["acme"].repositories["website"].commit("other", {"b": b"b"}, "B\n")
    ask.world.workspaces["acme"].repositories["website"].force(
        "old", ask.world.workspaces["acme"].repositories["website"].branch("main") or ""
    )
    good: dict[str, Any] = {"title": "T", "source": {"branch": {"name": "other"}}}
    for bad in (
        {"title": "T"},
        {**good, "title": ""},
        {**good, "source": {"branch": {"name": "nowhere"}}},
        {**good, "destination": {"branch": {"name": "nowhere"}}},
        {**good, "source": {"branch": {"name": "old"}}},
        {**good, "reviewers": [{"uuid": ann.uuid}]},
        {**good, "reviewers": [{"uuid": sue.uuid}]},
        {**good, "reviewers": [{"uuid": "{nobody}"}]},
        {**good, "draft": "yes"},
    ):
        assert (await ask.write("POST", PULLS, bad, who)).status_code == 400, bad
    again = {"title": "Again", "source": {"branch": {"name": "topic"}}}
    made = await ask.write("POST", PULLS, again, who)
    assert made.json()["id"] == int(first.rpartition("/")[2])
    ask, who, _ = await opened(
        tmp_path / "b", same_pull_request_is_updated=False, bad_reviewers_refused=False
    )
    assert (await ask.write("POST", PULLS, again, who)).status_code == 400
    ask.world.workspaces["acme"].repositories["website"].commit("other", {"b": b"b"}, "B\n")
    made = await ask.write("POST", PULLS, {**good, "reviewers": [{"uuid": ann.uuid}]}, who)
    assert (made.status_code, made.json()["reviewers"]) == (201, [])


async def test_comments_have_places_and_answers(tmp_path: Path) -> None:
    for status, unknown in ((500, True), (400, False)):
        ask, who, pull = await opened(tmp_path / str(status), unknown_parents_are_500=unknown)
        inline = {"path": "new.txt", "to": 2, "start_to": 1}
        made = await ask.write(
            "POST", f"{pull}/comments", {"content": {"raw": "Why?"}, "inline": inline}, who
        )
        assert made.status_code == 201
        parent = made.json()["id"]
        answer = {"content": {"raw": "Because."}, "parent": {"id": parent}}
        reply = (await ask.write("POST", f"{pull}/comments", answer, who)).json()
        assert reply["parent"]["id"] == parent
        assert reply["inline"] == made.json()["inline"] == {"from": None, **inline}
        lost = {"content": {"raw": "Lost."}, "parent": {"id": 999_999}}
        assert (await ask.write("POST", f"{pull}/comments", lost, who)).status_code == status
        assert len(await ask.entries(f"{pull}/comments", who)) == 2
        for bad in (
            {"content": {"raw": ""}},
            {"content": "Why?"},
            {},
            {"content": {"raw": "x", "colour": "red"}},
            {"content": {"raw": "x"}, "inline": {"path": "new.txt", "to": 0}},
            {"content": {"raw": "x"}, "inline": {"to": 1}},
        ):
            assert (await ask.write("POST", f"{pull}/comments", bad, who)).status_code == 400, bad
        one = f"{pull}/comments/{parent}"
        edited = await ask.write("PUT", one, {"content": {"raw": "What for?"}}, who)
        assert edited.json()["content"]["raw"] == "What for?"
        other = ask.writing_user("bob@acme.example")
        assert (await ask.write("DELETE", one, None, other)).status_code == 403
        assert (await ask.write("DELETE", one, None, who)).status_code == 204
        assert (await ask(one, who)).json()["deleted"] is True


async def test_comments_that_may_be_refused(tmp_path: Path) -> None:
    long = {"content": {"raw": "x" * 32_769}}
    lost = {"content": {"raw": "Hm."}, "inline": {"path": "nowhere.txt", "to": 1}}
    for status, strict in ((201, False), (400, True)):
        switches = {"long_comments_refused": strict, "comments_need_their_file": strict}
        ask, who, pull = await opened(tmp_path / str(status), **switches)
        for body in (long, lost):
            assert (await ask.write("POST", f"{pull}/comments", body, who)).status_code == status
        good = {**lost, "inline": {"path": "new.txt", "to": 1}}
        assert (await ask.write("POST", f"{pull}/comments", good, who)).status_code == 201


async def test_pending_comments_are_shown_to_their_author_alone(tmp_path: Path) -> None:
    ask, who, pull = await opened(tmp_path)
    made = await ask.write("POST", f"{pull}/comments", {"content": {"raw": "Draft"}, "pending": True}, who)
    assert made.json()["pending"] is True
    assert len(await ask.entries(f"{pull}/comments", who)) == 1
    assert await ask.entries(f"{pull}/comments", ask.writing_user("bob@acme.example")) == []


async def test_a_thread_is_resolved_once(tmp_path: Path) -> None:
    ask, who, pull = await opened(tmp_path)
    body = {"content": {"raw": "Why?"}, "inline": {"path": "new.txt", "to": 1}}
    made = await ask.write("POST", f"{pull}/comments", body, who)
    place = f"{pull}/comments/{made.json()['id']}/resolve"
    reply = {"content": {"raw": "So."}, "parent": {"id": made.json()["id"]}}
    for no_thread in (reply, {"content": {"raw": "In general"}}):
        other = (await ask.write("POST", f"{pull}/comments", no_thread, who)).json()["id"]
        assert (await ask.write("POST", f"{pull}/comments/{other}/resolve", {}, who)).status_code == 403
    assert (await ask.write("POST", place, None, who)).status_code == 400
    json: dict[str, Any] = {"headers": {"Content-Type": "application/json"}}
    assert (await ask.write("POST", place, None, who, **json)).status_code == 400
    assert (await ask.write("POST", place, {}, who)).json()["type"] == "comment_resolution"
    assert (await ask.write("POST", place, {}, who)).status_code == 409
    shown = (await ask.entries(f"{pull}/comments", who))[0]
    assert shown["resolution"]["user"]["uuid"] == ask.world.users["ann@acme.example"].uuid
    assert (await ask.write("DELETE", place, None, who)).status_code == 204
    assert (await ask.write("DELETE", place, None, who)).status_code == 404


async def test_tasks(tmp_path: Path) -> None:
    ask, who, pull = await opened(tmp_path)
    comment = (await ask.write("POST", f"{pull}/comments", {"content": {"raw": "Why?"}}, who)).json()["id"]
    body = {"content": {"raw": "Explain"}, "comment": {"id": comment}, "pending": False}
    made = (await ask.write("POST", f"{pull}/tasks", body, who)).json()
    assert (made["state"], made["comment"]["id"]) == ("UNRESOLVED", comment)
    blank = {"content": {"raw": " "}}
    for bad in ({}, blank, {**body, "state": "RESOLVED"}, {**body, "comment": {"id": 999_999}}):
        assert (await ask.write("POST", f"{pull}/tasks", bad, who)).status_code == 400
    one = f"{pull}/tasks/{made['id']}"
    changed = await ask.write("PUT", one, {"state": "RESOLVED"}, who)
    assert (changed.json()["state"], changed.json()["content"]["raw"]) == ("RESOLVED", "Explain")
    assert (await ask.write("PUT", one, blank, who)).status_code == 400
    assert (await ask.write("PUT", one, {"state": "DONE"}, who)).status_code == 400
    assert (await ask.write("DELETE", one, None, who)).status_code == 204


async def test_approvals_and_ends(tmp_path: Path) -> None:
    ask, who, pull = await opened(tmp_path)
    assert (await ask.write("POST", f"{pull}/approve", None, who)).status_code == 400
    assert (await ask.write("POST", f"{pull}/approve", {}, who)).json()["approved"] is True
    assert (await ask.write("DELETE", f"{pull}/approve", None, who)).status_code == 204
    assert (await ask.write("DELETE", f"{pull}/approve", None, who)).status_code == 404
    asked = await ask.write("POST", f"{pull}/request-changes", {}, who)
    assert asked.json()["state"] == "changes_requested"
    assert (await ask.write("DELETE", f"{pull}/request-changes", None, who)).status_code == 204
    merged = await ask.write("POST", f"{pull}/merge", {"close_source_branch": False}, who)
    assert merged.json()["state"] == "MERGED"
    assert ask.world.workspaces["acme"].repositories["website"].has_branch("topic")
    assert (await ask.write("POST", f"{pull}/decline", {}, who)).status_code == 409


async def test_a_fork_gives_pull_requests(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    who = ask.writing_user()
    made = await ask.write("POST", f"{SITE}/forks", {"name": "mine"}, who)
    assert made.json()["parent"]["full_name"] == "acme/website"
    ask.world.workspaces["acme"].repositories["mine"].commit("topic", {"a": b"a"}, "A\n")
    end = {"branch": {"name": "topic"}, "repository": {"full_name": "acme/mine"}}
    made = await ask.write("POST", PULLS, {"title": "From afar", "source": end}, who)
    assert made.json()["source"]["repository"]["full_name"] == "acme/mine"
    end["repository"] = {"full_name": "acme/api"}
    assert (await ask.write("POST", PULLS, {"title": "T", "source": end}, who)).status_code == 400


async def test_what_is_said_about_commits(tmp_path: Path) -> None:
    ask, who, _ = await opened(tmp_path)
    website = ask.world.workspaces["acme"].repositories["website"]
    commit = f"{SITE}/commit/{website.branch('topic')}"
    inline = {"path": "new.txt", "to": 1}
    made = await ask.write("POST", f"{commit}/comments", {"content": {"raw": "Hm."}, "inline": inline}, who)
    assert made.status_code == 201
    answer = {"content": {"raw": "Yes?"}, "parent": {"id": made.json()["id"]}}
    assert (await ask.write("POST", f"{commit}/comments", answer, who)).status_code == 201
    lost = {"content": {"raw": "Lost."}, "parent": {"id": 999_999}}
    assert (await ask.write("POST", f"{commit}/comments", lost, who)).status_code == 404
    elsewhere = f"{SITE}/commit/{website.branch('main')}/comments"
    assert (await ask.write("POST", elsewhere, answer, who)).status_code == 400
    shown = await ask.entries(f"{commit}/comments", who)
    assert [one["inline"]["to"] for one in shown] == [1, 1]
    assert shown[1]["parent"]["id"] == shown[0]["id"]
    one = f"{commit}/comments/{shown[0]['id']}"
    assert (await ask.write("PUT", one, {"content": {"raw": "Ah."}}, who)).status_code == 201
    assert (await ask.write("DELETE", one, None, who)).status_code == 204
    assert (await ask.write("POST", f"{commit}/approve", {}, who)).json()["approved"] is True
    assert len((await ask(commit, who)).json()["participants"]) == 1
    assert (await ask.write("DELETE", f"{commit}/approve", None, who)).status_code == 204


async def test_statuses_are_one_for_each_key(tmp_path: Path) -> None:
    ask, who, pull = await opened(tmp_path)
    commit = f"{SITE}/commit/{ask.world.workspaces['acme'].repositories['website'].branch('topic')}"
    status = {
        "key": "ci", "state": "INPROGRESS", "name": "CI", "description": "Running",
        "url": "https://ci.example/1", "refname": "topic",
    }  # fmt: skip
    assert (await ask.write("POST", f"{commit}/statuses/build", status, who)).status_code == 201
    done = {**status, "state": "SUCCESSFUL"}
    assert (await ask.write("POST", f"{commit}/statuses/build", done, who)).status_code == 201
    [shown] = await ask.entries(f"{commit}/statuses", who)
    assert {name: shown[name] for name in done} == done
    assert [one["key"] for one in await ask.entries(f"{pull}/statuses", who)] == ["ci"]
    changed = await ask.write("PUT", f"{commit}/statuses/build/ci", {"state": "FAILED"}, who)
    assert (changed.json()["state"], changed.json()["description"]) == ("FAILED", "Running")
    for bad in (
        {"key": "x"},
        {"key": "x", "state": "GREEN", "url": "https://x"},
        {"key": "x", "state": "FAILED"},
    ):
        assert (await ask.write("POST", f"{commit}/statuses/build", bad, who)).status_code == 400


async def test_reports_and_annotations(tmp_path: Path) -> None:
    ask, who, _ = await opened(tmp_path)
    commit = f"{SITE}/commit/{ask.world.workspaces['acme'].repositories['website'].branch('topic')}"
    report = {
        "title": "Scan", "details": "All of it", "report_type": "SECURITY", "result": "FAILED",
        "reporter": "scanner", "link": "https://scan.example/1",
        "data": [{"title": "Safe?", "type": "BOOLEAN", "value": False}],
    }  # fmt: skip
    place = f"{commit}/reports/scan-1"
    assert (await ask.write("PUT", place, {"result": "FAILED"}, who)).status_code == 400
    assert (await ask.write("PUT", place, report, who)).status_code == 200
    [shown] = await ask.entries(f"{commit}/reports", who)
    assert {name: shown[name] for name in report} == report
    assert shown["external_id"] == "scan-1"
    finding = {
        "external_id": "f1", "annotation_type": "VULNERABILITY", "summary": "Bad", "severity": "HIGH",
        "path": "new.txt", "line": 2, "result": "FAILED", "details": "Very", "link": "https://x.example/",
    }  # fmt: skip
    assert (await ask.write("POST", f"{place}/annotations", [], who)).status_code == 400
    too_much = {**report, "data": [{"title": "X", "value": 1}] * 11}
    assert (await ask.write("PUT", place, too_much, who)).status_code == 400
    assert (await ask.write("POST", f"{place}/annotations", [finding], who)).status_code == 200
    [seen] = await ask.entries(f"{commit}/reports/{shown['uuid']}/annotations", who)
    assert {name: seen[name] for name in finding} == finding
    one = f"{place}/annotations/f1"
    assert (await ask.write("PUT", one, {"severity": "LOW"}, who)).json()["severity"] == "LOW"
    assert (await ask.write("PUT", one, {"severity": "GRAVE"}, who)).status_code == 400
    assert (await ask.write("DELETE", one, None, who)).status_code == 204
    assert (await ask.write("DELETE", place, None, who)).status_code == 204
    assert await ask.entries(f"{commit}/reports", who) == []
