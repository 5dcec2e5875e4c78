"""Reading never writes, works beside a writer and on a read-only copy, and names damage."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.errors import UsageError
from mirror.git.documents.repository import Documents
from mirror.model import Head, Refs, Run, Selector
from mirror.store.reading.reader import Store, StoreDamaged
from mirror.store.writing.writer import RepositoryWriter
from tests.store.helpers import START, A, MovedClock, adopt, open_store, take, uuid, website

REFS = Refs({b"refs/heads/main": A}, Head("symref", b"refs/heads/main"))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names are all that is wanted)


async def filled(path: Path) -> RepositoryWriter:
    """A store with one repository, two snapshots, a file and a run record."""
    clock = MovedClock()
    with open_store(path) as store:
        writer = adopt(store)
        async with writer.lock(0, clock):
            pointer = await writer.draft().put_file([b"log"], "log", text=True)
            writer.write_state({"cursor": 1})
        await take(writer, {"log.json": pointer, "deep/er/a.json": 1}, clock, refs=REFS, pins={1: A})
        clock.move(hours=1)
        await take(writer, {"deep/er/a.json": 2}, clock, refs=REFS)
        store.write_run(Run(store.new_run_id(START), "backup", START, START, "p"))
        store.rebuild_index(START)
    return writer


def read_everything(path: Path) -> int:
    """Use every method of the reader; returns how many things it read."""
    count = 0
    with Store.open(path) as store:
        for workspace in store.workspaces():
            count += 1 + len(workspace.metadata.snapshots())
        for repository in store.repositories([Selector.parse("acme/website")]):
            metadata = repository.metadata
            assert metadata.at("latest").snapshot == metadata.latest()
            for snapshot in metadata.snapshots():
                for document in metadata.paths(snapshot):
                    assert metadata.read(snapshot, document) is not None
                    count += 1
                metadata.code_refs(snapshot)
                metadata.refs_sha256(snapshot)
                metadata.diff(None, snapshot)
            for stored in repository.files():
                with stored.open() as stream:
                    count += len(stream.read())
        count += len(list(store.runs())) + len(store.run_ids())
        assert store.last_run() is not None
    return count


def refuse_writes(work: Callable[[], object]) -> None:
    """Run `work` in a child in which any change to the disk is an error."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, "the child failed; see its traceback above"
        return

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        flags = arguments[2] if event == "open" else 0
        assert isinstance(flags, int)
        if event in {"os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "fcntl.flock"} or (
            event == "open" and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and arguments[0] != os.devnull
        ):
            os.write(2, f"{event} {arguments}\n".encode())
            os._exit(9)

    sys.addaudithook(watch)
    try:
        work()
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(8)
    os._exit(0)


