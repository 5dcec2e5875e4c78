"""Which folder a name means, whatever was renamed."""

from __future__ import annotations

from pathlib import Path

from mirror.browse.repository.directory import Directory, open_folder
from mirror.model import Repository
from mirror.store.format import layout
from mirror.store.reading.reader import Store
from tests.extract.made import flip
from tests.store.helpers import ACME, START, open_store, uuid, website


def adopt(path: Path, *several: Repository) -> None:
    with open_store(path) as store:
        workspace = store.adopt_workspace(ACME, START)
        for one in several:
            store.adopt_repository(workspace, one, START)


def names(path: Path, directory: Directory, *parts: str) -> tuple[list[str], bool]:
    with Store.open(path) as store:
        found = directory.find(store, *parts)
    return [one.place[-1] for one in found.names], found.moved


def test_current_names_come_before_former_ones(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    adopt(tmp_path, website("old", number=1))
    assert names(tmp_path, directory, "acme", "OLD") == (["old~00000001"], False)
    adopt(tmp_path, website("new", number=1))
    assert names(tmp_path, directory, "acme", "old") == (["old~00000001"], True)
    for word in ("new", "old~00000001", uuid(1)):
        assert names(tmp_path, directory, "acme", word) == (["old~00000001"], False)
    adopt(tmp_path, website("old", number=2))
    assert names(tmp_path, directory, "acme", "old") == (["old~00000002"], False)
    assert names(tmp_path, directory, "other", "old") == ([], True)
    assert names(tmp_path, directory, "acme") == (["acme~00000ace"], False)


def test_two_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    adopt(tmp_path, website("shop", number=1), website("other", number=3))
    adopt(tmp_path, website("shop", number=2))
    assert names(tmp_path, directory, "acme", "shop") == (["shop~00000001", "shop~00000002"], False)
    with Store.open(tmp_path) as store:
        several = {one.place[-1]: directory.address(store, one) for one in directory.repositories(store)}
        assert several["shop~00000001"] == "acme~00000ace/shop~00000001"
        assert several["other~00000003"] == "acme/other"
        [workspace] = directory.workspaces(store)
        assert directory.address(store, workspace) == "acme"
        for one in directory.repositories(store):
            assert open_folder(store, one).folder == one.place[-1]


def test_a_damaged_folder_keeps_the_name_of_its_folder(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    adopt(tmp_path, website("shop", number=1))
    [file] = tmp_path.rglob(layout.REPOSITORY_FILE)
    flip(file, 20)
    with Store.open(tmp_path) as store:
        [found] = directory.find(store, "acme", "shop").names
    assert "repository.json" in found.damage
