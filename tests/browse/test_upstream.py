"""`diff` with upstream lists what upstream has changed since a snapshot, and writes nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.bitbucket.client.budget import Budget
from mirror.browse.upstream import AgainstUpstream, diff_upstream
from mirror.config import load
from mirror.errors import MirrorError
from mirror.model import NoProgress, Selector
from mirror.simulator import Fault, Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import json_of, mirror, write_config
from tests.place import Place

pytestmark = pytest.mark.git


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The sample workspace, backed up once."""
    folder = tmp_path_factory.mktemp("upstream")
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        found = Place(folder, simulator, load(write_config(folder, simulator, token)))
        world.clock = found.clock.now
        asyncio.run(found.run())
        found.clock.elapsed += 3600
        yield found


async def compare(place: Place, selector: str = "acme/website", **options: Any) -> AgainstUpstream:
    return await diff_upstream(
        options.pop("config", place.config), Selector.parse(selector), "latest", store=place.config.store,
        clock=place.clock, environment=os.environ, budget=Budget(place.clock), progress=NoProgress(),
        **options,
    )  # fmt: skip


def files_in(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


async def test_nothing_differs_right_after_a_backup(place: Place) -> None:
    for selector in ("acme/api", "acme/billing", "acme"):
        found = await compare(place, selector)
        assert (found.difference.refs, found.difference.documents, found.unread) == ((), (), {}), selector
        assert found.exit_code == 0
        assert ("repositories" if selector == "acme" else "pipelines") in found.left_out


async def test_what_changed_upstream_is_listed_and_nothing_is_written(place: Place) -> None:
    website = place.acme.repositories["website"]
    before, asked = files_in(place.config.store), len(place.simulator.requests)
    main = website.refs()[b"refs/heads/main"]
    new = website.commit("main", {"new.txt": b"new\n"}, "After the backup\n")
    website.set_ref(b"refs/heads/fresh", main)
    with place.world.at(place.clock.now()):
        pull = next(one for one in website.pull_requests.values() if one.state == "OPEN")
        pull.comment("One more thing", author=place.world.users["ann@acme.example"])
    variables = website.settings["variables"]
    variables[0]["value"] = "another"
    found = await compare(place)
    refs = {one.what: (one.kind, one.old, one.new) for one in found.difference.refs}
    assert refs["refs/heads/main"] == ("changed", main, new)
    assert refs["refs/heads/fresh"] == ("added", None, main)
    documents = {one.what: one for one in found.difference.documents}
    assert documents[f"pull-requests/0/{pull.id}.json"].kind == "changed"
    assert "comments" in documents[f"pull-requests/0/{pull.id}.json"].fields
    assert "settings/variables.json" in documents
    assert (found.unread, found.exit_code) == ({}, 0)
    assert len(place.simulator.requests) - asked < 80
    other = await compare(place, is_reversed=True)
    assert other.difference.old.snapshot == "upstream"
    assert {one.what: one.kind for one in other.difference.refs}["refs/heads/fresh"] == "removed"
    assert files_in(place.config.store) == before


async def test_what_could_not_be_read_is_said(place: Place) -> None:
    place.simulator.order(Fault("GET */api/branch-restrictions*", status=500, times=99))
    place.simulator.order(Fault("* */api.git/*", status=500, times=99))
    try:
        found = await compare(place, "acme/api")
    finally:
        place.simulator.faults.clear()
    assert set(found.unread) == {"settings", "code"} and found.exit_code in (3, 75), found.unread
    assert found.difference.documents == ()


async def test_what_the_snapshot_does_not_have_is_not_called_new(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = load(write_config(tmp_path, simulator, token))
        [entry] = config.workspaces
        place = Place(tmp_path, simulator, replace(config, workspaces=(replace(entry, include=("api",)),)))
        world.clock = place.clock.now
        for route in ("* */api.git/*", "GET */api/pullrequests*", "GET */api/branch-restrictions*"):
            simulator.order(Fault(route, status=500, times=999))
        await place.run()
        simulator.faults.clear()
        place.clock.elapsed += 3600
        found = await compare(place, "acme/api", is_reversed=True)
        assert (found.difference.refs, found.difference.documents) == ((), ())
        assert set(found.unread) == {"code", "pull_requests", "settings"} and found.exit_code == 3
        assert "the snapshot does not have it whole (partial: " in found.unread["code"]


async def test_what_is_accepted_as_missing_is_not_called_equal(place: Place) -> None:
    [entry] = place.config.workspaces
    accepting = replace(place.config, workspaces=(replace(entry, accept_missing=("settings",)),))
    place.simulator.order(Fault("GET */api/branch-restrictions*", status=500, times=99))
    try:
        found = await compare(place, "acme/api", config=accepting)
    finally:
        place.simulator.faults.clear()
    assert (found.unread, found.exit_code) == ({}, 0) and "settings" in found.left_out


async def test_what_the_configuration_leaves_out_is_not_called_equal(place: Place) -> None:
    [entry] = place.config.workspaces
    narrow = replace(entry, parts=replace(entry.parts, pull_requests=False))
    config = replace(place.config, workspaces=(narrow,))
    found = await compare(place, "acme/api", config=config)
    assert {"pull_requests", "pipelines", "commit_comments", "lfs", "wiki"} <= set(found.left_out)


async def test_another_repository_of_that_name_is_refused(place: Place) -> None:
    handbook = place.acme.repositories["handbook"]
    before = handbook.uuid
    handbook.uuid = "{00000000-0000-4000-8000-00000000ffff}"
    try:
        with pytest.raises(MirrorError, match="another repository"):
            await compare(place, "acme/handbook")
    finally:
        handbook.uuid = before


def test_the_command_says_it(place: Place) -> None:
    config = str(place.folder / "config.yaml")
    done = mirror("diff", "acme/api", "latest", "upstream", "-c", config)
    assert done.returncode == 0, done.stderr
    assert "→ upstream" in done.stdout and "not compared: pipelines" in done.stdout
    told = json_of(mirror("diff", "acme/api", "upstream", "latest", "-c", config, "--json"))
    assert told["old"]["snapshot"] == "upstream" and told["unread"] == {} and told["exit_code"] == 0
    bad = mirror("diff", "acme/api", "upstream", "upstream", "-c", config)
    assert bad.returncode == 2 and "latest" in bad.stderr
