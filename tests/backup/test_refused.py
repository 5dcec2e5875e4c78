"""A 401 affects only what it is about; for the code, git decides for itself."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from mirror import doctor
from mirror.auth.credentials import RepositoryAccessToken, WorkspaceAccessToken
from mirror.auth.secrets import SecretSource
from mirror.bitbucket.client.budget import Budget
from mirror.model import Outcome, Run, RunEntry
from mirror.simulator.faults import Fault
from mirror.simulator.switches import Switches
from mirror.simulator.world.sample import SCOPES
from tests.place import Place

SAID = "Token is invalid, expired, or not supported for this endpoint."


def repositories(run: Run) -> list[RunEntry]:
    return [one for one in run.entries if one.kind == "repository"]


def refuses(match: str, *, times: int = 10_000) -> Fault:
    return Fault(match, status=401, times=times, message=SAID)


async def test_stray_refusals_cost_nothing(place: Place) -> None:
    place.simulator.app.switches = replace(Switches(), stray_refusals=True)
    run = await place.run()
    assert run.exit_code == 0, run.problems
    assert sum(one.status == 401 for one in place.simulator.requests) > 5


async def test_the_standing_401_of_one_endpoint_costs_that_endpoint_alone(place: Place) -> None:
    place.simulator.order(refuses("GET /2.0/repositories/*/pullrequests"))
    run = await place.run()
    assert run.exit_codes == (3,)
    for entry in repositories(run):
        assert entry.parts["code"].is_settled and entry.snapshot, entry
        assert str(entry.parts["pull_requests"].state) == "denied"
        assert SAID in str(entry.parts["pull_requests"].reason)
        assert str(entry.parts["downloads"].state) == "complete"


async def test_what_is_agreed_may_be_refused_with_401_too(place: Place) -> None:
    [only] = place.config.workspaces
    accepted = replace(only, accept_missing=("pull_requests",))
    place.config = replace(place.config, workspaces=(accepted,))
    place.simulator.order(refuses("GET /2.0/repositories/*/pullrequests"))
    assert (await place.run()).exit_code == 0


async def test_code_that_is_held_is_fetched_where_the_api_refuses_the_credential(place: Place) -> None:
    before = await place.run()
    website = place.acme.repositories["website"]
    new = website.commit("main", {"new.txt": b"after the token was refused\n"}, "One more")
    place.simulator.order(refuses("GET /2.0/*"))
    run = await place.run()
    assert run.exit_codes == (12,)
    assert {one.uuid for one in repositories(run)} == {one.uuid for one in repositories(before)}
    for entry in repositories(run):
        assert entry.outcome is Outcome.PARTIAL and entry.snapshot
        assert entry.parts["code"].is_settled and str(entry.parts["settings"].state) == "denied"
        assert [problem.code for problem in entry.problems] == [12]
    with place.store() as store:
        [folder] = [one for one in store.repositories() if one.slug == "website"]
        latest = folder.metadata.latest()
        assert latest is not None
        told = folder.metadata.code_refs(latest)
        assert told is not None and told[0].refs[b"refs/heads/main"] == new
        # The newest snapshot still has what the API gave before.
        assert folder.metadata.read(latest, "repository.json")
        assert folder.metadata.paths(latest, "pull-requests/")
    place.simulator.faults.clear()
    assert (await place.run()).exit_code == 0


async def test_only_what_the_rules_and_selectors_choose_is_fetched_then(place: Place) -> None:
    await place.run()
    place.simulator.order(refuses("GET /2.0/*"))
    run = await place.run("acme/website")
    assert [one.full_name for one in repositories(run)] == ["acme/website"]
    [only] = place.config.workspaces
    place.config = replace(place.config, workspaces=(replace(only, exclude=("web*",)),))
    run = await place.run()
    names = [one.full_name for one in repositories(run)]
    assert names and "acme/website" not in names


async def test_a_bad_sign_in_for_git_is_that_repositorys_alone(place: Place) -> None:
    await place.run()
    place.simulator.order(refuses("/acme/website.git/*"))
    run = await place.run()
    assert run.exit_codes == (12,)
    by_name = {one.full_name: one for one in repositories(run)}
    assert str(by_name["acme/website"].parts["code"].state) == "denied"
    # The refs of the backup before are kept, and counted.
    assert by_name["acme/website"].parts["code"].counts["refs"] > 0
    others = [one for name, one in by_name.items() if name != "acme/website"]
    assert others and all(one.outcome is Outcome.CONFIRMED for one in others)


async def test_a_credential_that_dies_in_the_middle_leaves_the_code_of_all(place: Place) -> None:
    place.simulator.order(replace(refuses("GET /2.0/*"), skip=20))
    run = await place.run()
    assert run.exit_codes == (12,)
    assert repositories(run) and all(one.snapshot for one in repositories(run))
    assert all(one.parts["code"].is_settled for one in repositories(run))


async def test_a_refused_one_of_several_is_told_and_the_other_saves_everything(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG_TOKEN", "ATCTTnot-the-token-of-anybody")
    [only] = place.config.workspaces
    wrong = WorkspaceAccessToken(SecretSource("env", "WRONG_TOKEN"))
    both = replace(only, credentials=(wrong, *only.credentials))
    place.config = replace(place.config, workspaces=(both,))
    run = await place.run()
    assert run.exit_codes == (12,)
    assert [one.outcome for one in repositories(run)] == [Outcome.SAVED] * len(repositories(run))
    assert "WRONG_TOKEN" in run.problems[0].text


async def test_code_is_fetched_by_the_credential_that_git_lets_in(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tokens, each for one repository: the server accepts neither for the other's."""
    tokens = {
        slug: place.world.add_repository_access_token("acme", slug, SCOPES)
        for slug in ("website", "handbook")
    }
    for slug, token in tokens.items():
        monkeypatch.setenv(f"TOKEN_OF_{slug.upper()}", token)
    several = tuple(RepositoryAccessToken(SecretSource("env", f"TOKEN_OF_{one.upper()}")) for one in tokens)
    [only] = place.config.workspaces
    entry = replace(only, credentials=several, include=("website", "handbook"))
    place.config = replace(place.config, workspaces=(entry,))
    run = await place.run()
    states = {one.full_name: str(one.parts["code"].state) for one in repositories(run)}
    assert states == {"acme/website": "complete", "acme/handbook": "complete"}


