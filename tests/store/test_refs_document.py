"""`refs.json` returns every ref, however many there are and whatever their names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import Head, Refs, dumps, loads
from mirror.store.format import refs_document
from mirror.store.format.refs_document import (
    MirrorRefs,
    is_own_document,
    mirror_edits,
    mirror_from_documents,
    qualified_ref,
    refs_from_documents,
    refs_to_documents,
    snippet_mirrors,
    split_ref,
)

A, B = "a" * 40, "b" * 40

hashes = st.text("0123456789abcdef", min_size=40, max_size=40)
names = st.binary(min_size=1, max_size=30).filter(lambda name: b":" not in name).map(lambda n: b"refs/" + n)
heads = st.none() | st.builds(Head, st.sampled_from(["symref", "unborn"]), names)


@settings(derandomize=True, max_examples=150)
@given(
    refs=st.dictionaries(names, hashes, max_size=20),
    head=heads,
    pins=st.dictionaries(st.integers(1, 10**6), hashes, max_size=10),
    most=st.sampled_from([3, 5000]),
)
def test_whatever_is_written_is_read_back(
    refs: dict[bytes, str], head: Head | None, pins: dict[int, str], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refs_document, "REFS_MAX", most)
        documents = refs_to_documents(Refs(refs, head), pins)
    assert refs_from_documents(documents.get) == (Refs(refs, head), pins)
    assert all(data == dumps(loads(data)) for data in documents.values())
    assert len(documents) == 1 or len(refs) + len(pins) > most


mirrored = st.builds(
    MirrorRefs,
    st.builds(Refs, st.dictionaries(names, hashes, max_size=12), heads),
    gone_since=st.none() | st.just("2026-11-23T02:00:00Z"),
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    code=mirrored,
    told=st.lists(st.tuples(st.sampled_from(["wiki", "snippets/a", "snippets/b"]), mirrored), max_size=6),
    most=st.sampled_from([3, 5000]),
)
def test_what_is_told_of_one_mirror_changes_that_of_no_other(
    code: MirrorRefs, told: list[tuple[str, MirrorRefs]], most: int
) -> None:
    """However often it is written, and with or without shards."""
    documents: dict[str, bytes] = {}
    expected: dict[str, MirrorRefs] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refs_document, "REFS_MAX", most)
        for mirror, one in [("code", code), *told]:
            edits = mirror_edits(
                mirror,
                one,
                documents.get,
                lambda folder: [path for path in documents if path.startswith(folder)],
            )
            for path, data in edits.items():
                if data is None:
                    del documents[path]
                else:
                    documents[path] = data
            expected[mirror] = one
    assert {name: mirror_from_documents(name, documents.get) for name in expected} == expected
    assert set(snippet_mirrors(documents)) == {name for name in expected if "/" in name}
    assert all(is_own_document(path) for path in documents)
    # An older version reads only the code, in its old place.
    assert refs_from_documents(documents.get) == (code.refs, {})
    for mirror in ("snippets/a", "snippets/b"):
        for path in mirror_edits(mirror, None, documents.get, lambda folder: [*documents]):
            documents.pop(path, None)
    assert not [path for path in documents if path.startswith("refs/snippets/")]


@given(mirror=st.sampled_from(["code", "wiki", "snippets/a~12ab34cd"]), name=names)
def test_refs_of_several_mirrors_are_told_apart(mirror: str, name: bytes) -> None:
    assert split_ref(qualified_ref(mirror, name)) == (mirror, name)


def test_the_form_is_the_documented_one() -> None:
    refs = Refs({b"refs/heads/main": A, b"refs/tags/\xff": B}, Head("symref", b"refs/heads/main"))
    assert loads(refs_to_documents(refs, {12: B})["refs.json"]) == {
        "code": {
            "head": {"symref": "refs/heads/main"},
            "refs": {"refs/heads/main": A, "base64:cmVmcy90YWdzL/8=": B},
            "pull_requests": {"12": B},
        }
    }


def test_one_ref_that_moves_changes_one_shard_and_the_index_of_them() -> None:
    many = {b"refs/heads/%d" % number: A for number in range(5001)}
    before = refs_to_documents(Refs(many), {})
    after = refs_to_documents(Refs(many | {b"refs/heads/7": B}), {})
    assert 250 < len(before) <= 257
    assert len([path for path in after if after[path] != before[path]]) == 2
    code = loads(before["refs.json"])["code"]
    assert (code["sharded"]["refs"], "refs" in code) == (5001, False)


def test_5000_refs_stand_in_one_document() -> None:
    assert list(refs_to_documents(Refs({b"refs/heads/%d" % number: A for number in range(5000)}), {})) == [
        "refs.json"
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"{",
        dumps({"code": {"head": None, "refs": {"refs/heads/x": "12ab"}, "pull_requests": {}}}),
        dumps({"code": {"head": {"elsewhere": "x"}, "refs": {}, "pull_requests": {}}}),
        dumps({"code": {"head": None, "refs": {}, "pull_requests": {"x": A}}}),
        dumps({"code": {"head": None, "refs": {}}}),
        dumps({"code": {"head": None, "sharded": {"refs": 1, "pull_requests": 0, "files": {}}}}),
        dumps({"code": {"head": None, "sharded": {"files": {"refs/code/ab.json": "0" * 64}}}}),
    ],
)
def test_a_damaged_document_is_an_error_never_fewer_refs(content: bytes) -> None:
    with pytest.raises(ValueError):
        refs_from_documents({"refs.json": content}.get)


def test_a_shard_that_is_not_the_named_one_is_an_error() -> None:
    documents = refs_to_documents(Refs({b"refs/heads/%d" % number: A for number in range(5001)}), {})
    one = next(path for path in documents if path != "refs.json")
    with pytest.raises(ValueError, match=r"not the one that refs\.json names"):
        refs_from_documents((documents | {one: b'{"refs": {}, "pull_requests": {}}'}).get)
    with pytest.raises(ValueError, match="is missing"):
        refs_from_documents({path: data for path, data in documents.items() if path != one}.get)


def test_no_document_means_that_the_refs_were_never_known() -> None:
    assert refs_from_documents(lambda _: None) is None
