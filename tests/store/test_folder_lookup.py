"""The store finds the folder of a uuid without listing all folders each time, and never finds the wrong
one."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.model import Repository, Verified
from mirror.store.writing.verify_journal import VerifyJournal
from tests.store.helpers import START, adopt, open_store, uuid, website


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Each folder of repositories that was listed."""
    found: list[Path] = []
    real = os.scandir

    def counted(path: Path | int) -> object:
        if isinstance(path, Path) and path.name == "repositories":
            found.append(path)
        return real(path)

    monkeypatch.setattr("mirror.store.reading.folder_lookup.os.scandir", counted)
    return found


def test_many_new_repositories_list_their_folder_once(tmp_path: Path, listed: list[Path]) -> None:
    with open_store(tmp_path) as store:
        for number in range(1, 200):
            adopt(store, website(f"repository-{number}", number=number << 8))
        for number in range(1, 200):
            found = store.reader.folder_of_repository(uuid(number << 8))
            assert found is not None and found.slug == f"repository-{number}"
        assert store.reader.folder_of_repository(uuid(77)) is None
    assert len(listed) <= 2


def test_what_another_process_makes_or_removes_is_seen(tmp_path: Path) -> None:
    with open_store(tmp_path) as one, open_store(tmp_path) as two:
        for number in range(1, 40):
            assert one.reader.folder_of_repository(uuid(number)) is None
            made = adopt(two, website(f"r{number}", number=number))
            found = one.reader.folder_of_repository(uuid(number))
            assert found is not None and found.place == made.folder.place
        made.path.rename(tmp_path / "elsewhere")
        assert one.reader.folder_of_repository(uuid(39)) is None


def test_uuids_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    alike = "{0000abcd-0000-4000-8000-00000000000%d}"
    with open_store(tmp_path) as store:
        for number in range(3):
            adopt(store, Repository(alike % number, "acme", f"r{number}"))
        for number in range(3):
            found = store.reader.folder_of_repository(alike % number)
            assert found is not None and found.slug == f"r{number}"


def test_what_was_verified_is_written_once_and_survives_a_kill(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    journal = VerifyJournal(tmp_path, "objects 1 ", resume=False, now=START)
    file = tmp_path / "cache" / "verified.json"
    before = file.stat().st_ino
    for number in range(50):
        journal.note(Verified(f"place-{number}", START, (), {}))
    assert file.stat().st_ino == before  # not written once for each folder
    # Killed here. The next one does not continue it, and knows the times all the same.
    later = VerifyJournal(tmp_path, "refs 1 ", resume=False, now=START + timedelta(hours=1))
    assert len(later.last()) == 50
    later.note(Verified("place-1", START + timedelta(hours=1), (), {}))
    later.finish()
    known = VerifyJournal(tmp_path, "refs 1 ", resume=False, now=START).last()
    assert known["place-1"] == START + timedelta(hours=1) and known["place-2"] == START


def test_a_verification_that_began_in_the_future_is_not_gone_on_with(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    VerifyJournal(tmp_path, "objects 1 ", resume=False, now=START + timedelta(days=3000)).note(
        Verified("place", START, (), {})
    )
    assert VerifyJournal(tmp_path, "objects 1 ", resume=True, now=START).begun() is None