async def test_reading_writes_nothing_and_locks_nothing(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    (tmp_path / "store" / "tmp" / "file.0123abcd.tmp").write_bytes(b"leftover")
    before = {path: path.stat() for path in (tmp_path / "store").rglob("*")}
    assert read_everything(tmp_path / "store") > 10
    refuse_writes(lambda: read_everything(tmp_path / "store"))
    after = {path: path.stat() for path in (tmp_path / "store").rglob("*")}
    assert before.keys() == after.keys()
    assert all(before[path].st_mtime_ns == after[path].st_mtime_ns for path in before)


async def test_a_read_only_copy_is_a_store_like_any_other(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    copies = [tmp_path / "copy", *(tmp_path / "copy").rglob("*")]
    for path in copies:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert read_everything(tmp_path / "copy") == read_everything(tmp_path / "store")
    finally:
        for path in copies:
            path.chmod(0o700 if path.is_dir() else 0o600)


async def test_a_copy_without_the_folders_that_can_be_made_again_is_readable(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    for name in ("tmp", "cache", "quarantine"):
        shutil.rmtree(tmp_path / "store" / name)
    for name in ("index.json", "INDEX.md"):
        (tmp_path / "store" / name).unlink()
    (tmp_path / "store/workspaces/acme~00000ace/repositories/website~00000001/state.json").unlink()
    assert read_everything(tmp_path / "store") > 10
    open_store(tmp_path / "store").close()


async def test_readers_work_while_a_writer_writes(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    clock = MovedClock()
    clock.move(days=1)
    with open_store(tmp_path / "store") as store, Store.open(tmp_path / "store") as reader:
        writer = adopt(store)
        metadata = reader.repositories()[0].metadata
        async with writer.lock(0, clock):
            for number in range(3, 8):
                latest = metadata.latest()
                assert latest is not None
                assert (latest.sequence, metadata.read(latest, "deep/er/a.json")) == (number - 1, number - 1)
                draft = writer.draft()
                draft.put("deep/er/a.json", number)
                draft.checkpoint()
                assert metadata.latest() == latest
                writer.snapshot(draft, begun=clock.now(), program="p", parts={})


async def test_a_thousand_folders_do_not_take_a_thousand_descriptors(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        for number in range(1, 61):
            await take(adopt(store, website(f"r{number}", number=number)), {"a.json": number}, MovedClock())
    with Store.open(tmp_path / "store") as reader:
        before = descriptors()
        folders = reader.repositories()
        found = [one.metadata.latest() for one in folders]
        assert len({one.tree for one in found if one is not None}) == 60
        assert descriptors() - before <= 80


@pytest.mark.parametrize("file", ["workspace.json", "repositories/website~00000001/repository.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"{", b"[1]", b"\xff", b'{"uuid": "x"}', b"[" * 100_000, b'{"a":1,"a":1}']
)
async def test_damaged_small_files_are_named(tmp_path: Path, file: str, content: bytes) -> None:
    await filled(tmp_path / "store")
    path = f"workspaces/acme~00000ace/{file}"
    (tmp_path / "store" / path).write_bytes(content)
    if file.endswith("repository.json"):
        # Its snapshots identify it, as long as it has any.
        with Store.open(tmp_path / "store") as store:
            [folder] = store.repositories()
        assert (folder.full_name, folder.uuid) == ("acme/website", uuid(1))
        assert folder.identity_damage is not None and folder.identity_damage.file == path
        shutil.rmtree((tmp_path / "store" / path).parent / "metadata.git")
    with Store.open(tmp_path / "store") as store, pytest.raises(StoreDamaged) as caught:
        store.workspaces()
        store.repositories()
    assert caught.value.file == path
    assert caught.value.exit_code == 4
    assert path in str(caught.value)


async def test_damaged_metadata_is_named_whatever_is_done_to_it(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    base = "workspaces/acme~00000ace/repositories/website~00000001/metadata.git"
    files = sorted(path for path in (tmp_path / "store" / base).rglob("*") if path.is_file())
    named = set()
    for path in files:
        original = path.read_bytes()
        for damaged in (b"", original[: len(original) // 2], original[:-9] + b"\xff" * 9, None):
            path.chmod(0o600)
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            try:
                read_everything(tmp_path / "store")
            except StoreDamaged as damage:
                assert damage.file.startswith(base)
                named.add(path.name.partition("-")[0] + path.suffix)
            except UsageError:
                named.add("nothing left")  # no ref names a snapshot any more, but run records do
            finally:
                path.write_bytes(original)
    assert {"pack.pack", "pack.idx"} <= named


async def test_a_damaged_snapshot_does_not_hide_the_others(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "store")
    with Documents(writer.path / "metadata.git") as documents:
        documents.set_refs({"refs/tags/20200101T000000Z": "ab" * 20})
    metadata = writer.folder.metadata
    with pytest.raises(StoreDamaged, match="20200101T000000Z"):
        metadata.snapshots()
    damaged: list[StoreDamaged] = []
    assert len(metadata.snapshots(damaged.append)) == 2
    assert len(damaged) == 1
    latest = metadata.latest()
    assert latest is not None
    assert latest.sequence == 2


async def test_a_damaged_snapshot_is_never_replaced_by_an_older_one_unasked(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "store")
    with Documents(writer.path / "metadata.git") as documents:
        documents.set_refs({"refs/tags/20261123T090000Z": "ab" * 20})
    metadata = writer.folder.metadata
    for text in ("20261123T090000Z", "2026-11-23T09:00:00Z", "2026-11-23", "2030-01-01T00:00:00Z"):
        with pytest.raises(StoreDamaged, match="20261123T090000Z"):
            metadata.at(text)
    for text, sequence in (("20261123T030000Z", 2), ("2026-11-23T08:59:59Z", 2), ("20261123T020000Z", 1)):
        assert metadata.at(text).snapshot.sequence == sequence
    with pytest.raises(StoreDamaged, match="20261123T090000Z"):
        metadata.at("latest")


async def test_a_tag_at_another_snapshots_commit_is_damage(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "store")
    with Documents(writer.path / "metadata.git") as documents:
        tags = documents.tags()
        documents.set_refs({"refs/tags/20200101T000000Z": max(tags.values())})
    with pytest.raises(StoreDamaged, match="points to the snapshot"):
        writer.folder.metadata.snapshots()


@pytest.mark.parametrize("file", ["HEAD", "config", "packed-refs", "objects"])
async def test_a_writer_names_metadata_that_it_cannot_open(tmp_path: Path, file: str) -> None:
    writer = await filled(tmp_path / "store")
    path = writer.path / "metadata.git" / file
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_bytes(b"\0\xff\n" * 20)
    with open_store(tmp_path / "store") as store:
        adopted = adopt(store)
        try:
            await take(adopted, {"deep/er/a.json": 3}, MovedClock())
        except StoreDamaged as damage:
            assert damage.file.startswith(adopted.folder.relative("metadata.git"))
        async with adopt(store, website("other", number=2)).lock(0, MovedClock()):
            pass  # and it does not affect the locks of the others
