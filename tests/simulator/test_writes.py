"""Writing to the simulator: what is written is what it holds, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mirror.simulator import Switches
from mirror.simulator.authentication import long_name
from mirror.simulator.writes.routes import WRITES
from tests.simulator.document import need_document, operation
from tests.simulator.helpers import Asking, basic

FRESH = "/repositories/acme/fresh"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOnlyATest ann@acme.example"


async def fresh(root: Path, **switches: bool) -> tuple[Asking, str]:
    """A world with a new, empty repository, and the sign-in of somebody who may do anything."""
    ask = Asking(root, switches=Switches(**switches))
    who = ask.writing_user()
    answer = await ask.write("POST", FRESH, {"project": {"key": "WEB"}}, who)
    assert answer.status_code == 200, answer.text
    return ask, who


@need_document
def test_writing_routes_ask_for_the_scopes_that_the_document_names() -> None:
    for route in WRITES:
        found = operation(route.template, route.method.lower())
        assert found is not None, f"{route.method} {route.template} is not in the document"
        [classic] = [one["oauth2"] for one in found["security"] if "oauth2" in one]
        [long] = found["x-atlassian-oauth2-scopes"]
        assert list(route.scopes) == classic, route.template
        assert sorted(route.long) == sorted(long["scopes"]), route.template


async def test_projects_and_repositories(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    who = ask.writing_user()
    project = {"key": "NEW", "name": "New", "description": "All new", "is_private": False}
    assert (await ask.write("POST", "/workspaces/acme/projects", project, who)).status_code == 201
    assert (await ask.write("POST", "/workspaces/acme/projects", project, who)).status_code == 400
    shown = (await ask("/workspaces/acme/projects/NEW", who)).json()
    assert {name: shown[name] for name in project} == project
    body: dict[str, Any] = {
        "name": "Fresh", "description": "New", "is_private": True, "scm": "git", "language": "python",
        "fork_policy": "no_forks", "project": {"key": "NEW"},
    }  # fmt: skip
    assert (await ask.write("POST", FRESH, body, who)).status_code == 200
    assert (await ask.write("POST", FRESH, body, who)).status_code == 400
    shown = (await ask(FRESH, who)).json()
    assert {**body, "project": shown["project"]["key"]} == {
        **{name: shown[name] for name in body}, "project": "NEW",
    }  # fmt: skip
    assert (await ask.write("PUT", FRESH, {"mainbranch": {"name": "main"}}, who)).status_code == 400
    ask.world.workspaces["acme"].repositories["fresh"].commit("trunk", {"a": b"a"}, "A\n")
    assert (await ask.write("PUT", FRESH, {"mainbranch": {"name": "trunk"}}, who)).status_code == 200
    assert (await ask(FRESH, who)).json()["mainbranch"]["name"] == "trunk"
    # A PUT makes what is not there: a typo is a repository.
    typo = await ask.write("PUT", "/repositories/acme/freshh", {}, who)
    assert typo.status_code == 201
    assert typo.json()["project"]["key"] == next(iter(ask.world.workspaces["acme"].projects))
    renamed = await ask.write("PUT", FRESH, {"name": "Other Name"}, who)
    assert renamed.headers["Location"].endswith("/repositories/acme/other-name")
    assert (await ask.write("DELETE", "/repositories/acme/other-name", None, who)).status_code == 204
    assert (await ask("/repositories/acme/other-name", who)).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scm": "hg"}, "scm"),
        ({"is_private": "yes"}, "is_private"),
        ({"description": 5}, "description"),
        ({"fork_policy": "some"}, "fork_policy"),
        ({"project": "WEB"}, "project"),
    ],
)
async def test_bodies_of_another_shape_are_refused(tmp_path: Path, body: Any, field: str) -> None:
    ask, who = await fresh(tmp_path)
    answer = await ask.write("PUT", FRESH, body, who)
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]


async def test_bodies_of_no_json_are_refused(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path / "a")
    assert (await ask.write("POST", f"{FRESH}/hooks", None, who)).status_code == 400
    assert (await ask.write("POST", f"{FRESH}/hooks", [], who)).status_code == 400
    json: dict[str, Any] = {"content": "{", "headers": {"Content-Type": "application/json"}}
    assert (await ask.write("POST", f"{FRESH}/hooks", None, who, **json)).status_code == 400
    assert (await ask.write("POST", f"{FRESH}/hooks", None, who, data={"url": "x"})).status_code == 415
    reviewer = f"{FRESH}/default-reviewers/{ask.world.users['bob@acme.example'].uuid}"
    assert (await ask.write("PUT", reviewer, None, who)).status_code == 200
    ask, who = await fresh(
        tmp_path / "b", wrong_media_type_is_415=False, empty_puts_refused=True, unknown_fields_refused=True
    )
    assert (await ask.write("POST", f"{FRESH}/hooks", None, who, data={"url": "x"})).status_code == 400
    assert (await ask.write("PUT", reviewer, None, who)).status_code == 400
    assert (await ask.write("PUT", FRESH, {"colour": "red"}, who)).status_code == 400


async def test_writing_needs_its_scopes_and_is_counted(tmp_path: Path) -> None:
    ask = Asking(tmp_path, limit=4)
    ann = ask.world.users["ann@acme.example"]
    assert (await ask.write("POST", FRESH, {})).status_code == 200
    answer = await ask.write("POST", f"{FRESH}/pipelines_config/variables", {"key": "A", "value": "b"})
    assert answer.status_code == 403
    assert answer.json()["error"]["detail"]["required"] == ["pipeline:variable"]
    assert (await ask.write("POST", f"{FRESH}/watchers", {})).status_code == 405
    assert (await ask.write("POST", f"{FRESH}/nothing", {})).status_code == 404
    assert (await ask.write("PUT", FRESH, {})).status_code == 429
    bare = ask.world.add_api_token(ann, [long_name("repository")])
    answer = await ask.write("PUT", FRESH, {}, basic(ann.email, bare))
    assert answer.status_code == 403
    assert answer.json()["error"]["detail"]["required"] == ["admin:repository:bitbucket"]


async def test_permissions_are_for_users_own_credentials(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path / "a")
    bob = ask.world.users["bob@acme.example"]
    place = f"{FRESH}/permissions-config/users/{bob.uuid}"
    answer = await ask.write("PUT", place, {"permission": "write"})
    assert answer.status_code == 403
    assert "not accessible by this authentication mechanism" in answer.json()["error"]["message"]
    assert (await ask.write("POST", f"{FRESH}/deploy-keys", {"key": KEY})).status_code == 403
    assert (await ask.write("PUT", place, {"permission": "owner"}, who)).status_code == 400
    assert (await ask.write("PUT", place, {"permission": "write"}, who)).status_code == 200
    [shown] = await ask.entries(f"{FRESH}/permissions-config/users", who)
    assert (shown["permission"], shown["user"]["uuid"]) == ("write", bob.uuid)
    effective = await ask.entries("/workspaces/acme/permissions/repositories?pagelen=100", who)
    assert [one["permission"] for one in effective if one["repository"]["full_name"] == "acme/fresh"] == [
        "write"
    ]
    groups = f"{FRESH}/permissions-config/groups"
    assert (await ask.write("PUT", f"{groups}/nobody", {"permission": "read"}, who)).status_code == 404
    assert (await ask.write("PUT", f"{groups}/developers", {"permission": "read"}, who)).status_code == 200
    stranger = ask.world.add_user("Sue", "sue@example.org", workspaces=[])
    place = f"{FRESH}/permissions-config/users/{stranger.uuid}"
    assert (await ask.write("PUT", place, {"permission": "write"}, who)).status_code == 400
    ask, who = await fresh(
        tmp_path / "b", access_tokens_change_permissions=True, access_tokens_change_deploy_keys=True
    )
    place = f"{FRESH}/permissions-config/users/{bob.uuid}"
    assert (await ask.write("PUT", place, {"permission": "write"})).status_code == 200
    assert (await ask.write("POST", f"{FRESH}/deploy-keys", {"key": KEY})).status_code == 200


async def test_nobody_is_given_access_beyond_the_seats(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    eve = ask.world.users["eve@acme.example"]
    ask.world.workspaces["acme"].seats = 3
    place = f"{FRESH}/permissions-config/users"
    answer = await ask.write("PUT", f"{place}/{eve.uuid}", {"permission": "read"}, who)
    assert answer.status_code == 402
    # Who has access elsewhere has a seat.
    bob = ask.world.users["bob@acme.example"]
    assert (await ask.write("PUT", f"{place}/{bob.uuid}", {"permission": "read"}, who)).status_code == 200


async def test_restrictions_are_one_for_each_kind_and_match(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    place = f"{FRESH}/branch-restrictions"
    ann = ask.world.users["ann@acme.example"]
    force = {"kind": "force", "branch_match_kind": "glob", "pattern": "main"}
    assert (await ask.write("POST", place, force, who)).status_code == 201
    assert (await ask.write("POST", place, force, who)).status_code == 400
    assert (await ask.write("POST", place, {**force, "pattern": "v*"}, who)).status_code == 201
    of_people = {**force, "users": [{"uuid": ann.uuid}], "groups": []}
    assert (await ask.write("POST", place, {**of_people, "pattern": "x"}, who)).status_code == 400
    push = {**of_people, "kind": "push"}
    assert (await ask.write("POST", place, {**force, "kind": "push"}, who)).status_code == 400
    made = await ask.write("POST", place, push, who)
    assert made.status_code == 201
    assert [one["uuid"] for one in made.json()["users"]] == [ann.uuid]
    number = made.json()["id"]
    changed = await ask.write("PUT", f"{place}/{number}", {"groups": [{"slug": "developers"}]}, who)
    assert [one["slug"] for one in changed.json()["groups"]] == ["developers"]
    assert (await ask.write("DELETE", f"{place}/{number}", None, who)).status_code == 204
    assert len(await ask.entries(place, who)) == 2


async def test_a_branching_model_names_branches_that_are_there(tmp_path: Path) -> None:
    for stops in (False, True):
        ask, who = await fresh(tmp_path / str(stops), branching_model_stops_inheriting=stops)
        place = f"{FRESH}/branching-model/settings"
        other = {"development": {"name": "dev", "use_mainbranch": False}}
        assert (await ask.write("PUT", place, other, who)).status_code == 400
        ask.world.workspaces["acme"].repositories["fresh"].commit("dev", {"a": b"a"}, "A\n")
        body = {
            **other, "default_branch_deletion": "true",
            "branch_types": [{"kind": "feature", "prefix": "f/", "enabled": True}],
        }  # fmt: skip
        assert (await ask.write("PUT", place, body, who)).status_code == 200
        clash = {"branch_types": [{"kind": "bugfix", "prefix": "f/b/"}]}
        assert (await ask.write("PUT", place, clash, who)).status_code == 400
        shown = (await ask(place, who)).json()
        assert shown["development"] == {"name": "dev", "use_mainbranch": False, "is_valid": True}
        assert (shown["default_branch_deletion"], shown["branch_types"]) == ("true", body["branch_types"])
        model = (await ask(f"{FRESH}/branching-model", who)).json()
        assert model["branch_types"] == [{"kind": "feature", "prefix": "f/"}]
        inherits = (await ask(f"{FRESH}/override-settings", who)).json()["override_settings"]
        assert inherits.get("branching_model", False) is stops
        body = {"override_settings": {"default_merge_strategy": True}}
        answer = await ask.write("PUT", f"{FRESH}/override-settings", body, who)
        assert (answer.status_code, answer.content) == (204, b"")


async def test_hooks_keep_their_secret_to_themselves(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path / "a")
    hook = {"url": "https://ci.acme.example/", "events": ["repo:push", "issue:created"], "secret": "s3"}
    for place in (f"{FRESH}/hooks", "/workspaces/acme/hooks"):
        made = await ask.write("POST", place, hook, who)
        assert made.status_code == 201
        assert made.json()["secret_set"] and "secret" not in made.json()
        uuid = made.json()["uuid"]
        assert ask.world.secrets[uuid] == "s3"
        changed = await ask.write("PUT", f"{place}/{uuid}", {"active": False, "secret": None}, who)
        assert (changed.json()["active"], changed.json()["secret_set"]) == (False, False)
        assert (await ask.write("DELETE", f"{place}/{uuid}", None, who)).status_code == 204
    for bad in (
        {**hook, "events": ["repo:sneezed"]},
        {**hook, "events": []},
        {**hook, "url": "http://10.0.0.1/"},
        {"url": hook["url"]},
    ):
        assert (await ask.write("POST", f"{FRESH}/hooks", bad, who)).status_code == 400
    # An access token has no scope of issues.
    token = ask.world.add_workspace_access_token("acme", {"webhook", "repository"})
    assert (await ask.write("POST", f"{FRESH}/hooks", hook, f"Bearer {token}")).status_code == 403
    ask, who = await fresh(tmp_path / "b", hook_events_need_scopes=False, issue_events_refused=True)
    assert (await ask.write("POST", f"{FRESH}/hooks", hook, who)).status_code == 400
    token = ask.world.add_workspace_access_token("acme", {"webhook", "repository"})
    hook["events"] = ["repo:push", "pullrequest:created"]
    assert (await ask.write("POST", f"{FRESH}/hooks", hook, f"Bearer {token}")).status_code == 201


async def test_default_reviewers_have_access(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    bob = ask.world.users["bob@acme.example"]
    stranger = ask.world.add_user("Sue", "sue@example.org", workspaces=[])
    for place in (f"{FRESH}/default-reviewers", "/workspaces/acme/projects/CORE/default-reviewers"):
        for _ in range(2):
            assert (await ask.write("PUT", f"{place}/{bob.uuid}", {}, who)).status_code == 200
        assert (await ask.write("PUT", f"{place}/{stranger.uuid}", {}, who)).status_code == 400
        assert (await ask.write("PUT", f"{place}/{{nobody}}", {}, who)).status_code == 404
        shown = await ask.entries(place, who)
        assert [one.get("user", one)["uuid"] for one in shown].count(bob.uuid) == 1
        assert (await ask.write("DELETE", f"{place}/{bob.uuid}", None, who)).status_code == 204


async def test_deploy_keys(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    for place in (f"{FRESH}/deploy-keys", "/workspaces/acme/projects/CORE/deploy-keys"):
        made = await ask.write("POST", place, {"key": KEY, "label": "ci"}, who)
        assert made.status_code == 200
        shown = {name: made.json()[name] for name in ("label", "comment")}
        assert shown == {"label": "ci", "comment": "ann@acme.example"}
        assert (await ask.write("POST", place, {"key": KEY}, who)).status_code == 400
        assert (await ask.write("POST", place, {"key": "no key"}, who)).status_code == 400
    [key] = await ask.entries(f"{FRESH}/deploy-keys", who)
    one = f"{FRESH}/deploy-keys/{key['id']}"
    assert (await ask.write("PUT", one, {"key": KEY, "label": "cd"}, who)).json()["label"] == "cd"
    assert (await ask.write("DELETE", one, None, who)).status_code == 204
    assert await ask.entries(f"{FRESH}/deploy-keys", who) == []
