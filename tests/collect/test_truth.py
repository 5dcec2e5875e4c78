"""What a snapshot says of each part: denied is not empty, gone keeps the old data, unchanged is unchanged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from mirror.collect.context import BATCH, Context
from mirror.collect.failures import REFUSALS_MAX
from mirror.collect.marks import SETTINGS as MARKS
from mirror.config import load
from mirror.model import Run, RunEntry, Selector
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.world.people import braced
from mirror.simulator.world.sample import SCOPES, populate
from tests.crash.points import SOAK
from tests.e2e.helpers import write_config
from tests.place import Place

DAY = 86400.0


def entry(run: Run, name: str = "acme/website") -> RunEntry:
    [found] = [one for one in run.entries if one.full_name == name]
    return found


def document(place: Place, path: str, name: str = "acme/website") -> Any:
    with place.store() as store:
        folder = store.repository(Selector.parse(name))
        latest = folder.metadata.latest()
        assert latest is not None
        return folder.metadata.read(latest, path)


async def test_what_cannot_be_had_is_marked_before_it_counts_as_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any checkpoint, the next run does not treat it as complete."""
    told: list[bool] = []
    checkpoint = Context.checkpoint_if_due

    def checked(context: Context) -> None:
        if "users_permissions" in (context.state.settings.done or []):
            marks = context.draft.get(MARKS)
            told.append(isinstance(marks, dict) and "users_permissions" in marks)
        checkpoint(context)

    monkeypatch.setattr(Context, "checkpoint_if_due", checked)
    assert (await place.run()).exit_code == 0
    assert told and all(told)


async def test_the_best_workspace_token_ends_well_and_says_what_it_can_never_see(place: Place) -> None:
    run = await place.run()
    assert run.exit_code == 0
    website, workspace = entry(run), entry(run, "acme")
    assert website.parts["settings"].state == "complete"
    assert "unavailable: groups' permissions, users' permissions" in (website.parts["settings"].reason or "")
    assert workspace.parts["snippets"].state == "unavailable"
    marks = document(place, "settings/_parts.json")
    assert marks["users_permissions"] == {"state": "unavailable"}
    assert document(place, "settings/users-permissions.json") is None


SEEDS = (0, 1, 2, 11) if SOAK else (0, 11)
MIXES = {
    "default": Switches.default(),
    "inverted": Switches.inverted(),
    **{f"mix{seed}": Switches.seeded(seed) for seed in SEEDS},
}


@pytest.mark.parametrize("switches", MIXES.values(), ids=MIXES)
async def test_nothing_changes_where_nothing_changed(tmp_path: Path, switches: Switches) -> None:
    """Over days, with every sweep and every round of settings."""
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world, switches=switches) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        assert (await place.run()).exit_code == 0
        for _ in range(9):
            place.clock.elapsed += DAY
            run = await place.run()
            assert {str(one.outcome) for one in run.entries} == {"confirmed"}
        assert (await place.run()).exit_code == 0


async def test_a_missing_scope_is_denied_and_named_and_keeps_what_was(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        await place.run()
        hooks = document(place, "settings/webhooks.json")
        assert len(hooks) == 1
        world.revoke(token)
        write_config(tmp_path, simulator, world.add_workspace_access_token("acme", SCOPES - {"webhook"}))
        place.clock.elapsed += 2 * DAY
        run = await place.run()
    assert run.exit_code == 3
    part = entry(run).parts["settings"]
    assert (part.state, part.scope) == ("denied", "webhook")
    assert document(place, "settings/webhooks.json") == hooks
    assert document(place, "settings/_parts.json")["webhooks"] == {"state": "denied", "scope": "webhook"}


async def test_the_absence_of_one_kind_can_be_agreed_and_is_told_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES - {"webhook"})
    agreement = "    accept_missing: [settings/webhooks, settings/workspace-webhooks]\n"
    with Simulator(world) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        assert (await place.run()).exit_code == 3
        place.config = load(write_config(tmp_path, simulator, token, more=agreement))
        # At once, and not with the next round of settings.
        run = await place.run()
        assert run.exit_code == 0
        part = entry(run).parts["settings"]
        assert (part.state, part.scope) == ("complete", None)
        assert "denied: webhooks (agreed)" in (part.reason or "") and part.counts["kinds_denied"] == 1
        assert document(place, "settings/_parts.json")["webhooks"] == {"state": "denied", "scope": "webhook"}
        # What is not in accept_missing still counts.
        world.revoke(token)
        less = world.add_workspace_access_token("acme", SCOPES - {"webhook", "runner"})
        place.config = load(write_config(tmp_path, simulator, less, more=agreement))
        place.clock.elapsed += 2 * DAY
        run = await place.run()
    assert run.exit_code == 3
    part = entry(run).parts["settings"]
    assert (part.state, part.scope) == ("denied", "runner")


