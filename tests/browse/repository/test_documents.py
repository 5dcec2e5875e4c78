"""Lists of documents in pieces, whatever is between them, and the reasons why there are none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mirror.bitbucket.readable.lines import STATES
from mirror.browse.find import Matcher
from mirror.browse.repository import documents
from mirror.browse.repository.documents import (
    LINES,
    Lines,
    Rows,
    absence,
    by_update,
    every_row,
    named_rows,
    no_lines,
    path_of,
    rows,
)
from mirror.browse.repository.search import Hit, search
from mirror.errors import UsageError
from mirror.model import Json, Part, PartState
from tests.extract.made import Made


def pull(number: int) -> Json:
    state = STATES["pull-requests"][0 if number % 10 == 0 else 1]
    data = {"id": number, "title": f"Number {number}", "state": state}
    return {"pull_request": data, "comments": [{"id": 1}, {"id": 2, "deleted": True}] if number % 2 else None}


async def furnished(made: Made) -> None:
    numbers = [*range(1, 130), 1000, 123456789012345678]
    await made.add(
        "website", 1,
        documents={
            **{f"pull-requests/{one // 100}/{one}.json": pull(one) for one in numbers},
            **{f"snippets/{one:03}.json": {"snippet": {"id": one}} for one in range(60)},
        },
    )  # fmt: skip


def piece(made: Made, cache: Lines, state: str = "", **where: int) -> Rows:
    folder = made.folder("website")
    return rows(folder, made.snapshot("website"), "pull-requests", cache, state=state, **where)


def numbers(found: Rows) -> list[int]:
    return [int(one.name) for one in found.rows]


async def test_pages_go_down_and_up_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnished(made)
    cache = no_lines()
    first = piece(made, cache)
    assert numbers(first)[:3] == [123456789012345678, 1000, 129] and first.newer is None
    assert first.rows[2].line.title == "Number 129" and first.rows[2].line.comments == 1
    assert first.rows[1].line.comments is None, "never asked for"
    second = piece(made, cache, before=first.older or 0)
    assert numbers(second) == list(range(81, 31, -1)) and not second.is_partial
    last = piece(made, cache, before=second.older or 0)
    assert numbers(last) == list(range(31, 0, -1)) and last.older is None
    assert numbers(piece(made, cache, after=last.newer or 0)) == numbers(second)
    assert numbers(piece(made, cache, after=second.newer or 0)) == numbers(first)
    # Nothing is read twice: the cache knows the documents by their content.
    monkeypatch.setitem(LINES, "pull-requests", lambda _: pytest.fail("it was read again"))
    assert numbers(piece(made, cache)) == numbers(first)


async def test_a_state_is_looked_for_in_pieces(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnished(made)
    cache = Lines(most=10)
    everything = piece(made, cache, "open")
    assert numbers(everything) == [1000, *range(120, 0, -10)] and not everything.is_partial
    monkeypatch.setattr(documents, "READ_MAX", 40)
    found, where = [], None
    while True:
        some = piece(made, cache, "open", **({} if where is None else {"before": where}))
        found += numbers(some)
        assert some.is_partial == (some.older is not None)
        if (where := some.older) is None:
            break
    assert found == numbers(everything)


async def test_a_list_is_sorted_by_update_where_all_of_it_can_be_read(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(made)
    folder, snapshot, cache = made.folder("website"), made.snapshot("website"), no_lines()
    monkeypatch.setattr(documents, "READ_MAX", 100)
    assert every_row(folder, snapshot, "pull-requests", cache) is None
    for before in (10**18, 82, 32):  # what was looked at is known
        piece(made, cache, before=before)
    every = every_row(folder, snapshot, "pull-requests", cache)
    assert every is not None and len(every) == 131
    moved = [replace(one, line=replace(one.line, updated=f"2026-{one.name[-2:]}")) for one in every]
    moved[5] = replace(moved[5], line=replace(moved[5].line, updated=""))
    first = by_update(moved)
    times = [one.line.updated for one in first.rows]
    assert times == ["", *sorted((one.line.updated for one in moved), reverse=True)[:49]]
    assert (first.newer, first.older) == (None, 50)
    last = by_update(moved, skip=100)
    assert (len(last.rows), last.newer, last.older) == (31, 50, None)
    assert {one.line.state for one in by_update(moved, state="open").rows} == {"OPEN"}


async def test_documents_with_names_are_listed_by_name(made: Made) -> None:
    await furnished(made)
    folder, snapshot = made.folder("website"), made.snapshot("website")
    some, total = named_rows(folder, snapshot, "snippets", no_lines(), skip=50)
    assert [one.name for one in some] == [f"{one:03}" for one in range(50, 60)] and total == 60
    assert named_rows(folder, snapshot, "nothing", no_lines()) == ((), 0)


def test_paths_of_numbers() -> None:
    assert path_of("issues", "0123") == "issues/1/123.json"
    for text in ("", "-1", "1/2", "٣", "9" * 19, "..", "1\0"):
        assert path_of("issues", text) is None


def test_every_reason_is_told_and_none_is_called_none() -> None:
    assert absence(Part(PartState.COMPLETE), "issues") == ""
    assert "never asked" in absence(None, "issues")
    for state in PartState:
        text = absence(Part(state, {}, "the reason", "issue"), "issues")
        assert state is PartState.COMPLETE or "issues" in text
    gone = [absence(Part(PartState.GONE, counts), "issues") for counts in ({"issues": 3}, {"issues": 0}, {})]
    assert "last good copy" in gone[0] and "No copy" in gone[1] and "copy" not in gone[2]
    denied = absence(Part(PartState.DENIED, {}, "403", "issue"), "issues")
    assert "may not read" in denied and "scope issue" in denied and "403" in denied


async def test_a_search_goes_on_where_it_stopped(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnished(made)
    folder, snapshot = made.folder("website"), made.snapshot("website")
    whole = search(folder, snapshot, Matcher("number 12"))
    wanted = [123456789012345678, *range(129, 119, -1), 12]
    assert [one.what for one in whole.hits] == [f"pull request {one}, title" for one in wanted]
    assert whole.following is None
    monkeypatch.setattr("mirror.browse.repository.search.READ_MAX", 7)
    found: list[Hit] = []
    begin = ""
    while True:
        piece = search(folder, snapshot, Matcher("number 12"), begin)
        found += piece.hits
        if piece.following is None:
            break
        begin = piece.following
    assert tuple(found) == whole.hits
    for text in ("x", "issues:", "issues:-1", "settings:1", ":1", "issues:" + "9" * 30):
        with pytest.raises(UsageError):
            search(folder, snapshot, Matcher("x"), text)
