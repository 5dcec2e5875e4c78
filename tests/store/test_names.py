"""Folders never change their names, whatever happens to the names of repositories and workspaces."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.errors import MirrorError
from mirror.model import Workspace, loads
from mirror.store.format import layout
from mirror.store.reading.reader import RepositoryFolder, StoreDamaged
from mirror.store.writing.writer import StoreWriter
from tests.store.helpers import ACME, START, adopt, open_store, uuid, website

LATER = START + timedelta(hours=4)


def folders(store: StoreWriter) -> dict[str, str]:
    return {one.full_name: one.relative() for one in store.reader.repositories()}


def only(store: StoreWriter) -> RepositoryFolder:
    [one] = store.reader.repositories()
    return one


def test_a_folder_is_named_by_the_first_slug_and_the_uuid(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        adopt(store)
        assert folders(store) == {"acme/website": "workspaces/acme~00000ace/repositories/website~00000001"}
        assert only(store).folder == "website~00000001"
        assert only(store).workspace_folder == "acme~00000ace"


def test_adopting_again_writes_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        adopt(store)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
        adopt(store)
        assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}


def test_a_rename_keeps_the_folder_and_remembers_the_name(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        adopt(store)
        workspace = store.adopt_workspace(ACME, LATER)
        renamed = store.adopt_repository(workspace, website("site"), LATER).folder
        assert (renamed.full_name, renamed.folder) == ("acme/site", "website~00000001")
        [former] = renamed.former_names
        assert (former.name, former.since, former.until) == ("acme/website", START, LATER)


def test_swapped_names_stay_with_their_uuids(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        workspace = store.adopt_workspace(ACME, START)
        store.adopt_repository(workspace, website("red", number=1), START)
        store.adopt_repository(workspace, website("blue", number=2), START)
        store.adopt_repository(workspace, website("blue", number=1), LATER)
        store.adopt_repository(workspace, website("red", number=2), LATER)
        base = "workspaces/acme~00000ace/repositories"
        assert folders(store) == {"acme/blue": f"{base}/red~00000001", "acme/red": f"{base}/blue~00000002"}


def test_a_name_used_again_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        workspace = store.adopt_workspace(ACME, START)
        store.adopt_repository(workspace, website(number=1), START)
        store.adopt_repository(workspace, website(number=2), LATER)
        assert [(one.full_name, one.folder) for one in store.reader.repositories()] == [
            ("acme/website", "website~00000001"),
            ("acme/website", "website~00000002"),
        ]


def test_a_transferred_repository_stays_where_it_is(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        adopt(store)
        other = store.adopt_workspace(Workspace(uuid(0xBEE), "beta"), LATER)
        moved = store.adopt_repository(other, website(workspace="beta"), LATER).folder
        assert moved.relative() == "workspaces/acme~00000ace/repositories/website~00000001"
        assert (moved.full_name, moved.workspace_slug) == ("beta/website", "beta")
        assert [former.name for former in moved.former_names] == ["acme/website"]


def test_a_renamed_workspace_renames_its_repositories_even_those_that_are_gone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        gone = adopt(store)
        for day in (0, 1, 2):
            store.mark_missing(gone, START + timedelta(days=day))
        renamed = store.adopt_workspace(Workspace(ACME.uuid, "apex", "Apex"), LATER).folder
        assert (renamed.slug, renamed.folder) == ("apex", "acme~00000ace")
        assert [former.name for former in renamed.former_names] == ["acme"]
        assert only(store).full_name == "apex/website"
        assert only(store).gone_since == START


def test_uuids_that_begin_alike_get_longer_folder_names(tmp_path: Path) -> None:
    one, two = "{12345678-0000-4000-8000-000000000001}", "{12345678-9000-4000-8000-000000000002}"
    with open_store(tmp_path) as store:
        workspace = store.adopt_workspace(ACME, START)
        for number in (one, two, one, two):
            repository = website()
            store.adopt_repository(workspace, type(repository)(number, "acme", "website"), START)
        assert [(f.uuid, f.folder) for f in store.reader.repositories()] == [
            (one, "website~12345678"),
            (two, "website~123456789"),
        ]


def test_a_damaged_record_never_leads_to_a_second_folder(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        (writer.path / "repository.json").write_bytes(b"{}")
        with pytest.raises(StoreDamaged, match=r"website~00000001/repository\.json is damaged"):
            adopt(store, website("site"))
        # One damaged folder does not stop the others.
        adopt(store, website("other", number=2))
        assert len(list(writer.path.parent.iterdir())) == 2


def test_what_is_no_uuid_gets_no_folder(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, pytest.raises(MirrorError, match="is not a uuid"):
        store.adopt_workspace(Workspace("../../etc", "x"), START)


@settings(derandomize=True, max_examples=200)
@given(st.text(max_size=200), st.uuids())
def test_every_slug_gives_a_safe_name_that_is_found_by_its_uuid(slug: str, identifier: object) -> None:
    name = layout.folder_name(slug, f"{{{identifier}}}")
    assert layout.is_name(name)
    assert layout.is_name(layout.folder_name(slug, f"{{{identifier}}}", 32))
    assert layout.may_belong_to(name, f"{{{identifier}}}".upper())


@pytest.mark.parametrize("path", ["", "/etc", "a//b", "../a", "a/..", "A.json", "a b", "é", "x" * 101])
def test_paths_of_other_shapes_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path in the store"):
        layout.check_path(path)


def test_gone_takes_three_runs_over_two_days_and_a_sight_of_it_ends_it(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        folder = adopt(store).folder
        states = [
            store.mark_missing(folder, START + timedelta(hours=hours)).state for hours in (0, 1, 2, 47, 48)
        ]
        assert states == ["absent", "absent", "absent", "absent", "gone"]
        assert only(store).gone_since == START
        absence = store.mark_missing(folder, START + timedelta(hours=50))
        assert (absence.state, absence.runs, absence.since) == ("gone", 6, START)
        adopt(store)
        assert (only(store).missing, only(store).gone_since) == (None, None)


def test_two_runs_over_many_days_are_not_enough(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        folder = adopt(store).folder
        store.mark_missing(folder, START)
        assert store.mark_missing(folder, START + timedelta(days=300)).state == "absent"
        store.mark_present(folder)
        assert only(store).missing is None
        assert store.mark_missing(folder, START + timedelta(days=301)).runs == 1


def test_the_index_leads_from_every_name_to_its_folders(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        adopt(store)
        adopt(store, website("site"))
        adopt(store, website("website", number=2))
        store.rebuild_index(LATER)
        index = loads((tmp_path / "index.json").read_bytes())
        base = "workspaces/acme~00000ace"
        assert index["names"] == {
            "acme": [base],
            "acme/site": [f"{base}/repositories/website~00000001"],
            "acme/website": [
                f"{base}/repositories/website~00000001",
                f"{base}/repositories/website~00000002",
            ],
        }
        page = (tmp_path / "INDEX.md").read_text()
        assert f"| acme/site | `{base}/repositories/website~00000001` | acme/website (until" in page


def test_a_damaged_folder_does_not_stop_the_index(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        adopt(store, website("other", number=2))
        (writer.path / "repository.json").write_bytes(b"\0")
        store.rebuild_index(LATER)
    index = loads((tmp_path / "index.json").read_bytes())
    assert list(index["names"]) == ["acme", "acme/other"]
    assert index["damaged"] == [writer.folder.relative("repository.json")]
    assert "website~00000001/repository.json" in (tmp_path / "INDEX.md").read_text()
