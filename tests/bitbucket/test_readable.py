"""Documents as values for pages: whatever a document holds, reading it raises nothing and loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.bitbucket.readable import builds, discussions, tables
from mirror.bitbucket.readable.parts import threads
from mirror.bitbucket.readable.values import Comment
from mirror.model import Json

KEYS = st.sampled_from(
    [
        "pull_request",
        "issue",
        "pipeline",
        "snippet",
        "comments",
        "tasks",
        "activity",
        "statuses",
        "commits",
        "steps",
        "logs",
        "test_reports",
        "files",
        "id",
        "title",
        "state",
        "author",
        "user",
        "content",
        "raw",
        "parent",
        "inline",
        "path",
        "to",
        "from",
        "uuid",
        "name",
        "patch",
        "sha256",
        "participants",
        "update",
        "approval",
        "changes",
        "cases",
        "reasons",
        "links",
        "_parts",
        "created_on",
        "reports",
        "attachments",
        "_content",
        "services",
        "result",
    ]
)
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_no_document_raises(document: dict[str, Json]) -> None:
    discussions.pull_request(document)
    discussions.issue(document)
    discussions.commit_remarks(document)
    discussions.snippet(document)
    discussions.repository_facts(document)
    builds.pipeline(document)
    tables.table_of(document)
    tables.table_of([document, document])


def ids(comments: list[Comment]) -> list[str]:
    found, waiting = [], list(comments)
    while waiting:
        one = waiting.pop()
        found.append(one.id)
        waiting += one.replies
    return sorted(found, key=int)


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=30))
def test_every_comment_stands_in_a_thread_once(parents: list[int]) -> None:
    """Whatever replies to whatever: itself, later ones, in a circle, what is not there."""
    data = [
        {"id": number, "content": {"raw": "x"}, **({"parent": {"id": parent}} if parent >= 0 else {})}
        for number, parent in enumerate(parents)
    ]
    assert ids(threads(data, {})) == [str(number) for number in range(len(parents))]


def test_a_very_deep_thread_is_whole() -> None:
    data: list[Json] = [{"id": number, "parent": {"id": number - 1}} for number in range(1, 2000)]
    data.append({"id": 0})
    assert len(ids(threads(data, {}))) == 2000


def test_history_tells_what_changed() -> None:
    def update(**fields: str) -> Json:
        return {"update": {"author": {"display_name": "Ann"}, "date": "2026-01-01T00:00:00+00:00", **fields}}

    events = [
        update(state="DECLINED", title="New", reason="Too late"), update(state="OPEN", title="New"),
        {"approval": {"date": "2026-01-01T00:00:00+00:00", "user": {"display_name": "Bob"}}},
        update(state="OPEN", title="Old"),
    ]  # fmt: skip
    found = discussions.pull_request({"activity": events}).events
    assert [(one.who, one.what) for one in found] == [
        ("Ann", "opened the pull request"), ("Bob", "approved"), ("Ann", "changed the title from “Old”"),
        ("Ann", "declined it"),
    ]  # fmt: skip
    assert found[-1].text.raw == "Too late"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "yes"), ({"user": {"display_name": "Ann"}}, "Ann"), (["a", {"slug": "b"}], "a, b"),
     ({"enabled": False, "prefix": "x/"}, "enabled: no, prefix: x/"), (list(range(60)), None)],
)  # fmt: skip
def test_cells(value: Json, text: str | None) -> None:
    assert tables.cell(value) == text or (text is None and tables.cell(value).endswith("and 10 more"))
