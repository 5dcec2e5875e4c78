"""Erased data is in no snapshot, no object and no later backup, and the store records the erasure."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mirror import prune, verify
from mirror.errors import UsageError
from mirror.fs.durable import write_file
from mirror.model import Run, Selector
from mirror.prune import ErasureTarget
from mirror.simulator.world.people import braced
from mirror.store.format.removals import erasures_json
from mirror.store.format.seal import sealed
from mirror.store.reading.reader import RepositoryFolder, WorkspaceFolder
from tests.place import Place
from tests.prune.test_prune import folder_of, git, sound


async def erase(place: Place, selector: str, what: ErasureTarget, reason: str = "holds a password") -> Run:
    place.clock.elapsed += 60
    return await prune.erase(
        place.config.store,
        Selector.parse(selector),
        what,
        reason=reason,
        by="ann",
        clock=place.clock,
        environment=os.environ,
    )


def everything_in(repository: Path) -> bytes:
    """The content of every object of a git repository, reachable or not."""
    return subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=repository, capture_output=True, check=True
    ).stdout


async def with_history(place: Place) -> None:
    """Three snapshots of the website; all of them contain the document of pull request 3."""
    website = place.acme.repositories["website"]
    for number in range(3):
        website.pull_requests[3].comment(
            f"Word {number}: hunter2", author=place.world.users["bob@acme.example"]
        )
        assert (await place.run()).exit_code == 0


async def test_a_document_leaves_a_tombstone_in_every_snapshot(place: Place) -> None:
    await with_history(place)
    path = "pull-requests/0/3.json"
    before = folder_of(place, "acme/website")
    ids = list(before.metadata.tags())
    assert b"hunter2" in everything_in(before.metadata.path)
    run = await erase(place, "acme/website", ErasureTarget(document=path))
    assert run.exit_code == 0
    folder = folder_of(place, "acme/website")
    assert list(folder.metadata.tags()) == ids
    for snapshot in folder.metadata.snapshots():
        assert folder.metadata.read(snapshot, path) == {
            "erased": {"at": run.started.strftime("%Y-%m-%dT%H:%M:%SZ"), "reason": "holds a password"}
        }
    assert b"hunter2" not in everything_in(folder.metadata.path)
    [entry] = run.entries
    assert set(entry.trees) == set(ids)
    await sound(place)
    place.acme.repositories["website"].pull_requests[3].comment(
        "hunter2 again", author=place.world.users["ann@acme.example"]
    )
    assert (await place.run()).exit_code == 0
    assert b"hunter2" not in everything_in(folder_of(place, "acme/website").metadata.path)
    await sound(place)


async def test_a_person_is_gone_from_the_whole_workspace(place: Place) -> None:
    await with_history(place)
    bob = place.world.users["bob@acme.example"]
    account = "557058:" + braced("account", bob.email).strip("{}")
    names = [bob.uuid.strip("{}"), account]
    place.acme.repositories["api"].pull_requests[1].comment(
        f"Ask @{{{account}}} please", author=place.world.users["ann@acme.example"]
    )
    await place.run()
    run = await erase(place, "acme", ErasureTarget(person=bob.uuid), "asked to be forgotten")
    assert run.exit_code == 0
    await sound(place)
    place.acme.add_repository("brand-new", project="DOCS")
    place.acme.repositories["brand-new"].commit(
        "main", {"a": b"a"}, "Begin\n", author=(bob.name, bob.email), when=place.clock.now()
    )
    place.acme.repositories["brand-new"].open_pull_request(source="main", title="Late", author=bob)
    place.clock.elapsed += 3600
    assert (await place.run()).exit_code == 0
    with place.store() as store:
        folders: list[WorkspaceFolder | RepositoryFolder] = [*store.workspaces(), *store.repositories()]
        for folder in folders:
            data = everything_in(folder.metadata.path)
            found = [name for name in names if name.encode() in data]
            assert found == [], folder.full_name
    for file in place.config.store.rglob("*.json"):
        assert not any(name in file.read_text() for name in names), file
    await sound(place)


async def test_a_ref_and_what_only_it_reached_are_gone(place: Place) -> None:
    website = place.acme.repositories["website"]
    for number in range(2):
        value = website.commit(
            "leak", {"key.pem": b"SECRET KEY %d" % number}, "Oops\n", author=("Ann", "ann@acme.example"),
            when=place.clock.now(), parents=(),
        )  # fmt: skip
        website.force("leak", value)
        assert (await place.run()).exit_code == 0
    run = await erase(place, "acme/website", ErasureTarget(ref="refs/heads/leak"))
    assert (run.exit_code, run.entries[0].problems) == (0, ())
    folder = folder_of(place, "acme/website")
    assert b"SECRET KEY" not in everything_in(folder.code)
    for snapshot in folder.metadata.snapshots():
        known = folder.metadata.code_refs(snapshot)
        assert known is not None
        assert b"refs/heads/leak" not in known[0].refs
    await sound(place)
    assert (await place.run()).exit_code == 0
    assert "leak" not in git("for-each-ref", cwd=folder.code)
    assert b"SECRET KEY" not in everything_in(folder.code)
    await sound(place)


async def test_what_other_refs_still_reach_is_said(place: Place) -> None:
    await place.run()
    run = await erase(place, "acme/website", ErasureTarget(ref="refs/heads/feature/blog"))
    assert run.exit_code == 3
    assert "still reached by" in run.entries[0].problems[0].text
    assert "refs/mirror/pull-requests/" in run.entries[0].problems[0].text


async def test_a_whole_repository_stays_away(place: Place) -> None:
    await place.run()
    before = folder_of(place, "acme/billing")
    assert list(before.files())
    run = await erase(place, "acme/billing", ErasureTarget(), "never ours to keep")
    assert run.exit_code == 0
    folder = folder_of(place, "acme/billing")
    left = {path.name for path in (place.config.store / folder.place).rglob("*") if path.is_file()}
    assert left == {
        "repository.json", "erasures.json", "snapshots.json", "lock", "HEAD", "config", "packed-refs"
    }  # fmt: skip
    await sound(place)
    again = await place.run()
    entry = next(one for one in again.entries if one.full_name == "acme/billing")
    assert (str(entry.outcome), again.exit_code) == ("erased", 0)
    assert not folder.code.exists()
    await sound(place)


async def test_nothing_to_erase_is_an_error_and_changes_nothing(place: Place) -> None:
    await place.run()

    def content() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in place.config.store.rglob("*")
            if path.is_file() and not re.search(r"/(lock|cache/.*|tmp/.*)$", str(path))
        }

    before = content()
    for what in (
        ErasureTarget(document="pull-requests/9/999.json"),
        ErasureTarget(ref="refs/heads/none"),
        ErasureTarget(person="{00000000-0000-4000-8000-000000000000}"),
    ):
        with pytest.raises(UsageError, match="holds"):
            await erase(place, "acme/website", what)
    assert content() == before
    with pytest.raises(UsageError, match="store's own"):
        ErasureTarget(document="refs.json")
    with pytest.raises(UsageError, match="one thing"):
        ErasureTarget(document="a.json", ref="refs/heads/x")
    with pytest.raises(UsageError, match="reason"):
        await erase(place, "acme/website", ErasureTarget(ref="refs/heads/main"), " ")
    with pytest.raises(UsageError, match="workspace"):
        await erase(place, "acme", ErasureTarget())


async def test_an_erasure_that_was_killed_is_finished_by_the_next_backup(place: Place) -> None:
    await with_history(place)
    path = "pull-requests/0/3.json"
    run = await erase(place, "acme/website", ErasureTarget(document=path))
    folder: RepositoryFolder = folder_of(place, "acme/website")
    [erasure] = folder.erasures()
    pending = sealed(erasures_json([replace(erasure, done=False)]))
    write_file(place.config.store / folder.relative("erasures.json"), pending)
    found = (await verify.run(place.config.store, clock=place.clock, environment=os.environ)).facts[
        "findings"
    ]
    assert [one["severity"] for one in found] == ["warning"]
    await place.run()
    [after] = folder_of(place, "acme/website").erasures()
    assert (after.done, after.run) == (True, run.id)
    await sound(place)


async def test_removing_the_list_of_erasures_is_found(place: Place) -> None:
    await with_history(place)
    await erase(place, "acme/website", ErasureTarget(document="pull-requests/0/3.json"))
    folder = folder_of(place, "acme/website")
    (place.config.store / folder.relative("erasures.json")).unlink()
    run = await verify.run(place.config.store, clock=place.clock, environment=os.environ)
    assert any("erasures.json" in one["file"] for one in run.facts["findings"])
