"""The meaning of a 403, a 404 and a 410 for each kind: absent only if proven, missing otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.bitbucket.failures import Denied
from mirror.collect.catalogue import CATALOGUE, Meaning, rows
from mirror.config import load
from mirror.model import Part, Run, Selector
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.responses import json_response
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

DAY = 86400.0
NAME = "acme/website"
HERE = "GET /2.0/repositories/acme/website"


def make(folder: Path, scopes: set[str] | frozenset[str], switches: Switches) -> Iterator[Place]:
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", scopes)
    with Simulator(world, switches=switches) as simulator:
        config = load(write_config(folder, simulator, token))
        only = replace(config.workspaces[0], include=("website",))
        yield Place(folder, simulator, replace(config, workspaces=(only,)))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """One repository, and a credential that can read all of it."""
    yield from make(tmp_path, SCOPES | {"issue"}, Switches(issue_tracker=True))


def part(run: Run, name: str, of: str = NAME) -> Part:
    [found] = [one for one in run.entries if one.full_name == of]
    return found.parts[name]


def documents(place: Place) -> dict[str, Any]:
    with place.store() as store:
        metadata = store.repository(Selector.parse(NAME)).metadata
        latest = metadata.latest()
        assert latest is not None
        return {
            path: metadata.read(latest, path) for path in metadata.paths(latest) if path != "snapshot.json"
        }


def marks(place: Place) -> dict[str, str]:
    """What the settings lack, by kind."""
    found = documents(place).get("settings/_parts.json") or {}
    return {name: mark["state"] for name, mark in found.items()}


def refuse(place: Place, status: int, *paths: str) -> None:
    for path in paths:
        place.simulator.order(Fault(f"{HERE}{path}", status=status, times=1000))


async def later(place: Place, seconds: float, **more: Any) -> Run:
    place.clock.elapsed += seconds
    return await place.run(**more)


# Each setting that is a single response, and whose URL names only the repository.
PLAIN = [
    row
    for row in rows(level="repository")
    if row.upkeep == "slowly" and row.endpoint.template.count("{") == 2 and row.name != "schedules"
]


async def test_a_404_of_what_is_held_is_no_absence_yet(place: Place) -> None:
    await place.run()
    before = documents(place)
    for row in PLAIN:
        refuse(place, 404, row.endpoint.template.removeprefix("/repositories/{workspace}/{repository}"))
    run = await later(place, 8 * DAY)
    assert run.exit_code == 3
    # Stored data that may be absent counts as missing, too, until the refusal has lasted.
    wanted = dict.fromkeys((row.name for row in PLAIN), "partial")
    # No access token can read these.
    wanted |= dict.fromkeys(("users_permissions", "groups_permissions"), "unavailable")
    assert {name: state for name, state in marks(place).items() if name in wanted} == wanted
    assert {"webhooks", "branch_restrictions", "downloads", "default_reviewers", "deploy_keys"} <= {
        name for name, state in wanted.items() if state == "partial"
    }
    after = documents(place)
    settings = [path for path in before if path.startswith("settings/") and "_parts" not in path]
    assert {path: after[path] for path in settings} == {path: before[path] for path in settings}
    place.simulator.faults.clear()
    assert (await place.run()).exit_code == 0
    assert {name for name, state in marks(place).items() if state == "partial"} == set()


async def test_a_404_storm_is_no_clean_run_and_nothing_is_forgotten_for_it(place: Place) -> None:
    """Everything is "not found" for most of an hour, as it really happened, and then is back."""
    place.acme.repositories["website"].add_pipeline(steps=[("build", b"built\n")])
    refuse(place, 404, "", "/*")
    run = await place.run()
    assert run.exit_code == 3
    states = {name: str(one.state) for name, one in part_states(run).items()}
    assert states == {**dict.fromkeys(states, "partial"), "issues": "unavailable"}
    place.simulator.faults.clear()
    run = await later(place, 8 * DAY, full=True)
    assert run.exit_code == 0
    assert {str(one.state) for one in part_states(run).values()} == {"complete"}
    calm = documents(place)
    refuse(place, 404, "", "/*")
    assert (await later(place, 8 * DAY)).exit_code == 3
    place.simulator.faults.clear()
    assert (await later(place, 3600, full=True)).exit_code == 0
    assert documents(place) == calm


def part_states(run: Run) -> dict[str, Part]:
    [found] = [one for one in run.entries if one.full_name == NAME]
    names = (
        "pull_requests", "issues", "pipelines", "pipeline_logs", "settings", "downloads", "commit_comments",
    )  # fmt: skip
    return {name: found.parts[name] for name in names}


async def test_a_log_that_is_not_found_in_a_storm_is_asked_for_again(place: Place) -> None:
    refuse(place, 404, "", "/pipelines/*/log")
    assert (await place.run()).exit_code == 3
    place.simulator.faults.clear()
    assert (await place.run()).exit_code == 0
    [logs] = [one["logs"] for path, one in documents(place).items() if path == "pipelines/0/1.json"]
    assert len(logs) == len(place.acme.repositories["website"].pipelines[1].steps)


@pytest.mark.parametrize(("path", "name"), [("/pullrequests", "pull_requests"), ("/hooks", "settings")])
async def test_a_410_for_what_was_held_is_told_until_it_has_lasted(
    place: Place, path: str, name: str
) -> None:
    """A brown-out ends after some hours."""
    await place.run()
    before = documents(place)
    place.clock.elapsed += 8 * DAY
    refuse(place, 410, path)
    for seconds, exit_code in ((0, 3), (DAY, 3), (DAY, 3), (1.1 * DAY, 0)):
        run = await later(place, seconds)
        assert run.exit_code == exit_code, seconds
        state = str(part(run, name).state)
        assert state == ("partial" if exit_code else "gone" if name == "pull_requests" else "complete")
        if exit_code:
            assert "410" in (part(run, name).reason or "")
    kept = documents(place)
    assert all(kept[one] == data for one, data in before.items() if one.startswith("pull-requests/"))
    place.simulator.faults.clear()
    assert (await later(place, 8 * DAY)).exit_code == 0
    assert "webhooks" not in marks(place)


async def test_a_brown_out_that_ends_is_forgotten(place: Place) -> None:
    await place.run()
    refuse(place, 410, "/pullrequests")
    assert (await place.run()).exit_code == 3
    place.simulator.faults.clear()
    assert (await later(place, 3 * DAY)).exit_code == 0
    refuse(place, 410, "/pullrequests")
    assert (await place.run()).exit_code == 3, "the days are counted from its own begin"


async def test_a_410_on_the_first_run_is_no_absence_but_of_what_has_ended(place: Place) -> None:
    refuse(place, 410, "/hooks", "/issues", "/milestones", "/versions", "/components")
    run = await place.run()
    assert run.exit_code == 3 and marks(place)["webhooks"] == "partial"
    assert str(part(run, "issues").state) == "gone"


async def test_issues_that_were_held_are_missed_for_three_days(place: Place) -> None:
    ann = place.world.users["ann@acme.example"]
    place.acme.repositories["website"].add_issue("Broken", author=ann)
    await place.run()
    app = place.simulator.app
    app.switches = replace(app.switches, issue_tracker=False)
    for seconds, exit_code in ((0, 3), (DAY, 3), (2.1 * DAY, 0), (8 * DAY, 0), (8 * DAY, 0)):
        run = await later(place, seconds)
        assert run.exit_code == exit_code, seconds
    assert str(part(run, "issues").state) == "gone"
    assert "issues/0/1.json" in documents(place)


async def test_what_was_refused_is_asked_for_in_the_next_run_and_nothing_else(place: Place) -> None:
    refuse(place, 403, "/hooks", "/downloads")
    run = await place.run()
    assert (run.exit_code, str(part(run, "settings").state), str(part(run, "downloads").state)) == (
        3, "denied", "denied"
    )  # fmt: skip
    assert "denied: webhooks (webhooks: denied (403)" in (part(run, "settings").reason or "")
    place.simulator.requests.clear()
    assert (await later(place, 60)).exit_code == 3
    asked = [one.path.removeprefix("/2.0/repositories/acme") for one in place.simulator.requests]
    assert asked.count("/website/hooks") == asked.count("/website/downloads") == 1
    assert not [one for one in asked if "branch" in one or "variables" in one]
    place.simulator.faults.clear()
    run = await later(place, 60)
    assert run.exit_code == 0 and "settings/webhooks.json" in documents(place)
    place.simulator.requests.clear()
    assert (await later(place, 60)).exit_code == 0
    assert not [one for one in place.simulator.requests if one.path.endswith("/hooks")]


async def test_a_scope_that_a_single_credential_lacks_is_not_asked_for_kind_by_kind(tmp_path: Path) -> None:
    for place in make(tmp_path, SCOPES - {"repository:admin"}, Switches()):
        everything = replace(place.config.workspaces[0], include=("*",))
        place.config = replace(place.config, workspaces=(everything,))
        run = await place.run()
        assert run.exit_code == 3
        refused = [one.path for one in place.simulator.requests if one.status == 403]
        # Repositories that run concurrently may each ask once, but never for a second kind.
        assert any(one.endswith("/branch-restrictions") for one in refused)
        assert not [one for one in refused if "/repositories/" in one and one.endswith("/deploy-keys")]
        for entry in run.entries:
            if entry.kind == "repository":
                told = entry.parts["settings"]
                assert str(told.state) == "denied" and "repository:admin" in (told.scope or "")
                assert "deploy keys" in (told.reason or "")


BLOCKED = {
    "a page": ("<html>Your address is not allowed</html>", "text/html"),
    "a text": ("Forbidden", "text/plain"),
    "nothing": ("", ""),
    "an address that is not on the list": (
        '{"type": "error", "error": {"message": "To access this workspace, use an allowlisted IP address"}}',
        "application/json",
    ),
    "no reason": ('{"type": "error", "error": {"message": "Access denied."}}', "application/json"),
}


@pytest.mark.parametrize("name", BLOCKED)
async def test_a_refusal_of_where_somebody_asks_from_is_not_taken_for_one_of_the_kind(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Access tokens have no scope for issues; but a firewall's refusal does not mean that."""
    content, kind = BLOCKED[name]
    blocked = json_response({}, 403)
    blocked.body = content.encode()
    blocked.headers["content-type"], blocked.headers["content-length"] = kind, str(len(content))
    for place in make(tmp_path, SCOPES, Switches()):
        with monkeypatch.context() as patched:
            patched.setattr(Fault, "response", lambda _: blocked)
            refuse(place, 403, "/issues")
            run = await place.run()
        assert (run.exit_code, str(part(run, "issues").state)) == (3, "denied")
        place.simulator.faults.clear()
        assert str(part(await place.run(), "issues").state) in ("unavailable", "gone")


