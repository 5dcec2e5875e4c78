"""The hashes that snapshots name: the same result as reading each snapshot alone, with each document read
once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.git.documents.repository import Documents
from mirror.model import Head, Refs
from mirror.store.format import refs_document
from mirror.store.format.failures import StoreDamaged
from mirror.store.reading.reader import RepositoryFolder
from tests.store.helpers import MovedClock, adopt, open_store, take

NAMES = [b"refs/heads/%d" % number for number in range(8)]
HASHES = [f"{number:040x}" for number in range(1, 10)]
refs = st.builds(
    Refs,
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(HASHES)),
    st.none() | st.builds(Head, st.just("detached"), st.sampled_from(HASHES).map(str.encode)),
)
pins = st.dictionaries(st.integers(1, 4), st.sampled_from(HASHES), max_size=3)


def expected(folder: RepositoryFolder) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for snapshot in folder.metadata.snapshots():
        known = folder.metadata.code_refs(snapshot)
        if known is None:
            continue
        head = known[0].head
        values = {*known[0].refs.values(), *known[1].values()}
        values |= {head.value.decode()} if head is not None and head.kind == "detached" else set()
        for value in values:
            found[value] = (*found.get(value, ()), snapshot.id)
    return found


@settings(
    derandomize=True, max_examples=15, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.lists(st.tuples(st.none() | refs, pins), min_size=1, max_size=5), st.sampled_from([0, 3, 5000]))
async def test_it_is_what_every_snapshot_says_alone(
    tmp_path_factory: pytest.TempPathFactory, states: list[tuple[Refs | None, dict[int, str]]], most: int
) -> None:
    clock = MovedClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refs_document, "REFS_MAX", most)
        with open_store(tmp_path_factory.mktemp("s") / "store") as store:
            writer = adopt(store)
            for known, heads in states:
                clock.move(seconds=60)
                await take(writer, {}, clock, refs=known, pins=heads if known is not None else None)
            folder = writer.folder
            named = folder.metadata.hash_usage(folder.metadata.snapshots())
            assert dict(named.get("code", {})) == expected(folder)
            assert named.keys() == ({"code"} if any(known is not None for known, _ in states) else set())


async def test_a_document_that_snapshots_share_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refs_document, "REFS_MAX", 10)
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        many = {b"refs/heads/%d" % number: HASHES[0] for number in range(2000)}
        for number in range(20):
            clock.move(seconds=60)
            many = {**many, b"refs/heads/%d" % number: HASHES[1]}
            await take(writer, {}, clock, refs=Refs(many), pins={})
        folder = writer.folder
        read: list[str] = []
        real = Documents.blob

        def counted(documents: Documents, identifier: str) -> bytes:
            read.append(identifier)
            return real(documents, identifier)

        snapshots = folder.metadata.snapshots()
        monkeypatch.setattr(Documents, "blob", counted)
        named = folder.metadata.hash_usage(snapshots)["code"]
        # 256 shards and an index; for each further snapshot the index and one shard.
        assert len(read) == len(set(read)) == 257 + 19 * 2
        assert named[HASHES[0]] == named[HASHES[1]] == tuple(one.id for one in snapshots)


async def test_one_that_is_damaged_does_not_hide_the_others(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        for value in HASHES[:3]:
            clock.move(seconds=60)
            await take(writer, {}, clock, refs=Refs({NAMES[0]: value}), pins={})
        folder = writer.folder
        snapshots = folder.metadata.snapshots()
        broken: list[str] = []
        real = Documents.find

        def find(documents: Documents, tree: str, path: str) -> tuple[int, str] | None:
            if tree == snapshots[1].tree and path == "refs.json":
                raise ValueError("gnawed by mice")
            return real(documents, tree, path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Documents, "find", find)
            named = folder.metadata.hash_usage(snapshots, lambda one, _: broken.append(one.id))["code"]
            assert broken == [snapshots[1].id] and set(named) == {HASHES[0], HASHES[2]}
            assert named[HASHES[2]] == (snapshots[2].id,)
            with pytest.raises(StoreDamaged):
                folder.metadata.hash_usage(snapshots)