async def test_the_variables_of_one_environment_keep_no_other_out(tmp_path: Path) -> None:
    """Nor do they prevent a good end of the run, if accept_missing names them."""
    world = World(tmp_path / "upstream")
    populate(world)
    website = world.workspaces["acme"].repositories["website"]
    [first] = website.settings["environments"]
    more = [{**first, "uuid": braced("environment", str(number))} for number in range(2)]
    website.settings["environments"] += more
    token = world.add_workspace_access_token("acme", SCOPES)
    agreement = "    accept_missing: [settings/environment-variables]\n"
    where = "GET /2.0/repositories/acme/website/deployments_config/*"
    with Simulator(world) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        simulator.order(Fault(where, status=403, times=100))
        assert (await place.run()).exit_code == 3
        with place.store() as store:
            folder = store.repository(Selector.parse("acme/website"))
            latest = folder.metadata.latest()
            assert latest is not None
            paths = folder.metadata.paths(latest, "environments")
        assert len(paths) == 3
        for path in paths:
            assert document(place, path)["_parts"]["variables"]["state"] == "denied"
        place.config = load(write_config(tmp_path, simulator, token, more=agreement))
        place.clock.elapsed += 2 * DAY
        assert (await place.run()).exit_code == 0


async def test_a_kind_that_went_keeps_its_documents_marked_with_when(place: Place) -> None:
    await place.run()
    website = place.acme.repositories["website"]
    before = document(place, "settings/ssh-key-pair.json")
    del website.settings["key_pair"]
    website.settings["environments"] = []
    website.downloads.clear()
    place.clock.elapsed += 2 * DAY
    # A 404 for a stored key pair counts as missing, until it has lasted three days.
    assert (await place.run()).exit_code == 3
    assert document(place, "settings/_parts.json")["ssh_key_pair"]["state"] == "partial"
    assert document(place, "settings/ssh-key-pair.json") == before
    place.clock.elapsed += 4 * DAY
    assert (await place.run()).exit_code == 0
    marks = document(place, "settings/_parts.json")
    assert document(place, "settings/ssh-key-pair.json") == before
    assert marks["ssh_key_pair"]["state"] == "gone"
    since = marks["ssh_key_pair"]["since"]
    [download] = document(place, "downloads.json")
    assert download["_gone"]["state"] == "gone" and download["_content"]["size"] > 0
    # In every later snapshot, and not newly gone each time.
    website.commit("main", {"a": b"1"}, "More\n")
    place.clock.elapsed += 8 * DAY
    await place.run()
    assert document(place, "settings/_parts.json")["ssh_key_pair"]["since"] == since
    assert document(place, "downloads.json") == [download]


async def test_a_server_in_trouble_is_not_an_empty_list(place: Place) -> None:
    place.simulator.order(Fault("GET /2.0/repositories/acme/website/hooks", status=503, times=5))
    run = await place.run()
    assert run.exit_code == 75
    assert entry(run).parts["settings"].state == "partial"
    assert document(place, "settings/webhooks.json") is None
    # The next run asks for missing settings, and for no others.
    place.simulator.requests.clear()
    assert (await place.run()).exit_code == 0
    settings = [one for one in place.simulator.requests if "/website/" in one.path and "pull" not in one.path]
    assert [one.path.rpartition("/website/")[2] for one in settings if "pipelines/" not in one.path] == [
        "hooks"
    ]
    assert len(document(place, "settings/webhooks.json")) == 1


async def test_what_git_lacks_is_kept_as_commits_and_patch(place: Place) -> None:
    """A squashed pull request whose branch was deleted."""
    await place.run()
    kept = document(place, "pull-requests/0/1.json", "acme/billing")
    pull = place.acme.repositories["billing"].pull_requests[1]
    assert [one["hash"] for one in kept["commits"]] == [pull.source_hash]
    with place.store() as store:
        stored = store.repository(Selector.parse("acme/billing")).file(kept["patch"]["sha256"])
        assert stored is not None
        with stored:
            assert pull.source_hash.encode() in stored.read()
    assert document(place, "pull-requests/0/1.json")["commits"] is None


async def test_an_approval_that_moves_no_time_is_seen_within_a_day(place: Place) -> None:
    await place.run()
    pull = place.acme.repositories["website"].pull_requests[3]
    eve = place.world.users["eve@acme.example"]
    pull.approve(eve)
    place.clock.elapsed += DAY
    await place.run()
    kept = document(place, "pull-requests/0/3.json")
    assert any("approval" in one for one in kept["activity"])
    approved = {one["user"]["uuid"] for one in kept["pull_request"]["participants"] if one["approved"]}
    assert eve.uuid in approved


async def test_a_task_that_moves_no_time_is_seen_by_the_sweep(place: Place) -> None:
    await place.run()
    pull = place.acme.repositories["website"].pull_requests[3]
    [task] = pull.tasks
    task.resolved = True
    place.clock.elapsed += 8 * DAY
    await place.run()
    [kept] = document(place, "pull-requests/0/3.json")["tasks"]
    assert kept["state"] == "RESOLVED"


