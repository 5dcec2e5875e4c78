"""A workspace is restored into an empty one: everything once, nothing twice, and what exists stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.errors import CredentialRefused, UsageError
from mirror.restore.carry.report import Entry, Outcome, Report
from mirror.restore.into import Place
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Options
from mirror.simulator.faults import Fault
from mirror.simulator.world.settings import hook
from mirror.store.reading.reader import Store
from tests.restore.carry.target import Upstream, upstream

WEBSITE = "acme/website"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Upstream]:
    with upstream(tmp_path) as found:
        yield found


async def restored(target: Upstream, store: Store, selector: str = "acme", **more: object) -> Report:
    found = await target.restore(store.path, selector, **more)  # type: ignore[arg-type]
    assert isinstance(found, Report)
    return found


def entry(report: Report, key: str) -> Entry:
    [found] = [one for one in report.entries if one.key == key]
    return found


def journals(target: Upstream) -> list[Path]:
    return list(target.folder.glob("state/*/*.jsonl"))


async def test_a_workspace_comes_back_once(target: Upstream, stored: Store) -> None:
    planned = await target.restore(stored.path, dry_run=True)
    assert isinstance(planned, Planned) and not target.workspace.repositories
    assert "repository" in "\n".join(planned.lines())
    assert planned.to_json()["requests"] == planned.cost.requests

    asked = len(target.requests)
    report = await restored(target, stored)
    assert report.exit_code == 0 and set(report.counts) == {"made"}, report.lines()
    assert set(target.workspace.repositories) == {"website", "api", "billing", "handbook"}
    assert report.requests == len(target.requests) - asked
    assert report.requests <= 1.2 * len(report.entries)
    assert report.requests <= planned.cost.requests <= 1.1 * report.requests
    assert journals(target) == []

    # Whoever does it again meets what exists: nothing is sent.
    asked = len(target.requests)
    again = await restored(target, stored)
    assert again.exit_code == 0 and set(again.counts) == {"found"}, again.lines()
    assert {method for method, _ in target.requests[asked:]} == {"GET"}


async def test_what_exists_and_differs_is_left_and_told(target: Upstream, stored: Store) -> None:
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 0, report.lines()
    website = target.workspace.repositories["website"]
    before = website.refs()[b"refs/heads/main"]
    website.description = "Ours now"
    moved = website.commit("main", {"new.txt": b"new\n"}, "Go on\n")
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 3 and report.counts["differs"] == 2
    assert "description" in entry(report, "website/repository").message
    assert "refs/heads/main" in entry(report, "website/branches").message
    assert website.description == "Ours now" and website.refs()[b"refs/heads/main"] == moved

    website.settings["branch_restrictions"] = []  # they forbid whoever comes to rewrite main
    report = await restored(target, stored, WEBSITE, options=Options(overwrite=True))
    assert report.exit_code == 0, report.lines()
    assert website.description == "The shop window" and website.refs()[b"refs/heads/main"] == before


async def test_one_repository_takes_a_new_name(target: Upstream, stored: Store) -> None:
    report = await restored(target, stored, WEBSITE, to="bitbucket:spare/shop")
    assert report.exit_code == 0, report.lines()
    assert list(target.workspace.repositories) == ["shop"]
    with pytest.raises(UsageError, match="matches 4 repositories"):
        await restored(target, stored, to="bitbucket:spare/shop")


async def test_a_refusal_stops_nothing_else(target: Upstream, stored: Store) -> None:
    """An access token may do most, and not what a user must do."""
    credentials = (target.token(
        "project:admin", "repository:admin", "repository:write", "pullrequest:write", "webhook",
        "pipeline:variable", "pipeline:write", "account", "project",
    ),)  # fmt: skip
    report = await restored(target, stored, WEBSITE, credentials=credentials)
    assert report.exit_code == 3
    refused = [one for one in report.entries if one.outcome is Outcome.REFUSED]
    assert refused and {one.status for one in refused} == {403}
    assert all("API token" in one.message for one in refused if "mechanism" in one.message)
    assert any("mechanism" in one.message for one in refused)
    assert target.workspace.repositories["website"].pull_requests
    # A better credential goes on from there, and makes nothing twice.
    pulls = len(target.workspace.repositories["website"].pull_requests)
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 0, report.lines()
    assert len(target.workspace.repositories["website"].pull_requests) == pulls and journals(target) == []


@pytest.mark.parametrize("kind", ["truncate", "reset"])
async def test_a_lost_answer_makes_nothing_twice(target: Upstream, stored: Store, kind: str) -> None:
    """Carried out or not: the thing is looked for before it is requested again."""
    fault = Fault("POST /2.0/repositories/spare/website*", kind, times=100, each=2)  # type: ignore[arg-type]
    target.simulator.order(fault)
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 0, report.lines()
    website = target.workspace.repositories["website"]
    texts = [one.text for pull in website.pull_requests.values() for one in pull.comments]
    assert len(texts) == len(set(texts)) and texts
    assert len(website.settings["hooks"]) == 1


async def test_a_lost_network_ends_it_and_it_goes_on_later(target: Upstream, stored: Store) -> None:
    fault = Fault("* /2.0/repositories/spare/website/*", "reset", times=1000, skip=12)
    target.simulator.order(fault)
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 75 and report.stopped is not None and journals(target)
    target.simulator.faults.clear()
    before = len(target.requests)
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 0, report.lines()
    # The journal says what was made: it is neither sent nor looked for again.
    again = {path.rpartition("website/")[2] for _, path in target.requests[before:]}
    assert "hooks" in again and not again & {
        "deploy-keys",
        "downloads",
        "default-reviewers",
        "override-settings",
    }


async def test_what_was_made_by_hand_meanwhile_is_met(target: Upstream, stored: Store) -> None:
    hooks = Fault("POST /2.0/repositories/spare/website/hooks", status=403, times=9)
    target.simulator.order(hooks)
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 3 and journals(target)
    target.simulator.faults.clear()
    website = target.workspace.repositories["website"]
    website.settings["hooks"] = [hook("https://ci.acme.example/hook", website.uuid)]
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 0 and len(website.settings["hooks"]) == 1, report.lines()


async def test_what_was_deleted_meanwhile_is_made_again(target: Upstream, stored: Store) -> None:
    target.simulator.order(Fault("POST /2.0/repositories/spare/website/hooks", status=403, times=9))
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 3 and journals(target)
    target.simulator.faults.clear()
    target.workspace.delete_repository("website")
    report = await restored(target, stored, WEBSITE)
    assert report.exit_code == 0 and target.workspace.repositories["website"].refs(), report.lines()


async def test_bad_places(target: Upstream, stored: Store) -> None:
    for text in ("bitbucket:", "bitbucket:a/b/c", "bitbucket:a b", "bitbucket:acme/", "bitbucket:acme/Web"):
        with pytest.raises(UsageError, match="--to bitbucket:"):
            Place.parse(text)
    with pytest.raises(UsageError, match="there is no workspace elsewhere"):
        await target.restore(stored.path, to="bitbucket:elsewhere")
    target.environment["RITA"] = "ATATT3xwrong"
    with pytest.raises(CredentialRefused):
        await target.restore(stored.path)
