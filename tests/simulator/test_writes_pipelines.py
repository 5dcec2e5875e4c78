"""Writing what pipelines are set up with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.simulator.test_writes import FRESH, fresh

CONFIG = f"{FRESH}/pipelines_config"
SCHEDULE: dict[str, Any] = {
    "cron_pattern": "0 0 3 * * ? *", "enabled": False,
    "target": {"ref_type": "branch", "ref_name": "main", "selector": {"type": "branches", "pattern": "main"}},
}  # fmt: skip


async def test_environments_may_come_with_pipelines(tmp_path: Path) -> None:
    for come in (False, True):
        ask, who = await fresh(tmp_path / str(come), environments_come_with_pipelines=come)
        assert (await ask(CONFIG, who)).status_code == 404
        assert (await ask.write("PUT", CONFIG, {"enabled": True}, who)).json()["enabled"] is True
        shown = await ask.entries(f"{FRESH}/environments", who)
        assert [one["name"] for one in shown] == (["Test", "Staging", "Production"] if come else [])
        body = {"name": "Production", "environment_type": {"name": "Production"}}
        made = await ask.write("POST", f"{FRESH}/environments", body, who)
        assert made.status_code == (409 if come else 201)


async def test_pipelines_may_have_to_be_switched_on_first(tmp_path: Path) -> None:
    for need in (False, True):
        ask, who = await fresh(tmp_path / str(need), pipelines_settings_need_pipelines=need)
        body = {"key": "A", "value": "b"}
        made = await ask.write("POST", f"{CONFIG}/variables", body, who)
        assert made.status_code == (403 if need else 201)
        await ask.write("PUT", CONFIG, {"enabled": True}, who)
        made = await ask.write("POST", f"{CONFIG}/variables", {**body, "key": "B"}, who)
        assert made.status_code == 201


async def test_variables_are_there_once_and_secured_ones_are_never_read(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    made = await ask.write("POST", f"{FRESH}/environments", {"name": "Test"}, who)
    environment = made.json()["uuid"]
    for place in (
        f"{CONFIG}/variables",
        "/workspaces/acme/pipelines-config/variables",
        f"{FRESH}/deployments_config/environments/{environment}/variables",
    ):
        plain = {"key": "PLACE", "value": "here", "secured": False}
        made = await ask.write("POST", place, plain, who)
        assert made.status_code == 201
        assert {name: made.json()[name] for name in plain} == plain
        assert (await ask.write("POST", place, plain, who)).status_code == 409
        secured = await ask.write("POST", place, {"key": "TOKEN", "value": "s3", "secured": True}, who)
        assert "value" not in secured.json()
        assert ask.world.secrets[secured.json()["uuid"]] == "s3"
        one = f"{place}/{made.json()['uuid']}"
        assert (await ask.write("PUT", one, {"key": "TOKEN"}, who)).status_code == 409
        assert (await ask.write("PUT", one, {"value": "there"}, who)).json()["value"] == "there"
        shown = {one["key"]: one for one in await ask.entries(place, who)}
        assert (shown["PLACE"]["value"], "value" in shown["TOKEN"]) == ("there", False)
        assert (await ask.write("DELETE", one, None, who)).status_code == 204
        assert (await ask.write("POST", place, {"key": "1 2", "value": ""}, who)).status_code == 400
        assert (await ask.write("POST", place, {"key": "A"}, who)).status_code == 400


async def test_build_numbers_go_upwards_only(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    repository = ask.world.workspaces["acme"].repositories["fresh"]
    repository.commit("main", {"a": b"a"}, "A\n")
    repository.add_pipeline(steps=[])
    place = f"{CONFIG}/build_number"
    assert (await ask.write("PUT", place, {"next": 1}, who)).status_code == 400
    assert (await ask.write("PUT", place, {"next": 7}, who)).json()["next"] == 7
    assert repository.add_pipeline(steps=[]).number == 7
    assert repository.add_pipeline(steps=[]).number == 8


async def test_schedules_have_a_cap_that_looks_like_a_bad_credential(tmp_path: Path) -> None:
    for looks in (True, False):
        ask, who = await fresh(tmp_path / str(looks), too_many_schedules_is_401=looks)
        place = f"{CONFIG}/schedules"
        made = await ask.write("POST", place, SCHEDULE, who)
        assert made.status_code == 201
        assert {name: made.json()[name] for name in ("cron_pattern", "enabled")} == {
            name: SCHEDULE[name] for name in ("cron_pattern", "enabled")
        }
        assert made.json()["target"]["selector"] == SCHEDULE["target"]["selector"]
        assert (await ask.write("POST", place, {**SCHEDULE, "cron_pattern": "* *"}, who)).status_code == 400
        one = f"{place}/{made.json()['uuid']}"
        assert (await ask.write("PUT", one, {"enabled": True}, who)).json()["enabled"] is True
        ask.world.sizes["schedules"] = 1
        assert (await ask.write("POST", place, SCHEDULE, who)).status_code == (401 if looks else 400)
        assert (await ask.write("DELETE", one, None, who)).status_code == 204


async def test_keys_and_hosts(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    place = f"{CONFIG}/ssh/key_pair"
    assert (await ask.write("PUT", place, {}, who)).status_code == 400
    pair = {"private_key": "secret", "public_key": "ssh-rsa AAAA"}
    assert "private_key" not in (await ask.write("PUT", place, pair, who)).json()
    assert (await ask(place, who)).json()["public_key"] == "ssh-rsa AAAA"
    assert (await ask.write("DELETE", place, None, who)).status_code == 204
    assert (await ask(place, who)).status_code == 404
    place = f"{CONFIG}/ssh/known_hosts"
    host = {"hostname": "a.example", "public_key": {"key_type": "ssh-rsa", "key": "AAAA"}}
    made = await ask.write("POST", place, host, who)
    assert made.status_code == 201
    assert (await ask.write("POST", place, host, who)).status_code == 409
    one = f"{place}/{made.json()['uuid']}"
    assert (await ask.write("PUT", one, {"hostname": "b.example"}, who)).json()["hostname"] == "b.example"
    assert (await ask.write("DELETE", one, None, who)).status_code == 204


async def test_environments_change_by_a_request_of_its_own(tmp_path: Path) -> None:
    ask, who = await fresh(tmp_path)
    place = f"{FRESH}/environments"
    made = await ask.write("POST", place, {"name": "Shop", "rank": 4}, who)
    assert (made.json()["slug"], made.json()["rank"]) == ("shop", 4)
    one = f"{place}/{made.json()['uuid']}"
    changes = {"change": {"name": "Store", "restrictions": {"admin_only": True}}}
    assert (await ask.write("POST", f"{one}/changes", changes, who)).status_code == 202
    [shown] = await ask.entries(place, who)
    assert (shown["name"], shown["restrictions"]) == ("Store", {"admin_only": True})
    assert (await ask.write("DELETE", one, None, who)).status_code == 204
