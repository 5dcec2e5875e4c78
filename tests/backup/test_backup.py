"""Runs: what they ask, what they keep, and how they report what they could not get."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mirror import backup
from mirror.auth.credentials import (
    AccessToken,
    ProjectAccessToken,
    RepositoryAccessToken,
    WorkspaceAccessToken,
)
from mirror.backup import turn
from mirror.collect import repository as collecting
from mirror.config import load
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.model import Outcome, Run, Selector
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.world.sample import SCOPES, accident, populate
from mirror.store.reading.reader import Store
from tests.clock import FakeClock
from tests.e2e.helpers import write_config
from tests.place import Place


def outcomes(run: Run) -> dict[str, str]:
    return {entry.full_name: str(entry.outcome) for entry in run.entries}


def recorded(place: Place) -> str:
    """The id of the last run that left a record."""
    with place.store() as store:
        last = store.last_run("backup")
    assert last is not None
    return str(last.data["id"])


async def test_nothing_new_confirms_and_costs_few_requests(place: Place) -> None:
    first = await place.run()
    assert first.exit_code == 0

    def files() -> dict[Path, bytes]:
        every = place.config.store.rglob("*.git/**/*")
        return {path: path.read_bytes() for path in every if path.is_file() and path.name != "looked"}

    before = files()
    again = await place.run()
    assert set(outcomes(again).values()) == {"confirmed"}
    assert files() == before
    repositories = len(place.acme.repositories)
    assert again.facts["requests"] <= 2 * repositories + 1 + 5


async def test_only_what_changed_is_asked_again(place: Place) -> None:
    await place.run()
    pull = place.acme.repositories["website"].pull_requests[2]
    pull.comment("One more thing.", author=place.world.users["ann@acme.example"])
    place.simulator.requests.clear()
    run = await place.run()
    assert outcomes(run)["acme/website"] == "saved"
    children = [one.path for one in place.simulator.requests if "/pullrequests/" in one.path]
    assert {path.split("/pullrequests/")[1].split("/")[0] for path in children} == {"2", "activity"}
    with place.store() as store:
        folder = store.repository(Selector.parse("acme/website"))
        latest = folder.metadata.latest()
        assert latest is not None
        document = folder.metadata.read(latest, "pull-requests/0/2.json")
        assert document is not None
        assert document["comments"][-1]["content"]["raw"] == "One more thing."
        assert document["statuses"] == []


async def test_a_removed_comment_is_gone_now_and_kept_then(place: Place) -> None:
    await place.run()
    pull = place.acme.repositories["website"].pull_requests[1]
    pull.comments.clear()
    pull.edit(title="Dark mode, at last", author=pull.author)
    await place.run()
    with place.store() as store:
        folder = store.repository(Selector.parse("acme/website"))
        old, new = folder.metadata.snapshots()
        then = folder.metadata.read(old, "pull-requests/0/1.json")
        now = folder.metadata.read(new, "pull-requests/0/1.json")
    assert then is not None and now is not None
    assert len(then["comments"]) == 2
    assert now["comments"] == []


async def test_a_rename_keeps_the_folder_and_a_reused_name_gets_its_own(place: Place) -> None:
    await place.run()
    with place.store() as store:
        before = store.repository(Selector.parse("acme/website")).folder
    place.acme.rename_repository("website", "shop")
    place.world.moved.clear()
    fresh = place.acme.add_repository("website")
    fresh.commit("main", {"a": b"another"}, "Another website\n")
    run = await place.run()
    assert outcomes(run) == {
        "acme/api": "confirmed", "acme/billing": "confirmed", "acme/handbook": "confirmed",
        "acme/shop": "saved", "acme/website": "saved", "acme": "saved",
    }  # fmt: skip
    with place.store() as store:
        shop = store.repository(Selector.parse("acme/shop"))
        assert shop.folder == before
        assert [one.name for one in shop.former_names] == ["acme/website"]
        assert store.repository(Selector.parse("acme/website")).folder != before


async def test_what_is_missing_counts_as_gone_only_after_days(place: Place) -> None:
    await place.run()
    accident(place.world)
    codes = []
    for _ in range(4):
        run = await place.run()
        codes.append((run.exit_code, outcomes(run)["acme/billing"]))
        place.clock.elapsed += 86400
    assert codes == [(3, "absent"), (3, "absent"), (0, "gone"), (0, "gone")]
    with place.store() as store:
        kept = store.repository(Selector.parse("acme/billing"))
        assert kept.gone_since is not None
        assert kept.metadata.latest() is not None


async def test_a_repository_that_comes_back_is_there_again(place: Place) -> None:
    await place.run()
    lost = place.acme.delete_repository("billing")
    assert outcomes(await place.run())["acme/billing"] == "absent"
    place.acme.restore(lost)
    assert outcomes(await place.run())["acme/billing"] == "confirmed"


@pytest.mark.parametrize("kind", ["project", "repository"])
async def test_what_a_narrow_token_does_not_list_was_not_deleted(place: Place, kind: str) -> None:
    await place.run()
    entry = place.config.workspaces[0]
    source = entry.credentials[0].token  # type: ignore[union-attr]
    secret = Path(str(source.value))
    if kind == "project":
        secret.write_text(place.world.add_project_access_token("acme", "CORE", SCOPES))
        narrow = replace(entry, credentials=(ProjectAccessToken(source),))
        expected = {"acme/api", "acme/billing"}
        unreached = {name for name in place.acme.repositories if f"acme/{name}" not in expected}
    else:
        secret.write_text(place.world.add_repository_access_token("acme", "api", SCOPES))
        narrow = replace(entry, credentials=(RepositoryAccessToken(source),), include=("api",))
        expected, unreached = {"acme/api"}, set()
    place.config = replace(place.config, workspaces=(narrow,))
    run = await place.run()
    told = {name: one for name, one in outcomes(run).items() if "/" in name}
    assert {name for name, one in told.items() if one in ("saved", "confirmed")} == expected
    # A repository that is included and in the store but not listed is reported.
    assert {name for name, one in told.items() if one == "unreached"} == {f"acme/{n}" for n in unreached}
    assert run.exit_code == (3 if unreached else 0), run.problems
    with place.store() as store:
        assert all(one.missing is None for one in store.repositories())


async def test_a_repository_moved_out_of_a_projects_reach_is_told(place: Place) -> None:
    entry = replace(place.config.workspaces[0], include=("project:CORE",))
    place.config = replace(place.config, workspaces=(entry,))
    await place.run()
    source = entry.credentials[0].token  # type: ignore[union-attr]
    token = place.world.add_project_access_token("acme", "CORE", SCOPES)
    Path(str(source.value)).write_text(token)
    narrow = replace(entry, credentials=(ProjectAccessToken(source),))
    place.config = replace(place.config, workspaces=(narrow,))
    assert (await place.run()).exit_code == 0
    place.acme.repositories["billing"].project = "DOCS"
    run = await place.run()
    assert (run.exit_code, outcomes(run)["acme/billing"]) == (3, "unreached")
    # A run with selectors reports only what they select.
    assert "acme/billing" not in outcomes(await place.run("acme/api"))
    assert (await place.run("acme/billing")).exit_code == 3
    place.config = replace(place.config, workspaces=(replace(narrow, exclude=("billing",)),))
    assert (await place.run()).exit_code == 0


async def test_a_workspace_that_the_credential_no_longer_lists_is_told(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    for name in ("acme", "beta"):
        world.add_workspace(name).add_repository("shop").commit("main", {"a": b"1"}, "Begin\n")
    ann = world.add_user("Ann Archer", "ann@acme.example", workspaces=["acme", "beta"])
    scopes = {
        f"read:{one}:bitbucket" for one in ("workspace", "project", "repository", "pullrequest", "user")
    }
    with Simulator(world) as simulator:
        path = write_config(tmp_path, simulator, world.add_api_token(ann, scopes))
        text = path.read_text().replace("  - workspace: acme\n    credential", "  - credential")
        token = "{kind: api_token, email: ann@acme.example, token: {file: token}}"
        path.write_text(text.replace("{kind: workspace_access_token, token: {file: token}}", token))
        place = Place(tmp_path, simulator, load(path))
        run = await place.run()
        assert outcomes(run).keys() == {"acme", "acme/shop", "beta", "beta/shop"}, run.problems
        ann.workspaces = frozenset({"acme"})
        run = await place.run()
        assert 3 in run.exit_codes
        assert outcomes(run)["beta/shop"] == "unreached"


async def test_one_broken_repository_does_not_stop_the_others(place: Place) -> None:
    place.simulator.order(Fault("/acme/api.git/*", status=500, times=20))
    run = await place.run()
    assert outcomes(run)["acme/api"] == "partial"
    assert {name for name, one in outcomes(run).items() if one == "saved"} >= {"acme/website", "acme/billing"}
    assert run.exit_code == 75
    assert any(entry.full_name == "acme/api" and entry.problems for entry in run.entries)
    place.simulator.faults.clear()
    assert (await place.run()).exit_code == 0


async def test_a_list_that_fails_on_a_later_page_moves_no_cursor(place: Place) -> None:
    place.simulator.order(Fault("GET /2.0/repositories/acme/website/pullrequests", "truncate", times=20))
    run = await place.run()
    [entry] = [one for one in run.entries if one.full_name == "acme/website"]
    assert entry.parts["pull_requests"].state == "partial"
    assert run.exit_code != 0
    place.simulator.faults.clear()
    run = await place.run()
    [entry] = [one for one in run.entries if one.full_name == "acme/website"]
    expected = len(place.acme.repositories["website"].pull_requests)
    assert entry.parts["pull_requests"].counts == {"pull_requests": expected}


async def test_a_child_that_is_denied_keeps_its_last_good_value(place: Place) -> None:
    await place.run()
    pull = place.acme.repositories["website"].pull_requests[1]
    pull.edit(title="New title", author=pull.author)
    place.simulator.order(Fault("GET /2.0/repositories/acme/website/pullrequests/1/comments", status=403))
    run = await place.run()
    assert run.exit_code == 3
    with place.store() as store:
        folder = store.repository(Selector.parse("acme/website"))
        latest = folder.metadata.latest()
        assert latest is not None
        document = folder.metadata.read(latest, "pull-requests/0/1.json")
    assert document is not None
    assert document["pull_request"]["title"] == "New title"
    assert len(document["comments"]) == 2
    assert document["_parts"]["comments"]["state"] == "denied"
    assert (await place.run()).exit_code == 0


async def test_issues_are_kept_when_the_tracker_goes(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    ann = world.users["ann@acme.example"]
    world.workspaces["acme"].repositories["website"].add_issue("Broken link", author=ann, comments=["Where?"])
    token = world.add_workspace_access_token("acme", SCOPES | {"issue"})
    clock = FakeClock()
    day = 24 * 3600
    # A 410 for stored data counts as missing for three days, because it may be a brown-out.
    for tracker, state, code, later in (
        (True, "complete", 0, 0),
        (False, "partial", 3, day),
        (False, "partial", 3, 2 * day),
        (False, "gone", 0, 2 * day),
    ):
        with Simulator(world, switches=Switches(issue_tracker=tracker)) as simulator:
            config = load(write_config(tmp_path, simulator, token))
            clock.elapsed += later
            run = await backup.run(config, clock=clock, environment=os.environ)
        assert run.exit_code == code, run.entries
        [entry] = [one for one in run.entries if one.full_name == "acme/website"]
        assert entry.parts["issues"].state == state
        with Store.open(config.store) as store:
            folder = store.repository(Selector.parse("acme/website"))
            latest = folder.metadata.latest()
            assert latest is not None
            issue = folder.metadata.read(latest, "issues/0/1.json")
        assert issue is not None
        assert issue["comments"][0]["content"]["raw"] == "Where?"


async def test_rules_choose_and_a_rule_that_matches_nothing_is_told(place: Place) -> None:
    entry = replace(
        place.config.workspaces[0], include=("project:CORE", "hand*", "typo-*"), exclude=("billing",)
    )
    place.config = replace(place.config, workspaces=(entry,))
    run = await place.run()
    assert {name for name in outcomes(run) if "/" in name} == {"acme/api", "acme/handbook"}
    assert run.exit_code == 2
    assert any("typo-*" in problem.text for problem in run.problems)


async def test_a_dry_run_writes_nothing(place: Place) -> None:
    before = sorted(place.config.store.rglob("*"))
    run = await place.run(dry_run=True)
    assert len(run.entries) == 4
    assert sorted(place.config.store.rglob("*")) == before


async def test_a_locked_repository_is_told_and_the_others_go_on(place: Place) -> None:
    await place.run()
    [lock] = place.config.store.glob("workspaces/*/repositories/api~*/lock")
    with lock.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        run = await place.run()
    assert outcomes(run)["acme/api"] == Outcome.LOCKED
    assert outcomes(run)["acme/website"] == "confirmed"
    assert run.exit_code == 11


async def test_a_bug_met_in_one_repository_fails_it_alone_and_is_told_as_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Awaitable[Any]] = collecting.list_changes

    async def broken(work: Any, wanted: Any) -> Any:
        if work.repository.slug == "api":
            raise ExceptionGroup("side by side", [TypeError("not a list, https://x:hunter2@host/")])
        return await real(work, wanted)

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(collecting, "list_changes", broken)
        run = await place.run()
    told = outcomes(run)
    assert told.pop("acme/api") == "failed" and set(told.values()) == {"saved"}
    assert run.exit_codes == (1,)
    [problem] = next(one.problems for one in run.entries if one.full_name == "acme/api")
    assert problem.text == ("unexpected TypeError: not a list, https://[redacted]@host/; please report it")
    [logged] = [one for one in logs if one["event"] == "backup.unexpected"]
    assert isinstance(logged["exc_info"], ExceptionGroup)
    assert recorded(place) == run.id
    assert (await place.run()).exit_code == 0


@pytest.mark.parametrize("where", ["collect_workspace", "discover"])
async def test_a_bug_met_beside_the_repositories_is_told_in_the_runs_record(
    place: Place, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise KeyError("uuid")

    room = {"collect_workspace": "workspace", "discover": "visits"}[where]
    with monkeypatch.context() as patched:
        patched.setattr(importlib.import_module(f"mirror.backup.{room}"), where, broken)
        run = await place.run()
    problems = [*run.problems, *(problem for entry in run.entries for problem in entry.problems)]
    [problem] = problems
    assert problem.code == run.exit_code == 1
    assert problem.text.endswith("unexpected KeyError: 'uuid'; please report it")
    assert recorded(place) == run.id
    assert (await place.run()).exit_code == 0


async def test_a_disk_that_is_full_among_things_done_side_by_side_fails_the_repository_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise ExceptionGroup("side by side", [OSError(errno.ENOSPC, "No space left on device", "files")])

    monkeypatch.setattr(collecting, "list_changes", full)
    run = await place.run("acme/api")
    assert [problem.text for problem in run.entries[0].problems] == ["No space left on device: files"]
    assert recorded(place) == run.id


@pytest.mark.parametrize("why", ["the disk is full", "somebody holds the lock"])
async def test_what_the_first_turn_saved_is_told_though_the_rest_failed(
    place: Place, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """The remaining work waits for requests until every repository has had its turn."""

    def waits(*_: object) -> bool:
        return False

    async def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "metadata.git")

    runs = importlib.import_module("mirror.backup.visits")
    real = runs._resume_repositories

    async def locked(*given: Any) -> None:
        with contextlib.ExitStack() as stack:
            for path in place.config.store.glob("workspaces/*/repositories/*/lock"):
                fcntl.flock(stack.enter_context(path.open("r+b")), fcntl.LOCK_EX)
            await real(*given)

    monkeypatch.setattr(turn, "has_requests_left", waits)
    if why == "the disk is full":
        monkeypatch.setattr(collecting, "update_activity", fails)
    else:
        monkeypatch.setattr(runs, "_resume_repositories", locked)
    run = await place.run("acme/website")
    [entry] = run.entries
    with place.store() as store:
        folder = store.repository(Selector.parse("acme/website"))
        latest = folder.metadata.latest()
    assert latest is not None
    assert (entry.outcome, entry.snapshot, entry.tree) == (Outcome.PARTIAL, latest.id, latest.tree)
    assert entry.ledger is not None
    assert {one.name for one in entry.ref_changes} >= {b"refs/heads/main"}
    assert {one.code for one in entry.problems} == {75, 1 if why == "the disk is full" else 11}
    monkeypatch.undo()
    assert (await place.run("acme/website")).exit_code == 0


async def test_the_rate_limit_is_waited_out(tmp_path: Path) -> None:
    clock = FakeClock()
    world = World(tmp_path / "upstream", clock=clock.now, limit=200)
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = load(write_config(tmp_path, simulator, token))
        run = await backup.run(config, clock=clock, environment=os.environ)
    assert run.exit_code == 0, run.entries
    assert clock.elapsed >= 3600
    assert all(one.status != 429 for one in simulator.requests) or clock.slept


def test_killed_at_any_moment_the_next_run_completes(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with Simulator(world) as simulator:
        config = str(write_config(tmp_path, simulator, token))
        command = [sys.executable, "-m", "mirror", "backup", "-c", config, "-q"]
        for delay in (0.45, 0.6, 0.75, 0.9, 1.1):
            running = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(delay)
            running.send_signal(signal.SIGKILL)
            running.wait()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        verified = subprocess.run(
            [sys.executable, "-m", "mirror", "verify", "-c", config],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_stopped_run_says_so_and_keeps_what_it_finished(tmp_path: Path, number: int) -> None:
    """The signal also reaches the workers, as when a terminal closes."""
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with Simulator(world) as simulator:
        simulator.order(Fault("GET /acme/website.git/*", "slow", seconds=600, times=5))
        config = str(write_config(tmp_path, simulator, token))
        running = subprocess.Popen(
            [sys.executable, "-m", "mirror", "backup", "-c", config],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        runs = tmp_path / "store" / "workspaces"
        deadline = time.monotonic() + 60
        while not list(runs.glob("*/repositories/api~*/state.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(running.pid, number)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130, out
    assert "acme/website" in out
    assert "not reached" in out
    assert "worker died" not in out
    with Store.open(tmp_path / "store") as store:
        last = store.last_run("backup")
        assert last is not None
        assert last.data["exit_code"] == 130


@pytest.mark.parametrize(("error", "code"), [(TryLater, 75), (CredentialRefused, 12)])
async def test_a_sign_in_that_fails_after_the_code_came_costs_lfs_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: type[MirrorError], code: int
) -> None:
    """The snapshot has the code all the same."""
    only = replace(place.config.workspaces[0], include=("handbook",))
    place.config = replace(place.config, workspaces=(only,))

    async def refused(*_: object) -> None:
        raise error("the sign-in server did not help")

    with monkeypatch.context() as patched:
        patched.setattr("mirror.backup.git.lfs.login_for_git", refused)
        run = await place.run()
    [entry] = [one for one in run.entries if one.kind == "repository"]
    assert run.exit_codes == (code,)
    assert entry.snapshot and str(entry.parts["code"].state) == "complete"
    assert str(entry.parts["lfs"].state) == "partial"
    assert (await place.run()).exit_code == 0


def with_token(place: Place, secret: str, kind: type[AccessToken | WorkspaceAccessToken]) -> None:
    """Give the workspace another token of this kind."""
    entry = place.config.workspaces[0]
    source = entry.credentials[0].token  # type: ignore[union-attr]
    Path(str(source.value)).write_text(secret)
    place.config = replace(place.config, workspaces=(replace(entry, credentials=(kind(source),)),))


@pytest.mark.parametrize("tells", [True, False])
async def test_a_token_of_unknown_kind_makes_a_list_whole_only_where_bitbucket_tells(
    place: Place, tells: bool
) -> None:
    await place.run()
    app = place.simulator._app
    app.switches = replace(app.switches, credential_type_header=tells)
    with_token(place, place.world.add_project_access_token("acme", "CORE", SCOPES), AccessToken)
    assert "absent" not in outcomes(await place.run()).values()
    with_token(place, place.world.add_workspace_access_token("acme", SCOPES), AccessToken)
    place.acme.delete_repository("billing")
    assert (outcomes(await place.run()).get("acme/billing") == "absent") is tells


async def test_a_narrow_token_that_is_configured_as_a_workspace_s_deletes_nothing(place: Place) -> None:
    await place.run()
    secret = place.world.add_project_access_token("acme", "CORE", SCOPES)
    with_token(place, secret, WorkspaceAccessToken)
    assert "absent" not in outcomes(await place.run()).values()


async def test_a_workspace_that_two_entries_name_is_backed_up_once_and_told(place: Place) -> None:
    entry = place.config.workspaces[0]
    twice = (entry, replace(entry, workspace=place.acme.uuid))
    place.config = replace(place.config, workspaces=twice)
    run = await place.run()
    assert run.exit_code == 2
    assert any("another entry under workspaces names acme already" in one.text for one in run.problems)
    names = [entry.full_name for entry in run.entries if entry.kind == "repository"]
    assert len(names) == len(set(names)) and names