@pytest.mark.parametrize(
    ("said", "names_scope", "is_it"),
    [
        ("Your credentials lack one or more required privilege scopes.", True, True),
        ("This API is not accessible by this authentication mechanism", True, True),
        ("Access tokens may not query permissions.", False, True),
        ("The requesting user isn't an admin of the repository.", False, True),
        ("Access denied.", True, False),
        ("Your IP is not on the allow list of this workspace", False, False),
        ("Two-step verification is required", False, False),
        (None, False, False),
    ],
)
def test_which_words_are_of_the_kind(said: str | None, names_scope: bool, is_it: bool) -> None:
    error = Denied("denied", status=403)
    error.said = said
    assert error.is_for_kind(names_scope=names_scope) == is_it


@pytest.mark.parametrize("config", ["off", "never on", "on", "hidden"])
@pytest.mark.parametrize("status", [403, 404])
async def test_pipelines_that_are_refused_are_absent_where_they_are_off(
    place: Place, config: str, status: int
) -> None:
    website = place.acme.repositories["website"]
    website.pipelines.clear()
    if config == "off":
        website.settings["pipelines_config"] = {"type": "pipelines_config", "enabled": False}
    elif config == "never on":
        del website.settings["pipelines_config"]
    elif config == "hidden":
        refuse(place, 403, "/pipelines_config")
    refuse(place, status, "/pipelines/")
    run = await place.run()
    is_off = config in ("off", "never on")
    assert str(part(run, "pipelines").state) == (
        "gone" if is_off else "denied" if status == 403 else "partial"
    )
    assert run.exit_code == (0 if is_off else 3)
    place.simulator.requests.clear()
    await place.run()
    if is_off:
        asked = [one for one in place.simulator.requests if one.kind == "api"]
        assert [one.path.rstrip("/").rpartition("/")[2] for one in asked if "/acme/website" in one.path] == [
            "pullrequests", "issues", "pipelines"
        ]  # fmt: skip


async def test_lists_of_the_tracker_that_fail_are_told_with_the_issues(place: Place) -> None:
    refuse(place, 403, "/versions")
    run = await place.run()
    assert (run.exit_code, str(part(run, "issues").state)) == (3, "denied")
    place.simulator.faults.clear()
    assert (await place.run()).exit_code == 0


def test_each_row_says_what_is_honestly_absent() -> None:
    for row in CATALOGUE:
        may_be_absent = Meaning.NONE in (row.not_found,) or row.not_found is Meaning.OFF
        assert may_be_absent == bool(row.absence), row.kind
        assert (row.forbidden is Meaning.OFF) == (row.not_found is Meaning.OFF), row.kind