async def test_doctor_tells_a_refused_endpoint_and_goes_on(place: Place) -> None:
    place.simulator.order(refuses("GET /2.0/repositories/*/pullrequests"))
    report = await doctor.run(
        place.config, clock=place.clock, environment=os.environ, budget=Budget(place.clock, patience=10)
    )
    failed = {check.name: check for check in report.checks if check.state == "fail"}
    assert set(failed) == {"acme: pull_requests"} and SAID in failed["acme: pull_requests"].text
    assert report.exit_codes == (3,)


async def test_doctor_asks_git_where_the_api_refuses_the_credential(place: Place) -> None:
    await place.run()
    place.simulator.order(refuses("GET /2.0/*"))
    report = await doctor.run(
        place.config, clock=place.clock, environment=os.environ, budget=Budget(place.clock, patience=10)
    )
    by_name = {check.name: check for check in report.checks}
    assert by_name["acme: sign-in"].state == "fail" and report.exit_codes == (12,)
    assert by_name["acme: git"].state == "ok"


async def test_code_that_is_held_is_fetched_where_the_api_is_in_trouble(place: Place) -> None:
    await place.run("acme/website")
    new = place.acme.repositories["website"].commit("main", {"new.txt": b"meanwhile\n"}, "One more")
    place.simulator.order(Fault("GET /2.0/*", status=503, times=10_000))
    before = len(place.simulator.requests)
    run = await place.run("acme/website")
    assert run.exit_codes == (75,), run.problems
    [entry] = repositories(run)
    assert entry.parts["code"].is_settled and entry.snapshot
    with place.store() as store:
        [folder] = store.repositories()
        latest = folder.metadata.latest()
        told = folder.metadata.code_refs(latest) if latest is not None else None
        assert told is not None and told[0].refs[b"refs/heads/main"] == new
    asked = [one for one in place.simulator.requests[before:] if one.kind == "api"]
    assert len(asked) <= 10, "the API is left alone"