async def test_a_pipeline_that_was_running_is_looked_at_until_it_has_ended(place: Place) -> None:
    website = place.acme.repositories["website"]
    running = website.add_pipeline(steps=[("build", b"so far\n")], result=None)
    assert (await place.run()).exit_code == 0
    for _ in range(130):
        website.add_pipeline(steps=[("build", b"Done.\n")])
    await place.run()
    running.finish()
    running.steps[0].log = b"so far\nand done\n"
    place.clock.elapsed += DAY
    assert (await place.run()).exit_code == 0
    kept = document(place, f"pipelines/0/{running.number}.json")
    assert kept["pipeline"]["state"]["name"] == "COMPLETED"
    assert [one["size"] for one in kept["logs"].values()] == [16]


async def test_a_pull_request_that_vanished_keeps_its_document(place: Place) -> None:
    await place.run()
    website = place.acme.repositories["website"]
    del website.pull_requests[2]
    place.clock.elapsed += 8 * DAY
    run = await place.run()
    assert entry(run).parts["pull_requests"].counts["pull_requests_gone"] == 1
    kept = document(place, "pull-requests/0/2.json")
    assert kept["_parts"]["pull_request"]["state"] == "gone" and "since" in kept["_parts"]["pull_request"]


async def test_what_could_not_be_had_is_found_again_without_the_cursors(place: Place) -> None:
    """state.json is a cache: a sweep rebuilds it, including the list of what is still to ask."""
    place.simulator.order(Fault("GET /2.0/repositories/acme/website/pullrequests/1/comments", status=403))
    assert (await place.run()).exit_code == 3
    assert document(place, "pull-requests/0/1.json")["comments"] is None
    for path in place.config.store.rglob("state.json"):
        path.unlink()
    assert (await place.run()).exit_code == 0
    assert len(document(place, "pull-requests/0/1.json")["comments"]) == 2


async def test_activity_that_could_not_be_looked_at_is_told(place: Place) -> None:
    """The daily activity request finds approvals; cut short by the rate limit, it finds nothing."""
    await place.run()
    place.clock.elapsed += DAY
    refused = Fault("GET /2.0/repositories/acme/website/pullrequests/activity", status=429, times=1000)
    place.simulator.order(refused)
    run = await place.run()
    assert run.exit_code == 75
    assert entry(run).parts["pull_requests"].state == "partial"
    place.simulator.faults.clear()
    assert (await place.run()).exit_code == 0


async def test_every_commit_is_asked_about_once_where_that_is_wanted(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    website = world.repository("acme", "website")
    assert website is not None
    old, author = website.branch("main"), next(iter(world.users.values()))
    assert old is not None
    website.commit("main", {"NEW.md": b"New\n"}, "New\n")
    website.comment_on_commit(old, "Why was this?", author=author)
    with Simulator(world) as simulator:
        path = write_config(tmp_path, simulator, token)
        place = Place(tmp_path, simulator, load(path))
        assert (await place.run()).exit_code == 0
        name = f"commit-comments/{old[:2]}/{old}.json"
        assert document(place, name) is None
        # Switched on later, Mirror also asks about what existed before.
        path.write_text(
            path.read_text().replace(
                "workspace: acme\n", "workspace: acme\n    parts: {commit_comments: all}\n", 1
            )
        )
        place.config = load(path)
        assert (await place.run()).exit_code == 0
        assert document(place, name)["comments"][-1]["content"]["raw"] == "Why was this?"
        simulator.requests.clear()
        website.commit("main", {"NEWER.md": b"Newer\n"}, "Newer\n")
        assert (await place.run()).exit_code == 0
        asked = {one.path.split("/")[6] for one in simulator.requests if "/commit/" in one.path}
        assert asked == {website.branch("main")}


async def test_an_address_that_refuses_everything_is_not_asked_for_everything(place: Place) -> None:
    """Without a scope in the refusal, it might be one hidden thing; after a few refusals it is not."""
    website = place.acme.repositories["website"]
    ann = place.world.users["ann@acme.example"]
    for number in range(60):
        website.open_pull_request(source="main", title=f"Topic {number}", author=ann).comment(
            "Why?", author=ann
        )
    where = "GET /2.0/repositories/acme/website/pullrequests/*/comments"
    place.simulator.order(Fault(where, status=403, times=10_000))

    def asked() -> int:
        return sum(fnmatchcase(f"GET {one.path}", where) for one in place.simulator.requests)

    run = await place.run()
    assert run.exit_code == 3
    part = entry(run).parts["pull_requests"]
    assert part.state == "partial" and part.counts["pull_requests_to_ask"] >= 60
    assert asked() <= REFUSALS_MAX + BATCH
    place.simulator.app.faults.clear()
    assert (await place.run()).exit_code == 0
    assert all(document(place, f"pull-requests/0/{number}.json")["comments"] for number in range(20, 60))


async def test_a_run_waits_no_longer_than_its_window_for_the_first_things_either(place: Place) -> None:
    limits = replace(place.config.limits, window=timedelta(minutes=10))
    place.config = replace(place.config, limits=limits)
    place.world.limit = 4
    began = place.clock.elapsed
    run = await place.run()
    assert run.exit_code == 75
    assert place.clock.elapsed - began <= 3600 + 600  # the hour before each run, and the window
