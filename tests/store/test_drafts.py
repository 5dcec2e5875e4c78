"""Work on a snapshot survives a kill, and no cursor is ever ahead of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mirror.git.documents.repository import Documents
from mirror.model import NotCanonical, loads
from mirror.store.writing.writer import RepositoryWriter
from tests.store.helpers import PARTS, REFS_5001, MovedClock, adopt, open_store, take


async def checkpointed(writer: RepositoryWriter, clock: MovedClock) -> None:
    """A run that was killed after a checkpoint with a cursor."""
    async with writer.lock(0, clock):
        draft = writer.draft()
        draft.put("pull-requests/0/1.json", {"pull_request": {"id": 1}})
        assert draft.checkpoint()
        writer.write_state({"pull_requests": {"cursor": "1"}})
        draft.put("pull-requests/0/2.json", {"pull_request": {"id": 2}})


async def test_a_draft_begins_with_the_last_snapshots_documents(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await take(writer, {"a.json": 1, "b/c.json": 2}, clock, refs=REFS_5001)
        async with writer.lock(0, clock):
            draft = writer.draft()
            assert not draft.resumed
            assert list(draft.paths()) == ["a.json", "b/c.json"]
            assert list(draft.paths("b")) == ["b/c.json"]
            assert (draft.get("a.json"), draft.get("nothing.json")) == (1, None)
            assert (draft.put("a.json", 1), draft.put("a.json", 1.5)) == (False, True)
            assert draft.get("a.json") == 1.5
            assert (draft.remove("a.json"), draft.remove("a.json")) == (True, False)
            assert draft.get("a.json") is None


async def test_work_is_resumed_after_a_kill_and_becomes_the_next_snapshot(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        first = await take(writer, {"a.json": 1}, clock)
        await checkpointed(writer, clock)
        assert writer.folder.metadata.snapshots() == [first.snapshot]
        async with writer.lock(0, clock):
            draft = writer.draft()
            assert draft.resumed
            assert list(draft.paths()) == ["a.json", "pull-requests/0/1.json"]
            assert writer.read_state() == {"pull_requests": {"cursor": "1"}}
            taken = writer.snapshot(draft, begun=clock.now(), program="p", parts=PARTS)
            assert writer.read_state() == {"pull_requests": {"cursor": "1"}}
        assert writer.folder.metadata.paths(taken.snapshot)[0:2] == ["a.json", "pull-requests/0/1.json"]
        with Documents(writer.path / "metadata.git") as documents:
            assert documents.head("refs/mirror/work") is None
            assert documents.parent_of(str(documents.head())) == documents.tags()[first.snapshot.id]
        async with writer.lock(0, clock):
            assert not writer.draft().resumed


async def test_work_from_before_the_last_snapshot_is_stale(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await checkpointed(writer, clock)
        with Documents(writer.path / "metadata.git") as documents:
            work = documents.head("refs/mirror/work")
        await take(writer, {"a.json": 1}, clock)
        await take(writer, {"a.json": 2}, clock)
        with Documents(writer.path / "metadata.git") as documents:
            documents.set_refs({"refs/mirror/work": work})  # killed before it could remove it
        async with writer.lock(0, clock):
            draft = writer.draft()
            assert not draft.resumed
            assert draft.get("a.json") == 2


async def test_a_checkpoint_of_nothing_writes_nothing(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await take(writer, {"a.json": 1}, clock)
        async with writer.lock(0, clock):
            draft = writer.draft()
            draft.put("a.json", 1)
            assert not draft.checkpoint()


async def test_many_checkpoints_follow_each_other(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        for number in range(4):
            async with writer.lock(0, clock):
                draft = writer.draft()
                draft.put(f"{number}-a.json", 0)
                draft.checkpoint()
                draft.put(f"{number}-b.json", 0)
                draft.checkpoint()
                writer.write_state({"done": number})
                assert writer.read_state() == {"done": number}
        async with writer.lock(0, clock):
            assert len(list(writer.draft().paths())) == 8


async def test_discarding_keeps_the_checkpoint(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, clock):
            draft = writer.draft()
            draft.put("a.json", 1)
            draft.checkpoint()
            draft.put("a.json", 2)
            draft.discard()
            assert draft.get("a.json") == 1


@pytest.mark.parametrize("path", ["snapshot.json", "refs.json", "refs/code/ab.json", "../x", "Big.json"])
async def test_the_stores_own_documents_and_foreign_names_are_refused(tmp_path: Path, path: str) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, MovedClock()):
            with pytest.raises(ValueError, match=r"written by the store itself|not a path in the store"):
                writer.draft().put(path, {})


async def test_what_has_no_faithful_form_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, MovedClock()):
            with pytest.raises(NotCanonical):
                writer.draft().put("a.json", float("nan"))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\0" * 50, b"[]", b'{"schema": 2}', b'{"schema":1,"position":[0],"state":{}}']
)
async def test_a_broken_state_is_as_if_there_were_none(tmp_path: Path, content: bytes) -> None:
    with open_store(tmp_path) as store:
        writer = adopt(store)
        async with writer.lock(0, MovedClock()):
            assert writer.read_state() == {}
            writer.write_state({"cursor": 1})
            assert writer.read_state() == {"cursor": 1}
            (writer.path / "state.json").write_bytes(content)
            assert writer.read_state() == {}


async def test_a_state_ahead_of_the_documents_is_not_trusted(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await take(writer, {"a.json": 1}, clock)
        shutil.copytree(writer.path / "metadata.git", tmp_path / "cache" / "copy")
        await checkpointed(writer, clock)
        async with writer.lock(0, clock):
            assert writer.read_state() != {}
        # Somebody restored the metadata from a copy, and left the cursors.
        shutil.rmtree(writer.path / "metadata.git")
        shutil.copytree(tmp_path / "cache" / "copy", writer.path / "metadata.git")
        async with writer.lock(0, clock):
            assert writer.read_state() == {}


async def test_a_confirming_run_keeps_its_cursors(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        await take(writer, {"a.json": 1}, clock)
        async with writer.lock(0, clock):
            draft = writer.draft()
            draft.put("a.json", 2)
            draft.checkpoint()
            writer.write_state({"cursor": 2})
            draft.put("a.json", 1)
            taken = writer.snapshot(draft, begun=clock.now(), program="p", parts=PARTS)
            assert not taken.changed
            assert writer.read_state() == {"cursor": 2}
    assert loads((writer.path / "state.json").read_bytes())["schema"] == 3
