"""Writing downloads, snippets, commits and refs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.simulator.helpers import Asking
from tests.simulator.test_writes import FRESH, fresh

HARD = bytes(range(256)) + b"\r\n\r--x\r\n"


async def test_downloads_come_as_parts_of_a_form(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    place = f"{FRESH}/downloads"
    for body in ({"files": "x"}, None):
        assert (await ask.write("POST", place, body, who)).status_code == 406
    form: dict[str, Any] = {"files": [("files", ("ä b.bin", HARD)), ("files", ("empty", b""))]}
    assert (await ask.write("POST", place, None, who, **form)).status_code == 201
    repository = ask.world.workspaces["acme"].repositories["fresh"]
    assert {one.name: one.content for one in repository.downloads} == {"ä b.bin": HARD, "empty": b""}
    again: dict[str, Any] = {"files": [("files", ("empty", b"no more"))]}
    assert (await ask.write("POST", place, None, who, **again)).status_code == 201
    assert [one["size"] for one in await ask.entries(place, who)] == [len(HARD), 7]
    other: dict[str, Any] = {"files": [("file", ("empty", b""))]}
    assert (await ask.write("POST", place, None, who, **other)).status_code == 400
    assert (await ask.write("DELETE", f"{place}/empty", None, who)).status_code == 204
    assert (await ask.write("DELETE", f"{place}/empty", None, who)).status_code == 404


async def test_snippets_come_in_three_ways(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    who, place = ask.writing_user(), "/snippets/acme"
    form: dict[str, Any] = {
        "data": {"title": "By form", "is_private": "false"},
        "files": [("file", ("a.bin", HARD)), ("file", ("b.txt", b"b"))],
    }
    made = await ask.write("POST", place, None, who, **form)
    assert made.status_code == 201
    one = f"{place}/{made.json()['id']}"
    shown = (await ask(one, who)).json()
    assert (shown["title"], shown["is_private"], list(shown["files"])) == (
        "By form", False, ["a.bin", "b.txt"],
    )  # fmt: skip
    assert ask.world.workspaces["acme"].snippets[shown["id"]].files["a.bin"] == HARD
    body = (
        b'--xx\r\nContent-Type: application/json\r\nContent-ID: snippet\r\n\r\n{"title": "Related", "files": '
        b'{"a.bin": {}, "c.txt": {}}}\r\n--xx\r\nContent-Type: text/plain\r\nContent-ID: "c.txt"\r\n'
        b'Content-Disposition: attachment; filename="c.txt"\r\n\r\nc\r\n--xx--\r\n'
    )
    related: dict[str, Any] = {
        "content": body, "headers": {"Content-Type": 'multipart/related; start="snippet"; boundary="xx"'},
    }  # fmt: skip
    changed = (await ask.write("PUT", one, None, who, **related)).json()
    assert (changed["title"], list(changed["files"])) == ("Related", ["b.txt", "c.txt"])
    assert (await ask.write("PUT", one, {"title": None}, who)).json()["title"] == ""
    assert (await ask.write("POST", place, {"title": 5}, who)).status_code == 400
    assert (await ask.write("POST", place, {"title": "Empty"}, who)).status_code == 201
    said = await ask.write("POST", f"{one}/comments", {"content": {"raw": "Good"}}, who)
    assert said.status_code == 201
    comment = f"{one}/comments/{said.json()['id']}"
    assert (await ask.write("PUT", comment, {"content": {"raw": "Fine"}}, who)).status_code == 200
    assert [one["content"]["raw"] for one in await ask.entries(f"{one}/comments", who)] == ["Fine"]
    assert (await ask.write("DELETE", comment, None, who)).status_code == 204
    assert (await ask.write("DELETE", one, None, who)).status_code == 204
    assert (await ask(one, who)).status_code == 404


@pytest.mark.parametrize("kind", ["branches", "tags"])
async def test_refs(tmp_path: Path, kind: str) -> None:
    ask = Asking(tmp_path)
    who, place = ask.writing_user(), f"/repositories/acme/website/refs/{kind}"
    value = ask.world.workspaces["acme"].repositories["website"].branch("main") or ""
    body = {"name": "new/one", "target": {"hash": value[:12]}}
    made = await ask.write("POST", place, body, who)
    assert (made.status_code, made.json()["name"], made.json()["target"]["hash"]) == (201, "new/one", value)
    assert (await ask.write("POST", place, body, who)).status_code == 400
    for bad in ({"name": "x"}, {"name": "x", "target": {"hash": "0000"}}):
        assert (await ask.write("POST", place, bad, who)).status_code == 400
    assert (await ask.write("DELETE", f"{place}/new%2Fone", None, who)).status_code == 204
    assert (await ask.write("DELETE", f"{place}/new%2Fone", None, who)).status_code == 404


async def test_a_commit_over_the_api(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    form: dict[str, Any] = {
        "data": {"message": "Begin", "branch": "main"}, "files": [("docs/a.txt", ("a.txt", b"a\n"))],
    }  # fmt: skip
    made = await ask.write("POST", f"{FRESH}/src", None, who, **form)
    assert made.status_code == 201
    repository = ask.world.workspaces["acme"].repositories["fresh"]
    value = repository.branch("main") or ""
    assert made.headers["Location"].endswith(value)
    assert repository.files(value) == {"docs/a.txt": b"a\n"}
