"""The store writes each file once, under the hash of its uncompressed bytes, and never overwrites it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.store.reading.reader import StoreDamaged
from mirror.store.writing.writer import RepositoryWriter
from tests.store.helpers import MovedClock, adopt, open_store

LOG = b"line of a log\n" * 5000
SHA = hashlib.sha256(LOG).hexdigest()


async def chunks(data: bytes = LOG, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def held(writer: RepositoryWriter) -> list[str]:
    top = writer.path / "files"
    return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())


async def test_a_text_is_stored_compressed_and_read_back_plain(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, MovedClock()):
            draft = writer.draft()
            pointer = await draft.put_file(chunks(), "build.log", text=True)
            assert pointer == {"sha256": SHA, "size": len(LOG), "name": "build.log"}
            assert draft.has_file(SHA)
            assert not draft.has_file("0" * 64)
            assert not draft.has_file("../../x")
        assert held(writer) == [f"{SHA[:2]}/{SHA}.gz"]
        stream = writer.folder.file(SHA)
        assert stream is not None
        with stream:
            assert stream.read() == LOG
        assert writer.folder.file("0" * 64) is None
        assert writer.folder.file("../lock") is None


async def test_compressed_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    stored = []
    for name in ("one.log", "another.log"):
        with open_store(tmp_path / name) as store:
            writer = adopt(store)
            async with writer.lock(0, MovedClock()):
                size = 7 if name == "one.log" else 5000
                await writer.draft().put_file(chunks(size=size), name, text=True)
            stored.append((writer.path / "files" / held(writer)[0]).read_bytes())
    assert stored[0] == stored[1]
    assert gzip.decompress(stored[0]) == LOG
    assert stored[0][4:8] == bytes(4)  # no time in the gzip header


async def test_equal_bytes_are_stored_once_and_never_overwritten(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, MovedClock()):
            draft = writer.draft()
            await draft.put_file([LOG], "a.bin")
            path = writer.path / "files" / SHA[:2] / SHA
            before = path.stat()
            again = await draft.put_file(chunks(), "b.txt", text=True)
            assert again == {"sha256": SHA, "size": len(LOG), "name": "b.txt"}
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
            assert held(writer) == [f"{SHA[:2]}/{SHA}"]
        assert not list((tmp_path / "tmp").glob("*.tmp"))


async def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield LOG
        raise ConnectionResetError

    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, MovedClock()):
            for text in (False, True):
                with pytest.raises(ConnectionResetError):
                    await writer.draft().put_file(broken(), "x", text=text)
        assert held(writer) == []
        assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["lock"]


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, MovedClock()):
            for text in (False, True):
                pointer = await writer.draft().put_file([], f"empty-{text}", text=text)
                assert pointer["sha256"] == hashlib.sha256(b"").hexdigest()
                assert pointer["size"] == 0
        assert len(held(writer)) == 1


async def test_all_files_are_listed_and_strangers_pointed_out(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        assert list(writer.folder.files()) == []
        async with writer.lock(0, MovedClock()):
            await writer.draft().put_file([b"1"], "1")
            await writer.draft().put_file([b"2"], "2", text=True)
        found = list(writer.folder.files())
        for one in found:
            with one.open() as stream:
                assert hashlib.sha256(stream.read()).hexdigest() == one.sha256
            assert one.file == writer.folder.relative(one.path)
        assert sorted(one.compressed for one in found) == [False, True]
        (writer.path / "files" / "stray").write_bytes(b"")
        (writer.path / "files" / SHA[:2]).mkdir(exist_ok=True)
        (writer.path / "files" / SHA[:2] / "0123").write_bytes(b"")
        strangers: list[StoreDamaged] = []
        assert len(list(writer.folder.files(strangers.append))) == 2
        assert sorted(one.file.rpartition("files/")[2] for one in strangers) == [f"{SHA[:2]}/0123", "stray"]
