"""A snapshot is one tagged commit, ordered by sequence, taken only if something changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mirror.errors import UsageError
from mirror.git.documents.repository import Documents
from mirror.model import Head, Part, PartState, Refs, Run, RunEntry, dumps
from mirror.model.runs import Outcome
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import RepositoryWriter, SnapshotResult
from tests.store.helpers import ACME, PARTS, START, A, B, MovedClock, adopt, open_store, take, website

REFS = Refs({b"refs/heads/main": A, b"refs/tags/v\xe9": B}, Head("symref", b"refs/heads/main"))


async def test_a_snapshot_is_one_tagged_commit_that_reads_back(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        taken = await take(writer, {"repository.json": {"slug": "website"}}, clock, refs=REFS, pins={12: B})
        assert taken.changed
        assert taken.snapshot.id == "20261123T020000Z"
        assert taken.snapshot.sequence == 1
        assert taken.snapshot.full_name == "acme/website"
        with Documents(writer.path / "metadata.git") as documents:
            assert documents.tags() == {"20261123T020000Z": documents.head()}
            assert documents.tree_of(documents.tags()["20261123T020000Z"]) == taken.snapshot.tree
    with Store.open(tmp_path / "store") as reader:
        metadata = reader.repositories()[0].metadata
        latest = metadata.latest()
        assert latest == taken.snapshot == metadata.get("20261123T020000Z")
        assert metadata.read(latest, "repository.json") == {"slug": "website"}
        assert metadata.read(latest, "nothing.json") is None
        assert metadata.paths(latest) == ["refs.json", "repository.json", "snapshot.json"]
        assert metadata.code_refs(latest) == (REFS, {12: B})
        assert metadata.refs_sha256(latest) == taken.refs_sha256


async def test_nothing_changed_means_no_commit_and_not_one_new_byte(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        first = await take(writer, {"repository.json": {"a": 1}}, clock, refs=REFS)
        before = {p: p.read_bytes() for p in writer.path.rglob("*") if p.is_file() and p.name != "lock"}
        clock.move(hours=4)
        again = await take(writer, {"repository.json": {"a": 1}}, clock, refs=REFS)
        assert not again.changed
        assert again.snapshot == first.snapshot
        assert again.refs_sha256 == first.refs_sha256
        assert list(writer.folder.metadata.tags()) == ["20261123T020000Z"]
        assert before == {
            p: p.read_bytes() for p in writer.path.rglob("*") if p.is_file() and p.name != "lock"
        }


async def test_a_newer_program_alone_is_no_change_but_a_part_that_is_denied_is(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        await take(writer, {"repository.json": {}}, clock)
        clock.move(hours=1)
        async with writer.lock(0, clock):
            again = writer.snapshot(writer.draft(), begun=clock.now(), program="mirror 9", parts=PARTS)
        assert not again.changed
        denied = PARTS | {"issues": Part(PartState.DENIED, reason="no", scope="issue")}
        changed = await take(writer, {}, clock, parts=denied)
        assert changed.changed
        assert changed.snapshot.sequence == 2
        assert changed.snapshot.parts["issues"].scope == "issue"


async def test_a_renamed_repository_is_a_change(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        await take(adopt(store), {"repository.json": {}}, clock)
        clock.move(hours=1)
        taken = await take(adopt(store, website("site")), {}, clock)
        assert (taken.changed, taken.snapshot.full_name) == (True, "acme/site")


async def test_documents_put_and_taken_back_are_no_change(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        first = await take(writer, {"downloads.json": [1]}, clock)
        async with writer.lock(0, clock):
            draft = writer.draft()
            assert draft.put("downloads.json", [1, 2])
            assert draft.put("extra.json", 1)
            assert draft.put("downloads.json", [1])
            assert draft.remove("extra.json")
            taken = writer.snapshot(draft, begun=clock.now(), program="p", parts=PARTS)
        assert not taken.changed
        assert taken.snapshot.tree == first.snapshot.tree
        assert not list((writer.path / "metadata.git").rglob("tmp*"))


async def test_work_that_came_back_to_the_last_snapshot_does_not_haunt_the_next(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        await take(writer, {"downloads.json": ["old"]}, clock)
        async with writer.lock(0, clock):
            draft = writer.draft()
            draft.put("downloads.json", ["new"])
            assert draft.checkpoint()
        taken = await take(writer, {"downloads.json": ["old"]}, clock)
        assert not taken.changed
        async with writer.lock(0, clock):
            assert writer.draft().get("downloads.json") == ["old"]


@pytest.mark.parametrize("shift", [timedelta(0), timedelta(seconds=-1), timedelta(days=-400)])
async def test_ids_and_sequence_go_on_when_the_clock_stands_still_or_goes_back(
    tmp_path: Path, shift: timedelta
) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        await take(writer, {"a.json": 1}, clock)
        clock.time += shift
        second = (await take(writer, {"a.json": 2}, clock)).snapshot
        third = (await take(writer, {"a.json": 3}, clock)).snapshot
        assert (second.id, second.sequence, second.time) == ("20261123T020001Z", 2, START + shift)
        assert (third.id, third.sequence) == ("20261123T020002Z", 3)
        latest = writer.folder.metadata.latest()
        assert latest is not None
        assert latest.id == third.id


async def three(tmp_path: Path) -> tuple[RepositoryWriter, list[SnapshotResult]]:
    clock = MovedClock()
    store = open_store(tmp_path / "store")
    writer = adopt(store)
    taken = []
    for number in range(3):
        taken.append(await take(writer, {"a.json": number, f"only-{number}.json": 0}, clock))
        clock.move(days=1)
    store.close()
    return writer, taken


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("latest", 2),
        ("20261124T020000Z", 1),
        ("20261124t020000z", 1),
        ("2026-11-24T02:00:00Z", 1),
        ("2026-11-24T03:00:00+01:00", 1),
        ("2026-11-24T01:59:59", 0),
        ("2026-11-24", 1),
        ("2030-01-01", 2),
    ],
)
async def test_at_finds_the_snapshot_that_a_text_names(tmp_path: Path, text: str, index: int) -> None:
    writer, taken = await three(tmp_path)
    at = writer.folder.metadata.at(text)
    assert at.snapshot == taken[index].snapshot
    assert at.taken == START + timedelta(days=index)
    assert at.next_different == (START + timedelta(days=index + 1) if index < 2 else None)
    assert at.last_confirmed is None


@pytest.mark.parametrize("text", ["20261124T020001Z", "2026-11-23T01:00:00Z", "20990101T000000Z"])
async def test_at_names_the_nearest_snapshots_where_there_is_none(tmp_path: Path, text: str) -> None:
    writer, _ = await three(tmp_path)
    with pytest.raises(UsageError) as caught:
        writer.folder.metadata.at(text)
    assert "2026112" in str(caught.value.hint)
    assert "the latest is 20261125T020000Z" in str(caught.value.hint)


async def test_at_explains_what_it_takes(tmp_path: Path) -> None:
    writer, _ = await three(tmp_path)
    with pytest.raises(UsageError) as caught:
        writer.folder.metadata.at("yesterday")
    assert "latest" in str(caught.value.hint)
    with open_store(tmp_path / "empty") as store, pytest.raises(UsageError, match="no snapshot yet"):
        adopt(store).folder.metadata.at("latest")


async def test_last_confirmed_is_the_last_run_that_found_the_snapshot_unchanged(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path) as store:
        writer = adopt(store)
        first = (await take(writer, {"a.json": 1}, clock)).snapshot.id

        def tell(hours: int, outcome: Outcome, snapshot: str | None) -> None:
            begun = START + timedelta(hours=hours)
            folder = writer.folder
            entry = RunEntry("repository", "acme/website", folder.uuid, folder.place, outcome, snapshot)
            store.write_run(
                Run(store.new_run_id(begun), "backup", begun, begun + timedelta(minutes=1), "p", (entry,))
            )

        def confirmed(at: str) -> datetime | None:
            with Store.open(tmp_path) as reader:
                return reader.repositories()[0].metadata.at(at).last_confirmed

        assert confirmed("latest") is None
        tell(0, Outcome.SAVED, first)
        tell(5, Outcome.CONFIRMED, first)
        tell(6, Outcome.FAILED, None)
        assert confirmed("latest") == START + timedelta(hours=5, minutes=1)
        # The next snapshot, by a run that left no record.
        clock.move(hours=24)
        told = store.reader.history().find("repository", writer.folder.uuid)
        assert told is not None and told.confirmed is not None
        async with writer.lock(0, clock):
            draft = writer.draft()
            draft.put("a.json", 2)
            writer.snapshot(
                draft, begun=clock.now(), program="p", parts={}, last_confirmed=(first, told.confirmed)
            )
        assert confirmed("latest") is None
        assert confirmed(first) == START + timedelta(hours=5, minutes=1)


async def test_a_diff_names_what_differs(tmp_path: Path) -> None:
    writer, taken = await three(tmp_path)
    metadata = writer.folder.metadata
    changes = metadata.diff(taken[0].snapshot, taken[1].snapshot)
    assert [path for path, _, _ in changes] == ["a.json", "only-1.json", "snapshot.json"]
    assert [(old is None, new is None) for _, old, new in changes] == [
        (False, False),
        (True, False),
        (False, False),
    ]
    assert metadata.diff(taken[0].snapshot, taken[0].snapshot) == []
    assert len(metadata.diff(None, taken[0].snapshot)) == 3


async def test_refs_that_could_not_be_read_now_stay_as_the_last_snapshot_has_them(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        unknown = await take(writer, {"a.json": 0}, clock)
        assert writer.folder.metadata.code_refs(unknown.snapshot) is None
        assert unknown.refs_sha256 is None
        first = await take(writer, {"a.json": 1}, clock, refs=REFS, pins={7: A})
        second = await take(writer, {"a.json": 2}, clock)
        assert second.changed
        assert second.refs_sha256 == first.refs_sha256
        third = await take(writer, {}, clock, refs=Refs({b"refs/heads/main": B}))
        assert writer.folder.metadata.code_refs(third.snapshot) == (Refs({b"refs/heads/main": B}), {7: A})


async def test_a_reader_trusts_only_what_a_tag_reaches(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        first = await take(writer, {"a.json": 1}, clock)
        await take(writer, {"a.json": 2}, clock)
        with Documents(writer.path / "metadata.git") as documents:
            documents.set_refs({"refs/tags/20261123T020001Z": None})
        assert writer.folder.metadata.snapshots() == [first.snapshot]
        assert writer.folder.metadata.latest() == first.snapshot
        # The branch continues from its tip all the same, and the next run takes untagged snapshots again.
        third = await take(writer, {}, clock)
        assert third.changed
        assert (third.snapshot.sequence, third.snapshot.id) == (3, "20261123T020002Z")


async def test_a_lost_branch_is_found_again_by_its_tags(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        await take(writer, {"a.json": 1}, clock)
        with Documents(writer.path / "metadata.git") as documents:
            documents.set_refs({"refs/heads/main": None})
        assert not (await take(writer, {"a.json": 1}, clock)).changed
        assert (await take(writer, {"a.json": 2}, clock)).snapshot.sequence == 2


async def test_a_workspace_has_snapshots_of_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        writer = store.adopt_workspace(ACME, START)
        taken = await take(writer, {"workspace.json": {"slug": "acme"}}, MovedClock())
        assert (taken.snapshot.full_name, taken.refs_sha256) == ("acme", None)
        assert store.reader.workspaces()[0].metadata.latest() == taken.snapshot


async def test_documents_are_canonical_bytes(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        taken = await take(writer, {"a.json": {"b": 1, "a": [1.5, "\ud800"]}}, MovedClock())
        data = writer.folder.metadata.read_bytes(taken.snapshot, "a.json")
        assert data == dumps({"a": [1.5, "\ud800"], "b": 1})
        assert data == b'{\n  "a": [\n    1.5,\n    "\\ud800"\n  ],\n  "b": 1\n}\n'
