"""One host lists, and others back up what it listed: the same as if each had asked."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from mirror import backup
from mirror.backup.listing import ListedEntry, ListedWorkspace, Listing, list_scope
from mirror.bitbucket.client.budget import Budget
from mirror.discovery import Discovered
from mirror.model import EVERYTHING, Outcome, Problem, Repository, Run, Workspace
from mirror.simulator.faults import Fault
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.place import Place

LIST = "GET /2.0/repositories/acme"


async def listing(place: Place) -> Listing:
    """What is listed, as it comes to another host."""
    found = await list_scope(
        place.config, EVERYTHING, clock=place.clock, environment=os.environ, budget=Budget(place.clock)
    )
    return Listing.from_json(json.loads(json.dumps(found.to_json())))


async def run(place: Place, listed: Listing, store: str) -> Run:
    """Back up what was listed into a store of this name."""
    place.clock.elapsed += 3600
    path = place.folder / store
    if not path.exists():
        create_or_open(path, command="test", now=place.clock.now()).close()
    config = replace(place.config, store=path)
    return await backup.run(config, clock=place.clock, environment=os.environ, listed=listed)


def outcomes(run: Run) -> Mapping[str, str]:
    return {f"{one.kind} {one.full_name}": str(one.outcome) for one in run.entries}


def part(listed: Listing, mine: Collection[str], *homes: str, **contested: Problem) -> Listing:
    return listed.part(mine, homes, contested)


async def test_a_run_with_a_list_is_the_run_without(place: Place) -> None:
    listed = await listing(place)
    assert listed.is_whole and len(listed.repositories()) == len(place.acme.repositories)
    asked = len([one for one in place.simulator.requests if one.path == "/2.0/repositories/acme"])
    with_list, without = await run(place, listed, "other"), await place.run()
    assert outcomes(with_list) == outcomes(without)
    assert (with_list.exit_code, with_list.problems) == (without.exit_code, without.problems)
    lists = [one for one in place.simulator.requests if one.path == "/2.0/repositories/acme"]
    assert len(lists) == 2 * asked


async def test_two_stores_share_a_workspace(place: Place) -> None:
    listed = await listing(place)
    uuids = sorted(uuid for uuid, _, _ in listed.repositories())
    (home,) = listed.workspaces()
    parts = {"a": part(listed, uuids[::2], home), "b": part(listed, uuids[1::2])}
    for _ in range(2):
        runs = {name: await run(place, one, name) for name, one in parts.items()}
        found = {
            name: {one.uuid for one in run.entries if one.kind == "repository"} for name, run in runs.items()
        }
        assert found == {"a": set(uuids[::2]), "b": set(uuids[1::2])}
        assert [one.full_name for one in runs["a"].entries if one.kind == "workspace"] == ["acme"]
        assert not [one for one in runs["b"].entries if one.kind == "workspace"]
        assert {one.exit_code for one in runs.values()} == {0}
    # What neither may have any more is missing where it was.
    gone = next(one for one in place.acme.repositories.values() if one.uuid == uuids[1])
    del place.acme.repositories[gone.slug]
    listed = await listing(place)
    assert (
        outcomes(await run(place, part(listed, uuids[1::2]), "b"))[f"repository acme/{gone.slug}"] == "absent"
    )
    assert f"repository acme/{gone.slug}" not in outcomes(
        await run(place, part(listed, uuids[::2], home), "a")
    )


async def test_a_store_without_a_repository_of_a_workspace_has_nothing_of_it(place: Place) -> None:
    listed = await listing(place)
    done = await run(place, part(listed, ()), "c")
    assert (done.entries, done.exit_code) == ((), 0)
    assert not list((place.folder / "c" / "workspaces").glob("*"))


@pytest.mark.parametrize("status", [403, 410, 500])
async def test_a_list_that_fails_is_everybodys_failure(place: Place, status: int) -> None:
    await run(place, await listing(place), "other")
    await place.run()
    place.simulator.order(Fault(LIST, status=status, times=10_000))
    listed = await listing(place)
    assert not listed.is_whole
    with_list, without = await run(place, listed, "other"), await place.run()
    assert outcomes(with_list) == outcomes(without)
    assert with_list.exit_codes == without.exit_codes
    assert [one.text for one in with_list.problems] == [one.text for one in without.problems]


async def test_nothing_is_written_to_what_is_contested(place: Place) -> None:
    listed = await listing(place)
    await run(place, listed, "a")
    uuid, _, name = listed.repositories()[0]
    folder = next((place.folder / "a" / "workspaces").glob(f"*/repositories/*{uuid[1:9]}"))
    place.acme.repositories[name.partition("/")[2]].commit("main", {"new": b"new\n"}, "New")
    before = {one: one.stat().st_mtime_ns for one in folder.rglob("*")}
    why = {uuid: Problem(1, "the shards a and b both have a folder of it")}
    others = [one for one, _, _ in listed.repositories() if one != uuid]
    for fault in (None, Fault(LIST, status=403, times=10_000)):
        if fault is not None:
            place.simulator.order(fault)
        done = await run(place, (await listing(place)).part(others, listed.workspaces(), why), "a")
        (entry,) = [one for one in done.entries if one.uuid == uuid]
        assert entry.outcome is Outcome.FAILED and entry.problems == (why[uuid],)
        assert done.exit_code == (1 if fault is None else 2)
        assert {one: one.stat().st_mtime_ns for one in folder.rglob("*")} == before


def without_first(listed: Listing) -> tuple[ListedEntry, ListedWorkspace, Discovered, Repository]:
    """The only workspace of a list, what is found there without its first repository, and that one."""
    [entry] = listed.entries
    [acme] = entry.workspaces
    assert acme.found is not None
    gone, *rest = acme.found.repositories
    left = replace(acme.found, repositories=tuple(rest), listed=acme.found.listed - {gone.uuid})
    return entry, acme, left, gone


async def test_what_was_transferred_to_a_workspace_of_others_is_not_missing(place: Place) -> None:
    """The new workspace is nothing to this store: it holds nothing of it, and is to back up nothing."""
    listed = await listing(place)
    everything = {uuid for uuid, _, _ in listed.repositories()}
    await run(place, part(listed, everything), "one")
    entry, acme, left, gone = without_first(listed)
    beta = Workspace("{11111111-0000-4000-8000-000000000001}", "beta", "Beta")
    there = Discovered(beta, (), True, frozenset({gone.uuid}))
    both = (replace(acme, found=left), ListedWorkspace(beta, there, {}, is_home=False))
    later = Listing((replace(entry, workspaces=both),))
    await run(place, part(later, everything), "one")
    with Store.open(place.folder / "one") as store:
        assert [one.full_name for one in store.repositories() if one.missing is not None] == []


async def test_what_was_found_after_the_list_was_asked_for_is_not_missing(place: Place) -> None:
    listed = await listing(place)
    everything = {uuid for uuid, _, _ in listed.repositories()}
    await run(place, part(listed, everything), "one")
    entry, acme, left, fresh = without_first(listed)
    older = Listing((replace(entry, workspaces=(replace(acme, found=left),)),))
    for younger, missing in ((frozenset({fresh.uuid}), []), (frozenset[str](), [fresh.full_name])):
        await run(place, replace(older, younger=younger), "one")
        with Store.open(place.folder / "one") as store:
            assert [one.full_name for one in store.repositories() if one.missing is not None] == missing


async def test_what_came_from_another_store_since_it_was_listed_is_not_excluded(place: Place) -> None:
    """It was the other's when the list was shared out, and who brought it here backs it up by itself."""
    listed = await listing(place)
    everything = [uuid for uuid, _, _ in listed.repositories()]
    await run(place, part(listed, everything), "one")
    done = await run(place, part(listed, everything[1:]), "one")
    assert {one.uuid for one in done.entries if one.kind == "repository"} == set(everything[1:])
    assert "excluded" not in outcomes(done).values()
