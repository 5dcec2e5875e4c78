"""Reviews come back: with their discussions, places, tasks and branches; what cannot come back is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mirror.cli.commands.restore_into import make_pages
from mirror.config import load
from mirror.restore.carry.report import Outcome, Report
from mirror.restore.plan.source import Options, Source
from mirror.simulator import Simulator, Switches, World
from mirror.simulator.world.discussions import PullRequest
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place
from tests.restore.carry.target import Upstream, upstream
from tests.restore.reviewed import furnish

TITLE = "Count to *twenty*"
REPLY = "Because.\r\n\r\n```\n<script>\n```"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of two backups. Between them a fork goes, and the branch of a pull request."""
    folder = tmp_path_factory.mktemp("reviews")
    world = World(folder / "upstream")
    populate(world)
    furnish(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        place = Place(folder, simulator, load(write_config(folder, simulator, token)))
        asyncio.run(place.run("acme/api"))
        acme = world.workspaces["acme"]
        acme.repositories["api"].delete_ref(b"refs/heads/short-lived")
        acme.delete_repository("api-of-bob")
        asyncio.run(place.run("acme/api"))
    return place.config.store


async def restored(
    target: Upstream, store: Path, options: Options | None = None, **more: Any
) -> tuple[Report, SimRepository]:
    """Restore the repository `api`."""
    report = await target.restore(store, "acme/api", options=options, **more)
    assert isinstance(report, Report)
    return report, target.workspace.repositories["api"]


def titled(api: SimRepository, title: str) -> PullRequest:
    """The one pull request of this title."""
    [found] = [one for one in api.pull_requests.values() if one.title == title]
    return found


def outcomes(report: Report, kind: str) -> dict[Outcome, int]:
    """How many steps of a kind had each outcome."""
    return dict(Counter(one.outcome for one in report.entries if one.kind == kind))


async def test_a_review_comes_back(tmp_path: Path, store: Path) -> None:
    with upstream(tmp_path) as target:
        report, api = await restored(target, store)
        assert report.exit_code == 0, report.lines()
        _is_the_review(titled(api, TITLE), report)
        _are_the_others(api, report)
        _is_what_was_said_of_the_commit(api)
        # Nothing is sent a second time, though nobody remembers the first.
        before = {number: len(pull.comments) for number, pull in api.pull_requests.items()}
        again, api = await restored(target, store)
        assert {number: len(pull.comments) for number, pull in api.pull_requests.items()} == before
        assert again.exit_code == 0, again.lines()
        assert not [method for method, _ in target.requests[-again.requests :] if method != "GET"]
        assert outcomes(again, "pull request comments") == {Outcome.FOUND: 9 + 1}


def _is_the_review(pull: PullRequest, report: Report) -> None:
    assert (pull.source, pull.destination) == ("review", "main")
    assert (pull.draft, pull.close_source_branch) == (True, False)
    assert pull.description == (
        "*Pull request 3 of acme/api, by Bob Baker, 2026-10-12; approved by Eve Eng*\n\n"
        "For Ann Archer.\n\n<b>Hostile</b> [x](javascript:alert(1))"
    )
    # Sue is not there, and nobody reviews what they opened.
    assert [one.name for one in pull.reviewers] == ["Ann Archer", "Eve Eng"]
    assert "Sue Sales, reviewer of pull request 3 of api" in [one.label for one in report.losses]
    [asked] = [one for one in report.entries if one.key == "api/pull-request/3/reviewers"]
    assert asked.message == "Bitbucket refuses these reviewers: Rita Restores"
    said = {one.text.partition("\n\n")[2]: one for one in pull.comments}
    thread, reply, last = said["Why three, Bob Baker?"], said[REPLY], said["I see."]
    place = {"path": "src/list.txt", "from": None, "to": 5, "start_to": 3}
    assert [one.inline for one in (thread, reply, last)] == [place, place, place]
    assert (reply.parent, last.parent) == (thread.id, reply.id)
    assert thread.resolved is not None and "; resolved by Bob Baker" in thread.text
    assert said["This file is gone."].inline is None
    tombstone = next(one for one in pull.comments if one.id == said["Which tab?"].parent)
    assert tombstone.text.endswith("; deleted*") and not [one for one in said if "Nothing." in one]
    assert {(one.text.rpartition("* ")[2], one.comment, one.resolved) for one in pull.tasks} == {
        ("Explain three", thread.id, True), ("Ship it", None, False),
    }  # fmt: skip


def _are_the_others(api: SimRepository, report: Report) -> None:
    afar, short = titled(api, "From afar"), titled(api, "Short")
    assert (afar.source, api.files(afar.source_hash)["fork.txt"]) == ("pull-request-4", b"from afar\n")
    assert (short.source, api.files(short.source_hash)["short.txt"]) == ("short-lived", b"short\n")
    labels = [one.label for one in report.losses]
    assert "1 declined pull request of api" in labels and "1 pipeline of api" in labels
    assert "1 status of commits of api" in labels


def _is_what_was_said_of_the_commit(api: SimRepository) -> None:
    assert len(api.commit_comments[api.branch("review") or ""]) == 1
    tip = api.branch("main") or ""
    first, second = api.commit_comments[tip]
    assert first.inline == {"path": "src/6.py", "from": None, "to": 1} and second.parent == first.id
    [report] = api.reports[tip]
    assert report["fields"]["external_id"] == "scan-1" and report["fields"]["remote_link_enabled"] is True
    assert [one["external_id"] for one in report["annotations"]] == ["f1"]


async def test_another_server_refuses_a_place_and_no_more(tmp_path: Path, store: Path) -> None:
    with upstream(tmp_path, Switches.inverted()) as target:
        report, api = await restored(target, store)
    assert report.exit_code == 0, report.lines()
    [lost] = [one for one in titled(api, TITLE).comments if "Never was." in one.text]
    assert lost.inline is None and "on `src/none.txt`, line 1*" in lost.text
    [long] = [one for one in titled(api, TITLE).comments if "In general" in one.text]
    assert len(long.text) == 32_768 and long.text.endswith("*The text goes on in the backup.*")
    assert "its end was refused, because it is too long" in "\n".join(report.lines())
    assert "its place in the code was refused" in "\n".join(report.lines())


async def test_what_somebody_made_by_hand_is_left_or_changed(tmp_path: Path, store: Path) -> None:
    with upstream(tmp_path) as target:
        _, api = await restored(target, store, Options(only=frozenset({"code"})))
        bob = target.simulator.world.users["bob@acme.example"]
        other = api.open_pull_request(source="review", title="By hand", author=bob, description="Mine")
        report, api = await restored(target, store)
        assert report.exit_code == 3 and (other.title, other.description) == ("By hand", "Mine")
        [left] = [one for one in report.entries if one.key == "api/pull-request/3"]
        assert left.outcome is Outcome.DIFFERS and "title" in left.message
        assert any("Why three" in one.text for one in other.comments)
        report, api = await restored(target, store, Options(overwrite=True))
        assert other.title == TITLE and other.description.endswith("[x](javascript:alert(1))")


async def test_refs_that_are_left_out_leave_out_their_pull_requests(tmp_path: Path, store: Path) -> None:
    with upstream(tmp_path) as target:
        report, api = await restored(target, store, Options(refs=("refs/heads/main",)))
    assert report.exit_code == 0
    assert [one.title for one in api.pull_requests.values()] == ["From afar"]
    told = {one.key: one.detail for one in report.losses}
    assert "the target does not have the commit" in told.values()
    assert told["api/pull-request/3"] == "--refs leaves out review"
    assert told["api/pull-request/5"] == "--refs leaves out short-lived"


async def test_nothing_to_merge_is_told(tmp_path: Path, store: Path) -> None:
    with upstream(tmp_path) as target:
        _, api = await restored(target, store, Options(only=frozenset({"code"})))
        review = api.branch("review")
        assert review is not None
        api.force("main", review)
        report, api = await restored(target, store, Options(only=frozenset({"pull_requests"})))
        assert TITLE not in [one.title for one in api.pull_requests.values()]
    [told] = [one for one in report.losses if one.key == "api/pull-request/3"]
    assert told.detail == "its branches have the same content at the target"
    assert not [one for one in report.entries if one.outcome in (Outcome.REFUSED, Outcome.NOT_TRIED)]


async def test_pages_are_pushed_beside_the_code(tmp_path: Path, store: Path) -> None:
    options = Options(archive="mirror-archive")

    def make(source: Source, folder: Path) -> list[tuple[int, str]]:
        return make_pages(store, source, folder)

    with upstream(tmp_path) as target:
        report, api = await restored(target, store, options, pages=make)
        assert report.exit_code == 0, report.lines()
        first = api.branch("mirror-archive")
        assert first is not None
        pages = api.files(first)
        assert "README.md" in pages and "acme/api/pull-requests/1.md" in pages
        assert b"Round money right" in (pages["acme/api/pull-requests/1.md"] or b"")
        # The same pages are not pushed again; other pages replace ours, and nobody else's.
        report, api = await restored(target, store, options, pages=make)
        assert (
            outcomes(report, "pull requests") == {Outcome.FOUND: 4 + 2 + 2 + 1}
            and api.branch("mirror-archive") == first
        )

        def other(source: Source, folder: Path) -> list[tuple[int, str]]:
            found = make(source, folder)
            (folder / "README.md").write_text("other", encoding="utf-8")
            return found

        await restored(target, store, options, pages=other)
        second = api.branch("mirror-archive")
        assert second is not None and api.files(second)["README.md"] == b"other"
        own = api.commit("mirror-archive", {"mine.txt": b"mine"}, "Mine\n")
        report, api = await restored(target, store, options, pages=make)
        assert api.branch("mirror-archive") == own and report.exit_code == 3
        [left] = [one for one in report.entries if one.key == "api/pages"]
        assert left.outcome is Outcome.DIFFERS
