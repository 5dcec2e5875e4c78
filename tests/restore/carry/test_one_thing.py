"""One pull request, or one setting, comes back beside a repository that lives on. Nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.errors import UsageError
from mirror.restore.carry.report import Outcome, Report
from mirror.restore.plan.source import Options, Source
from mirror.store.reading.reader import Store
from tests.restore.carry.target import Upstream, upstream


async def restored(target: Upstream, store: Store, *only: str) -> dict[str, Outcome]:
    report = await target.restore(store.path, "acme/website", options=Options(frozenset(only)))
    assert isinstance(report, Report) and report.exit_code == 0, report
    return {one.key: one.outcome for one in report.entries}


async def test_one_thing_comes_back_alone(tmp_path: Path, stored: Store, sources: dict[str, Source]) -> None:
    pulls = [sources["website"].object(path) for path in sources["website"].paths("pull-requests")]
    [pull, *_] = [one["pull_request"] for one in pulls if one["pull_request"]["state"] == "OPEN"]
    ends = {f"refs/heads/{pull[end]['branch']['name']}".encode() for end in ("source", "destination")}
    with upstream(tmp_path) as target:
        first = await restored(target, stored, f"pull-requests/{pull['id']}")
        website = target.workspace.repositories["website"]
        assert set(website.refs()) == ends
        [made] = website.pull_requests.values()
        assert made.title == pull["title"] and made.comments
        assert not website.settings.get("variables")
        # The repository lives on: its branch moves, and somebody changes what it is about.
        moved = website.commit("main", {"new.txt": b"new\n"}, "Life goes on\n")
        website.description = "Another text"
        [name, *_] = [one["key"] for one in sources["website"].entries("settings/variables.json")
                      if not one["secured"]]  # fmt: skip
        found = await restored(target, stored, f"settings/variables/{name}")
        assert found.pop(f"website/variables/{name}") is Outcome.MADE
        assert [one["key"] for one in website.settings["variables"]] == [name]
        assert website.refs()[b"refs/heads/main"] == moved and website.description == "Another text"
        # What is there already is met, not made again.
        again = await restored(target, stored, f"pull-requests/{pull['id']}")
        assert Outcome.MADE not in again.values() and set(again) == set(first)
        assert len(website.pull_requests) == 1
        with pytest.raises(UsageError, match="only open ones can"):
            await restored(target, stored, "pull-requests/999")
