"""A selector finds what a person means; if it finds nothing, the error suggests names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.errors import UsageError
from mirror.model import Selector, Workspace
from mirror.store.reading.reader import Store, StoreDamaged
from tests.store.helpers import ACME, START, open_store, uuid, website


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as writer:
        acme = writer.adopt_workspace(ACME, START)
        old = writer.adopt_repository(acme, website("website", number=1), START)
        for day in (0, 1, 2):
            writer.mark_missing(old, START + timedelta(days=day))
        writer.adopt_repository(acme, website("website", number=2), START)
        writer.adopt_repository(acme, website("api-old", number=3), START)
        writer.adopt_repository(acme, website("api", number=3), START + timedelta(days=1))
        writer.adopt_repository(acme, website("docs", number=4), START)
        writer.adopt_workspace(Workspace(uuid(0xBEE), "beta"), START)
        yield writer.reader


def found(store: Store, *texts: str) -> list[str]:
    return [one.folder for one in store.repositories([Selector.parse(text) for text in texts])]


@pytest.mark.parametrize(
    ("texts", "folders"),
    [
        ([], ["api-old~00000003", "docs~00000004", "website~00000001", "website~00000002"]),
        (["acme"], ["api-old~00000003", "docs~00000004", "website~00000001", "website~00000002"]),
        (["acme/docs"], ["docs~00000004"]),
        (["ACME/Docs"], ["docs~00000004"]),
        (["acme/web*"], ["website~00000001", "website~00000002"]),
        (["acme/website~00000001"], ["website~00000001"]),
        (["acme~00000ace/website~00000002"], ["website~00000002"]),
        (["acme/" + uuid(4)], ["docs~00000004"]),
        (["acme/api"], ["api-old~00000003"]),
        (["acme/api-old"], ["api-old~00000003"]),
        (["*/docs", "acme/docs", "acme/api"], ["api-old~00000003", "docs~00000004"]),
        (["beta"], []),
    ],
)
def test_selectors_find_current_names_folders_uuids_and_former_names(
    store: Store, texts: list[str], folders: list[str]
) -> None:
    assert found(store, *texts) == folders


def test_a_name_used_twice_is_told_apart_by_its_folders(store: Store) -> None:
    with pytest.raises(UsageError, match="is the name of 2 repositories") as caught:
        found(store, "acme/website")
    assert "acme~00000ace/website~00000001 (gone since 2026-11-23T02:00:00Z)" in str(caught.value.hint)
    assert "acme~00000ace/website~00000002" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("acme/dosc", "acme/docs"),
        ("amce", "acme"),
        ("acme/zzzzz", "acme/"),
        ("nobody/x", "acme"),
        ("x/*", "acme"),
    ],
)
def test_a_selector_that_matches_nothing_says_what_is_near(store: Store, text: str, near: str) -> None:
    with pytest.raises(UsageError, match="matches nothing in this store") as caught:
        found(store, text)
    assert near in str(caught.value.hint)


def test_one_repository_is_asked_for_and_several_are_an_error(store: Store) -> None:
    assert store.repository(Selector.parse("acme/docs")).slug == "docs"
    with pytest.raises(UsageError, match="matches 4 repositories"):
        store.repository(Selector.parse("acme"))
    with pytest.raises(UsageError, match="matches 0 repositories"):
        store.repository(Selector.parse("beta"))


def test_workspaces_are_selected_by_the_first_half(store: Store) -> None:
    assert [one.slug for one in store.workspaces()] == ["acme", "beta"]
    assert [one.slug for one in store.workspaces([Selector.parse("acme/docs")])] == ["acme"]
    with pytest.raises(UsageError, match="matches nothing"):
        store.workspaces([Selector.parse("gamma")])


def test_a_damaged_folder_is_no_hindrance_to_the_others(store: Store) -> None:
    [docs] = store.repositories([Selector.parse("acme/docs")])
    (docs.root / docs.relative("repository.json")).write_bytes(b"not JSON")
    assert found(store, "acme/api") == ["api-old~00000003"]
    for texts in ([], ["acme"], ["acme/docs"], ["acme/docs~00000004"]):
        with pytest.raises(StoreDamaged, match=r"docs~00000004/repository\.json"):
            found(store, *texts)
    damaged: list[str] = []
    assert len(store.repositories(on_damage=lambda damage: damaged.append(damage.file))) == 3
    assert damaged == [docs.relative("repository.json")]


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    with open_store(tmp_path / "empty") as writer, pytest.raises(UsageError) as caught:
        found(writer.reader, "acme")
    assert "run mirror backup" in str(caught.value.hint)
