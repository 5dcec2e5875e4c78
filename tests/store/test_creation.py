"""Mirror creates a store durably, for its owner only, and never over something else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mirror.errors import NoStore, UsageError
from mirror.fs import durable
from mirror.model import dumps, loads
from mirror.store.format import layout
from mirror.store.reading.reader import Store, StoreDamaged, StoreTooNew
from mirror.store.writing import writer
from tests.store.helpers import ACME, REFS_5001, START, MovedClock, adopt, open_store, take


def test_a_new_store_says_what_it_is(tmp_path: Path) -> None:
    open_store(tmp_path / "deep" / "store").close()
    data = loads((tmp_path / "deep/store/store.json").read_bytes())
    assert data.pop("sum") == hashlib.sha256(dumps(data)).hexdigest()
    assert data == {
        "format": 1,
        "id": "store-1",
        "created": "2026-11-23T02:00:00Z",
        "requires": [],
    }
    with Store.open(tmp_path / "deep" / "store") as store:
        assert (store.id, store.format, store.created) == ("store-1", 1, START)
        assert store.workspaces() == []
        assert store.repositories() == []


def test_opening_again_keeps_the_store(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    before = (tmp_path / "store.json").read_bytes()
    writer.create_or_open(tmp_path, now=START, new_id="another").close()
    assert (tmp_path / "store.json").read_bytes() == before


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
async def test_folders_and_files_are_the_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    # 0o177 removes the owner's right to enter folders, until the program restores it.
    before = os.umask(umask)
    try:
        with open_store(tmp_path / "store") as store:
            adopted = adopt(store)
            if umask != 0o177:  # another room creates the git repositories inside
                await take(adopted, {"a.json": 1}, MovedClock(), refs=REFS_5001)
            async with adopted.lock(0, MovedClock()):
                adopted.write_state({"cursor": 1})
                await adopted.draft().put_file([b"log"], "log.txt", text=True)
            store.rebuild_index(START)
    finally:
        os.umask(before)
    found = [tmp_path / "store", *(tmp_path / "store").rglob("*")]
    assert len(found) > 15
    for path in found:
        if "metadata.git" in path.parts and umask in (0o000, 0o022):
            assert path.stat().st_mode & 0o077 == 0 or path.is_dir() or path.stat().st_mode & 0o022 == 0, path
        elif "metadata.git" not in path.parts:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_an_interrupted_creation_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    original = durable.make_folder
    for step in range(6):
        store = tmp_path / str(step)

        def stop_at(path: Path, step: int = step) -> None:
            if len(made) == step:
                raise KeyboardInterrupt
            made.append(path)
            original(path)

        made.clear()
        monkeypatch.setattr(writer, "make_folder", stop_at)
        with pytest.raises(KeyboardInterrupt):
            open_store(store)
        with pytest.raises(NoStore):
            Store.open(store)
        monkeypatch.setattr(writer, "make_folder", original)
        if step < 5:
            open_store(store).close()
            Store.open(store)
    (store / f"{layout.STORE_FILE}.0123abcd.tmp").write_bytes(b'{"form')
    open_store(store).close()
    assert not list(store.glob("*.tmp"))


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds thesis\.odt and no store"):
        open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.odt"]


def test_the_root_of_a_new_disk_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    open_store(tmp_path).close()
    Store.open(tmp_path)


def test_a_store_that_lost_its_own_file_is_damage_and_no_reason_to_begin_anew(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.adopt_workspace(ACME, START)
    (tmp_path / "store.json").unlink()
    with pytest.raises(StoreDamaged, match=r"store\.json is damaged: it is missing"):
        open_store(tmp_path)


def test_no_store_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(NoStore):
        Store.open(tmp_path / "nowhere")
    open_store(tmp_path / "store").close()
    for broken in (b"", b"{", b"[]", b'{"format": "1"}', b'{"format": 1, "id": "x"}', b"\xff\xfe"):
        (tmp_path / "store/store.json").write_bytes(broken)
        with pytest.raises(StoreDamaged, match=r"store\.json is damaged"):
            Store.open(tmp_path / "store")


@pytest.mark.parametrize("opener", [Store.open, open_store])
def test_a_newer_format_and_an_unknown_requirement_are_refused_by_name(
    tmp_path: Path, opener: object
) -> None:
    assert callable(opener)
    open_store(tmp_path).close()
    (tmp_path / "store.json").write_bytes(dumps({"format": 2, "shape": "unknown"}))
    with pytest.raises(StoreTooNew, match="format 2"):
        opener(tmp_path)
    content = {"format": 1, "id": "x", "created": "2026-11-23T02:00:00Z", "requires": ["zstd-files"]}
    (tmp_path / "store.json").write_bytes(dumps(content))
    with pytest.raises(StoreTooNew, match="zstd-files"):
        opener(tmp_path)
