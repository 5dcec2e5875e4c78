"""Readers of Bitbucket's fields are total: any input gives a value, None, or BadAnswer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.bitbucket import fields
from mirror.bitbucket.failures import BadAnswer
from mirror.model import Repository

UUID = "{12345678-1234-1234-1234-1234567890ab}"
FULL = "0123456789abcdef0123456789abcdef01234567"

READERS: list[Callable[[Any], object]] = [
    fields.workspace,
    lambda data: fields.repository(data, workspace="acme"),
    lambda data: fields.number_of(data, "thing"),
    lambda data: fields.uuid_of(data, "thing"),
    fields.identity,
    fields.pull_request_head,
    lambda data: fields.fork(data, Repository(UUID, "acme", "website")),
    lambda data: fields.has_same_head(data, data),
    fields.commit_hash,
    fields.updated_on,
    fields.comment_count,
    fields.task_count,
    fields.is_open,
    fields.has_participants,
    fields.pipeline_number,
    fields.is_done,
    lambda data: fields.may_have_log(data, has_ended=True),
    fields.is_in_progress,
    fields.may_have_reasons,
    fields.stable,
    lambda data: fields.merged(data, {"source": {"commit": None}}),
    lambda data: fields.merged({"source": {"commit": {"hash": FULL}}, "state": {"name": "x"}}, data),
]
NAMES = [
    "uuid", "id", "slug", "name", "full_name", "workspace", "project", "key", "source", "commit", "hash",
    "state", "result", "updated_on", "comment_count", "task_count", "participants", "build_number", "links",
    "avatar", "clone", "href",
]  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from([UUID, FULL, FULL[:12], "https://user@[::1", "acme/website", "COMPLETED"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(anything)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_no_document_breaks_a_reader(data: Any) -> None:
    for reader in READERS:
        with contextlib.suppress(BadAnswer):
            reader(data)


def test_workspaces_are_read_from_their_own_document_and_from_the_slim_list() -> None:
    own = fields.workspace({"uuid": UUID, "slug": "acme", "name": "Acme"})
    slim = fields.workspace({"administrator": True, "workspace": {"uuid": UUID, "slug": "acme"}})
    assert (own.uuid, own.slug, own.name) == (UUID, "acme", "Acme")
    assert (slim.uuid, slim.slug, slim.name) == (UUID, "acme", "acme")


@pytest.mark.parametrize("slug", ["..", ".", "", "a/b", "a\\b", "a b", "a\x00", "ü", None, 7, "x" * 101])
def test_a_slug_that_is_no_name_is_refused(slug: object) -> None:
    with pytest.raises(BadAnswer):
        fields.workspace({"uuid": UUID, "slug": slug})
    with pytest.raises(BadAnswer):
        fields.repository({"uuid": UUID, "slug": slug, "full_name": "acme/.."}, workspace="acme")


def test_a_moved_repository_says_where_it_went() -> None:
    data = {"uuid": UUID, "slug": "site", "full_name": "newhome/site", "project": {"key": "WEB"}}
    one = fields.repository(data, workspace="acme")
    assert (one.full_name, one.project, one.uuid) == ("newhome/site", "WEB", UUID)


@pytest.mark.parametrize(
    ("data", "head"),
    [
        ({"source": {"commit": {"hash": FULL}}}, FULL),
        ({"source": {"commit": {"hash": FULL[:12]}}}, FULL[:12]),
        ({"source": {"commit": None}}, None),
        ({"source": {"repository": None, "commit": None}}, None),
        ({"source": None}, None),
        ({"source": {"commit": {"hash": "--upload-pack=x"}}}, None),
        ({"source": {"commit": {"hash": FULL[:7]}}}, None),
        ({}, None),
    ],
)
def test_the_head_of_a_pull_request_is_a_hash_or_nothing(data: Any, head: str | None) -> None:
    assert fields.pull_request_head(data) == head


def test_what_changes_though_nothing_has_changed_is_not_kept() -> None:
    def document(query: str, user: str) -> Any:
        return {
            "links": {
                "avatar": {"href": f"https://bytebucket.org/ravatar/x?{query}", "name": "kept"},
                "clone": [
                    {"name": "https", "href": f"https://{user}bitbucket.org/acme/site.git"},
                    {"name": "ssh", "href": "git@bitbucket.org:acme/site.git"},
                ],
                "self": {"href": "http://internal.example/x?y=1"},
            },
            "author": {"user": {"links": {"avatar": {"href": f"https://a.example/x?{query}"}}}},
            "unknown": [1, {"new": None}],
        }

    one, other = fields.stable(document("ts=1", "ann@")), fields.stable(document("ts=2", ""))
    assert one == other
    assert one["unknown"] == [1, {"new": None}]
    assert one["links"]["self"]["href"] == "http://internal.example/x?y=1"
    assert one["links"]["avatar"] == {"href": "https://bytebucket.org/ravatar/x", "name": "kept"}
    assert one["links"]["clone"][1]["href"] == "git@bitbucket.org:acme/site.git"


def test_a_thinner_answer_removes_no_field() -> None:
    rich = {"id": 1, "participants": [1], "source": {"commit": {"hash": FULL, "date": "d"}}}
    thin = {"id": 1, "title": "new", "source": {"commit": {"hash": FULL[:12]}}}
    assert fields.merged(rich, thin) == {**rich, "title": "new"}


def test_a_link_with_a_hash_cut_short_never_replaces_the_full_one() -> None:
    def commit(digits: str) -> dict[str, Any]:
        return {"hash": digits, "links": {"self": {"href": f"https://x.example/commit/{digits}"}}}

    full, short, other = commit(FULL), commit(FULL[:12]), commit("f" * 12)
    assert fields.merged(full, short) == full
    assert fields.merged(short, full) == full
    assert fields.merged(full, other) == other


def test_an_answer_of_null_is_an_answer() -> None:
    assert fields.merged({"source": {"repository": {"uuid": UUID}}}, {"source": {"repository": None}}) == {
        "source": {"repository": None}
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"hash": FULL, "date": "old"}, {"hash": "f" * 12}),
        ({"uuid": UUID, "nickname": "ann"}, {"uuid": UUID.replace("1", "2")}),
        ({"name": "IN_PROGRESS", "stage": {"name": "RUNNING"}}, {"name": "COMPLETED", "result": {}}),
        ({"name": "main", "target": 1}, {"name": "develop"}),
        ({"type": "user", "nickname": "ann"}, {"type": "app_user"}),
    ],
)
def test_fields_of_one_thing_are_never_read_as_another_s(old: Any, new: Any) -> None:
    assert fields.merged({"it": old}, {"it": new}) == {"it": new}


def test_a_renamed_thing_is_still_the_same_thing() -> None:
    old = {"uuid": UUID, "name": "Old", "slug": "old", "description": "kept"}
    assert fields.merged(old, {"uuid": UUID, "name": "New", "slug": "new"})["description"] == "kept"


@pytest.mark.parametrize(
    ("source", "fork"),
    [
        ({"full_name": "guests/fork", "uuid": UUID.replace("1", "2")}, "guests/fork"),
        ({"full_name": "acme/renamed", "uuid": UUID.upper()}, None),
        ({"full_name": "Acme/Website"}, None),
        ({"full_name": "guests/fork"}, "guests/fork"),
        ({"full_name": "guests/../../etc", "uuid": UUID.replace("1", "2")}, None),
        ({"full_name": "guests/..", "uuid": UUID.replace("1", "2")}, None),
        ({"full_name": "guests"}, None),
        (None, None),
    ],
)
def test_a_fork_is_told_by_its_uuid_and_only_by_a_name_that_is_safe(source: Any, fork: str | None) -> None:
    data = {"source": {"repository": source}}
    assert fields.fork(data, Repository(UUID, "acme", "website")) == fork


def test_heads_are_the_same_in_however_many_digits() -> None:
    def head(value: str | None) -> Any:
        return {"source": {"commit": {"hash": value} if value else None}}

    assert fields.has_same_head(head(FULL), head(FULL[:12]))
    assert fields.has_same_head(head(None), head(None))
    assert not fields.has_same_head(head(FULL), head("f" * 12))
    assert not fields.has_same_head(head(FULL), head(None))
