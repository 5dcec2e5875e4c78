"""Damage in one folder, or foreign files in the store, affect only that folder, and the run names them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import browse, prune, restore, verify
from mirror.config import load
from mirror.model import Run, Selector
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.reading.reader import RepositoryFolder
from tests.e2e.helpers import write_config
from tests.place import Place

STRANGERS = (
    ".snapshot",
    ".git",
    ".stfolder",
    "@eaDir",
    "website (conflicted copy)",
    "website.bak",
    "lost+found",
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    acme = world.add_workspace("acme")
    for name in ("api", "website"):
        acme.add_repository(name).commit("main", {"a": name.encode()}, "Begin\n")
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        path = write_config(tmp_path, simulator, token, more="retention: {keep_last: 1}\n")
        yield Place(tmp_path, simulator, load(path))


def outcomes(run: Run) -> dict[str, str]:
    return {entry.full_name: str(entry.outcome) for entry in run.entries}


def folder_of(place: Place, name: str) -> RepositoryFolder:
    with place.store() as store:
        return store.repository(Selector.parse(name))


def path_of(place: Place, name: str) -> Path:
    return place.config.store / folder_of(place, name).place


async def verified(place: Place) -> Run:
    return await verify.run(place.config.store, clock=place.clock, environment=os.environ)


async def pruned(place: Place) -> Run:
    return await prune.prune(place.config, clock=place.clock, environment=os.environ)


async def restored(place: Place, selector: str, target: Path) -> restore.Report:
    return await restore.run(
        place.config.store, Selector.parse(selector), target=str(target), environment=os.environ
    )


def findings(run: Run, severity: str = "damage") -> list[tuple[str, str]]:
    return [(one["file"], one["problem"]) for one in run.facts["findings"] if one["severity"] == severity]


def commit(place: Place, text: bytes) -> None:
    for one in place.acme.repositories.values():
        one.commit("main", {"a": text}, "More\n")


def lose(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        data = path.read_bytes()
        where = data.index(b'"uuid": "{') + 30  # after the digits in the folder's name
        path.write_bytes(
            data[:where] + (b"0" if data[where : where + 1] != b"0" else b"1") + data[where + 1 :]
        )


@pytest.mark.parametrize("how", ["gone", "empty", "one digit"])
@pytest.mark.parametrize("card", ["repository.json", "workspace.json"])
async def test_a_card_is_read_from_its_snapshots_and_made_again(
    place: Place, tmp_path: Path, card: str, how: str
) -> None:
    assert (await place.run()).exit_code == 0
    folder = path_of(place, "acme/website")
    path = (folder if card == "repository.json" else folder.parent.parent) / card
    before = path.read_bytes()
    lose(path, how)
    file = str(path.relative_to(place.config.store))
    found = await verified(place)
    assert {one for one, _ in findings(found)} == {file}
    with place.store() as store:
        assert {one.full_name for one in store.repositories()} == {"acme/api", "acme/website"}
        assert [one.slug for one in store.workspaces()] == ["acme"]
    report = await restored(place, "acme", tmp_path / "back")
    assert {one.repository for one in report.items} == {"acme/api", "acme/website", "acme"}
    assert not any(one.problems for one in report.items)
    assert (await pruned(place)).exit_code == 0
    commit(place, b"2")
    place.clock.elapsed += 60
    run = await place.run()
    assert run.exit_code == 4
    told = [problem.text for entry in run.entries for problem in entry.problems]
    told += [problem.text for problem in run.problems]
    assert [text for text in told if file in text and "made again" in text], told
    assert {outcomes(run)[name] for name in ("acme/api", "acme/website")} == {"saved"}
    assert json.loads(path.read_bytes())["uuid"] == json.loads(before)["uuid"]
    assert (await place.run()).exit_code == 0
    assert (await verified(place)).exit_code == 0


async def test_a_workspaces_card_is_read_from_its_repositories(place: Place) -> None:
    assert (await place.run()).exit_code == 0
    home = path_of(place, "acme/website").parent.parent
    (home / "workspace.json").unlink()
    shutil.rmtree(home / "metadata.git")
    (home / "snapshots.json").unlink(missing_ok=True)
    commit(place, b"2")
    run = await place.run()
    assert run.exit_code == 4
    assert {outcomes(run)[name] for name in ("acme/api", "acme/website")} == {"saved"}
    assert len(list(home.parent.iterdir())) == 1


async def test_a_folder_of_which_nothing_tells_costs_itself_alone(place: Place, tmp_path: Path) -> None:
    assert (await place.run()).exit_code == 0
    folder = path_of(place, "acme/website")
    (folder / "repository.json").unlink()
    shutil.rmtree(folder / "metadata.git")
    commit(place, b"2")
    held = sorted(path.name for path in folder.iterdir())
    run = await place.run()
    assert run.exit_code == 4
    assert (outcomes(run)["acme/api"], outcomes(run)["acme/website"]) == ("saved", "failed")
    [entry] = [one for one in run.entries if one.full_name == "acme/website"]
    assert f"{folder.name}/repository.json" in entry.problems[0].text
    assert sorted(path.name for path in folder.iterdir()) == held
    assert any(file.endswith("website~" + folder.name[-8:] + "/repository.json") for file, _ in findings(
        await verified(place)
    ))  # fmt: skip
    assert any("repository.json" in text for text in browse.status(place.config.store).damage)
    after = await pruned(place)
    assert {one.full_name for one in after.entries} == {"acme", "acme/api"}
    assert after.exit_code == 4
    report = await restored(place, "acme", tmp_path / "back")
    assert [one.repository for one in report.items if not one.problems] == ["acme/api", "acme"]
    assert [code for one in report.items for code, _ in one.problems] == [4]
    assert (tmp_path / "back" / "acme" / "api" / "code.git").is_dir()
    exported = browse.export(place.config.store, Selector.parse("acme"), tmp_path / "out")
    assert [code for one in exported for code, _ in one.problems] == [4]


async def test_what_others_left_among_the_folders_is_passed_over(place: Place) -> None:
    assert (await place.run()).exit_code == 0
    repositories = path_of(place, "acme/website").parent
    for top in (repositories, repositories.parent.parent):
        for name in STRANGERS:
            (top / name).mkdir()
        (top / "desktop.ini").write_text("[x]\n")
    shutil.copytree(path_of(place, "acme/website"), repositories / "website.copy")
    commit(place, b"2")
    assert (await place.run()).exit_code == 0
    assert (await pruned(place)).exit_code == 0
    assert browse.status(place.config.store).damage == ()
    run = await verified(place)
    assert (run.exit_code, findings(run)) == (0, [])
    told = [file for file, _ in findings(run, "warning")]
    assert len(told) == 2 * (len(STRANGERS) + 1) + 1
    assert all((place.config.store / file).exists() for file in told)


@pytest.mark.parametrize("content", ["the same", "cut", "half"])
async def test_a_copy_of_a_pack_beside_the_true_one_is_passed_over(
    place: Place, tmp_path: Path, content: str
) -> None:
    assert (await place.run()).exit_code == 0
    for repository in ("code.git", "metadata.git"):
        packs = path_of(place, "acme/website") / repository / "objects" / "pack"
        for half in [*packs.glob("*.pack"), *packs.glob("*.idx")]:
            data = half.read_bytes()
            if content != "half" or half.suffix == ".pack":
                copy = half.with_name(f"{half.stem} (conflicted copy){half.suffix}")
                copy.write_bytes(data if content == "the same" else data[: len(data) // 2])
    report = await restored(place, "acme/website", tmp_path / "back")
    assert not report.items[0].problems
    assert not list((tmp_path / "back").rglob("*conflicted*"))
    exported = browse.export(place.config.store, Selector.parse("acme/website"), tmp_path / "out")
    assert not exported[0].problems
    commit(place, b"2")
    assert (await place.run()).exit_code == 0
    assert (await pruned(place)).exit_code == 0
    run = await verified(place)
    assert (run.exit_code, findings(run)) == (0, [])
    assert any("conflicted copy" in file for file, _ in findings(run, "warning"))


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["website-copy", "website"])
async def test_two_folders_of_one_uuid_are_named_and_left_alone(place: Place, name: str) -> None:
    beta = place.world.add_workspace("beta")
    beta.add_repository("other")
    assert (await place.run()).exit_code == 0
    first = path_of(place, "acme/website")
    elsewhere = first.parent.parent.parent / "beta~12345678" / "repositories"
    top = first.parent if name == "website-copy" else elsewhere
    second = top / first.name.replace("website", name)
    shutil.copytree(first, second)
    before = content_of(first), content_of(second)
    commit(place, b"2")
    for _ in range(2):
        run = await place.run()
        assert run.exit_code == 4
        assert outcomes(run)["acme/api"] in ("saved", "confirmed")
        [entry] = [one for one in run.entries if one.full_name == "acme/website"]
        assert first.name in entry.problems[0].text and second.name in entry.problems[0].text
        assert "move the other out of the store" in entry.problems[0].text
    assert (content_of(first), content_of(second)) == before
    told = [problem for _, problem in findings(await verified(place)) if "same uuid" in problem]
    assert len(told) == 1
    after = await pruned(place)
    assert 4 in after.exit_codes
    assert (content_of(first), content_of(second)) == before
    shutil.rmtree(elsewhere.parent if name == "website" else second)
    assert (await place.run()).exit_code == 0
    assert (await verified(place)).exit_code == 0


async def test_a_folder_with_another_ones_card_is_found(place: Place) -> None:
    assert (await place.run()).exit_code == 0
    first = path_of(place, "acme/website")
    copy = first.with_name("website~deadbeef")
    shutil.copytree(first, copy)
    commit(place, b"2")
    before = content_of(copy)
    assert outcomes(await place.run())["acme/website"] == "saved"
    assert content_of(copy) == before
    assert any(file.endswith("website~deadbeef") for file, _ in findings(await verified(place)))
    assert 4 in (await pruned(place)).exit_codes
    assert content_of(copy) == before


@pytest.mark.parametrize("first", ["backup", "prune"])
async def test_a_folder_that_was_brought_back_from_an_older_copy_is_named(place: Place, first: str) -> None:
    assert (await place.run()).exit_code == 0
    commit(place, b"2")
    assert (await place.run()).exit_code == 0
    path, older = path_of(place, "acme/website"), place.folder / "older"
    shutil.copytree(path, older)
    commit(place, b"3")
    assert (await place.run()).exit_code == 0
    shutil.rmtree(path)
    shutil.copytree(older, path)
    text = "the folder was brought back from an older copy"
    if first == "prune":
        run = await pruned(place)
        [entry] = [one for one in run.entries if one.full_name == "acme/website"]
        assert (run.exit_code, entry.outcome) == (4, "kept")
        assert text in entry.problems[0].text
    assert (await verified(place)).exit_code == 4
    run = await place.run()
    assert (run.exit_code, outcomes(run)["acme/website"]) == (4, "saved")
    told = [one.text for entry in run.entries for one in entry.problems]
    assert len(told) == 1 and text in told[0], told
    assert findings(await verified(place)) == []
    assert (await place.run()).exit_code == 0
    assert (await pruned(place)).exit_code == 0
