"""A repository is its uuid: whatever happens to names, no snapshot contains another repository's data."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mirror import restore
from mirror.collect import repository as collecting
from mirror.config import load
from mirror.git.mirrors.fetch import read_refs
from mirror.git.mirrors.fsck import CheckJob, check, direct_values
from mirror.model import Run, Selector
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES
from mirror.store.reading.reader import RepositoryFolder
from mirror.verify.snapshots import check_snapshots
from tests.e2e.helpers import write_config
from tests.place import Place


def outcomes(run: Run) -> dict[str, str]:
    return {entry.full_name: str(entry.outcome) for entry in run.entries if entry.kind == "repository"}


def another(place: Place, slug: str) -> SimRepository:
    """Delete a repository and create another one with its name, other branches and a pull request."""
    place.acme.delete_repository(slug)
    made = place.acme.add_repository(slug)
    made.commit("main", {"other.txt": b"something else\n"}, "Something else\n")
    tip = made.refs()[b"refs/heads/main"]
    made.commit("topic", {"topic.txt": b"a topic\n"}, "A topic\n", parents=[tip])
    made.open_pull_request(source="topic", title="Not yours", author=place.world.users["ann@acme.example"])
    return made


def folders(place: Place) -> dict[str, RepositoryFolder]:
    with place.store() as store:
        return {one.uuid: one for one in store.repositories()}


async def test_a_name_used_again_between_two_runs_is_two_repositories(place: Place) -> None:
    old = place.acme.repositories["billing"]
    await place.run()
    made = another(place, "billing")
    await place.run()
    both = folders(place)
    for one in (old, made):
        folder = both[one.uuid]
        assert read_refs(folder.code).refs == one.refs()
        assert check_snapshots(folder, None, "objects").findings == []
    assert both[old.uuid].missing is not None and both[made.uuid].missing is None


@pytest.mark.parametrize("when", ["before the survey", "between survey and fetch"])
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "first seen"])
async def test_a_name_used_again_between_list_and_fetch_is_noticed(
    place: Place, monkeypatch: pytest.MonkeyPatch, when: str, is_known: bool
) -> None:
    old = place.acme.repositories["billing"]
    if is_known:
        await place.run()
    made: list[SimRepository] = []
    real: Callable[..., Awaitable[Any]] = collecting.list_changes

    async def survey(work: Any, wanted: Any) -> Any:
        swaps = work.repository.uuid == old.uuid and not made
        if swaps and when == "before the survey":
            made.append(another(place, "billing"))
        found = await real(work, wanted)
        if swaps and when != "before the survey":
            made.append(another(place, "billing"))
        return found

    monkeypatch.setattr(collecting, "list_changes", survey)
    refs = old.refs()
    run = await place.run()
    assert run.exit_code == 75 and outcomes(run)["acme/billing"] == "failed"
    [problem] = next(one.problems for one in run.entries if one.full_name == "acme/billing")
    assert made[0].uuid in problem.text
    folder = folders(place)[old.uuid]
    assert read_refs(folder.code).refs == (refs if is_known else {})
    assert check_snapshots(folder, None, "objects").findings == []
    # The next run creates a folder for the new one; the old one keeps its last state.
    run = await place.run()
    both = folders(place)
    assert read_refs(both[made[0].uuid].code).refs == made[0].refs()
    with place.store() as store:
        for uuid, title in ((old.uuid, "The right rate"), (made[0].uuid, "Not yours")):
            held = next(one for one in store.repositories() if one.uuid == uuid)
            latest = held.metadata.latest()
            if uuid == old.uuid and not is_known:
                assert latest is None
                continue
            assert latest is not None
            document = held.metadata.read(latest, "pull-requests/0/1.json")
            assert document is not None and document["pull_request"]["title"] == title


async def test_a_force_push_alone_is_not_taken_for_another(place: Place) -> None:
    await place.run()
    website = place.acme.repositories["website"]
    website.force("main", website.commit("fresh", {"a": b"a\n"}, "Fresh\n", parents=()))
    run = await place.run()
    assert outcomes(run)["acme/website"] == "saved"
    assert read_refs(folders(place)[website.uuid].code).refs == website.refs()


async def test_a_repository_given_to_another_workspace_keeps_its_folder_and_its_past(place: Place) -> None:
    await place.run()
    billing = place.acme.repositories["billing"]
    before = folders(place)[billing.uuid]
    first = before.metadata.latest()
    other = place.world.add_workspace("other")
    token = place.world.add_workspace_access_token("other", SCOPES)
    place.acme.transfer_repository("billing", other)
    assert outcomes(await place.run())["acme/billing"] == "absent"
    billing.commit("main", {"more.txt": b"more\n"}, "More\n")
    folder = place.folder / "theirs"
    folder.mkdir()
    path = write_config(folder, place.simulator, token, workspace="other")
    path.write_text(path.read_text().replace("store: store", f"store: {place.config.store}"))
    theirs = Place(folder, place.simulator, load(path))
    theirs.clock.elapsed = place.clock.elapsed
    assert outcomes(await theirs.run()) == {"other/billing": "saved"}
    after = folders(place)[billing.uuid]
    assert after.place == before.place and after.full_name == "other/billing" and after.missing is None
    assert [one.name for one in after.former_names] == ["acme/billing"]
    assert first is not None and first.id in {one.id for one in after.metadata.snapshots()}
    # The run of the old workspace reports that it moved, and damages nothing.
    await place.run()
    assert read_refs(folders(place)[billing.uuid].code).refs == billing.refs()


async def test_names_that_are_swapped_stay_with_their_code(place: Place) -> None:
    await place.run()
    website, api = place.acme.repositories["website"], place.acme.repositories["api"]
    before = {one.uuid: one.place for one in folders(place).values()}
    place.acme.rename_repository("website", "between")
    place.acme.rename_repository("api", "website")
    place.acme.rename_repository("between", "api")
    run = await place.run()
    after = folders(place)
    for one in (website, api):
        assert after[one.uuid].place == before[one.uuid]
        assert after[one.uuid].full_name == one.full_name
        assert read_refs(after[one.uuid].code).refs == one.refs()
    assert all(not entry.ref_changes for entry in run.entries)


async def test_a_fork_outlives_its_parent(place: Place) -> None:
    """Each mirror is complete by itself, whatever upstream shares."""
    website = place.acme.repositories["website"]
    fork = place.acme.add_repository("website-fork", parent=website)
    fork.commit("main", {"fork.txt": b"ours\n"}, "Ours\n")
    website.open_pull_request(
        source="main", title="Ours", author=place.world.users["ann@acme.example"], fork=fork
    )
    await place.run()
    both = folders(place)
    parent, child = both[website.uuid], both[fork.uuid]
    for one in (parent, child):
        assert not (one.code / "objects/info/alternates").exists()
    head = fork.refs()[b"refs/heads/main"]
    assert head in direct_values(parent.code)  # the pin of the pull request
    shutil.rmtree(parent.root / parent.place)
    assert check(CheckJob(str(child.code), tuple(fork.refs().values()))).problems == ()
    report = await restore.run(
        place.config.store,
        Selector.parse("acme/website-fork"),
        target=str(place.folder / "back"),
        environment={},
    )
    assert report.exit_code == 0
