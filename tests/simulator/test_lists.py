"""Pages, filters, order and partial responses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.simulator import Switches
from mirror.simulator.api.paging import BadRequest, PageOptions, filtered, page, partial
from tests.simulator.helpers import API, Asking

PULLS = "/repositories/acme/website/pullrequests"
ALL = "state=OPEN&state=MERGED&state=DECLINED&state=SUPERSEDED"


@settings(derandomize=True, max_examples=60)
@given(st.integers(0, 60), st.integers(1, 25), st.booleans(), st.booleans())
def test_pages_hold_every_entry_once_and_in_order(
    count: int, length: int, opaque: bool, has_size: bool
) -> None:
    options = PageOptions(opaque=opaque, has_size=has_size)
    pairs = [("pagelen", str(length)), ("q", "x")]
    seen: list[int] = []
    pages = 0
    while True:
        found = page(range(count), lambda one: {"n": one}, pairs, base="/list", options=options)
        seen += [one["n"] for one in found["values"]]
        pages += 1
        if "next" not in found:
            break
        where, _, query = found["next"].partition("?")
        assert where == "/list"
        assert "q=x" in query and f"pagelen={length}" in query
        pairs = [(name, value) for name, _, value in (one.partition("=") for one in query.split("&"))]
    assert seen == list(range(count))
    assert pages == max(1, -(-count // length))


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("updated_on>=2026-03-02", [1, 2]),
        ("updated_on > 2026-03-01T12:00:00+00:00", [1, 2]),
        ("updated_on > 2026-03-02T12:00:00Z", [2]),
        ('state="OPEN" AND updated_on<2026-03-02', [3]),
        ('source.branch.name ~ "FEAT"', [1, 3]),
        ('source.branch.name !~ "feat"', [2]),
        ("is_private = true", [2]),
        ("id != 2", [1, 3]),
        ("parent = null", [1, 3]),
        ("parent != null", [2]),
    ],
)
def test_a_filter_leaves_what_it_says(query: str, left: list[int]) -> None:
    documents = [
        {"id": 1, "state": "MERGED", "updated_on": "2026-03-02T10:00:00.000000+00:00",
         "source": {"branch": {"name": "feature/a"}}, "is_private": False, "parent": None},
        {"id": 2, "state": "OPEN", "updated_on": "2026-03-03T10:00:00.000000+00:00",
         "source": {"branch": {"name": "fix"}}, "is_private": True, "parent": {"id": 9}},
        {"id": 3, "state": "OPEN", "updated_on": "2026-03-01T10:00:00.000000+00:00",
         "source": {"branch": {"name": "feature/b"}}, "is_private": False, "parent": None},
    ]  # fmt: skip
    assert [one["id"] for one in filtered(documents, query)] == left


@pytest.mark.parametrize("query", ["nonsense", "a >= ", "updated_on > 2026-99-99", "id > x"])
def test_a_filter_that_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(BadRequest):
        filtered([{"id": 1, "updated_on": "2026-03-02T10:00:00+00:00"}], query)


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        ("values.id,next", {"values": [{"id": 1}], "next": "n"}),
        ("-values.author,-next", {"values": [{"id": 1}]}),
        ("values.author.name", {"values": [{"author": {"name": "a"}}]}),
        ("values.author.*", {"values": [{"author": {"name": "a", "uuid": "u"}}]}),
        ("values.idd", {"values": [{}]}),
        (
            "+values.people",
            {"values": [{"id": 1, "author": {"name": "a", "uuid": "u"}, "people": [7]}], "next": "n"},
        ),
    ],
)
def test_a_partial_answer_has_what_is_asked_for(spec: str, left: object) -> None:
    document = {"values": [{"id": 1, "author": {"name": "a", "uuid": "u"}}], "next": "n"}
    assert partial(document, spec, lambda _: {"people": [7]}) == left


async def test_caps_are_refusals_and_not_clamps(tmp_path: Path) -> None:
    ask = Asking(tmp_path / "a")
    pipeline = ask.world.workspaces["acme"].repositories["website"].pipelines[1].uuid
    steps = f"/repositories/acme/website/pipelines/{pipeline}/steps/"
    for path, most in (
        (PULLS, 50), (f"{PULLS}/activity", 50), (f"{PULLS}/1/activity", 50), (f"{PULLS}/1/comments", 100),
        (f"{PULLS}/1/commits", 100), ("/repositories/acme", 100), (steps, 100),
    ):  # fmt: skip
        assert (await ask(f"{path}?pagelen={most}")).status_code == 200, path
        for length in (str(most + 1), "0", "-1", "x"):
            answer = await ask(f"{path}?pagelen={length}")
            assert answer.status_code == 400, path
            assert answer.json()["error"]["message"] == "Invalid pagelen"
    cut = Asking(tmp_path / "b", switches=Switches(long_pages_are_cut=True, steps_page_cap_50=True))
    assert (await cut(f"{steps}?pagelen=100")).json()["pagelen"] == 50


async def test_next_is_whole_and_nothing_may_be_added_to_it(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    for number in range(12):
        ask.world.workspaces["acme"].add_repository(f"extra-{number}")
    first = (await ask("/repositories/acme?sort=-created_on")).json()
    assert first["next"].startswith(f"{API}/repositories/acme?")
    assert "sort=-created_on" in first["next"]
    assert (await ask(f"{first['next']}&pagelen=10")).status_code == 200
    assert (await ask(f"{first['next']}&page=3")).status_code == 400
    second = (await ask(first["next"])).json()
    assert second["page"] == 2
    assert "next" not in second
    assert len(second["values"]) == 6


async def test_lists_with_other_options(tmp_path: Path) -> None:
    switches = Switches(
        opaque_pages=True, lists_have_size=False, lists_have_page=False, lists_repeat_entries=True
    )
    ask = Asking(tmp_path, switches=switches)
    for number in range(12):
        ask.world.workspaces["acme"].add_repository(f"extra-{number}")
    first = (await ask("/repositories/acme")).json()
    assert set(first) == {"values", "next"}
    assert (await ask("/repositories/acme?page=2")).status_code == 400
    second = (await ask(first["next"])).json()
    assert second["values"][0] == first["values"][-1]
    slugs = [one["slug"] for one in await ask.entries("/repositories/acme")]
    assert len(slugs) == 17
    assert len(set(slugs)) == 16


async def test_pull_requests_are_thin_in_a_list(tmp_path: Path) -> None:
    ask = Asking(tmp_path / "a")
    assert [one["id"] for one in await ask.entries(PULLS)] == [3]
    whole = await ask.entries(f"{PULLS}?{ALL}")
    assert [one["id"] for one in whole] == [3, 2, 1]
    one = (await ask(f"{PULLS}/1")).json()
    assert "participants" not in whole[2] and "reviewers" not in whole[2]
    assert len(whole[2]["source"]["commit"]["hash"]) == 12
    assert len(one["source"]["commit"]["hash"]) == 40
    asked = await ask.entries(f"{PULLS}?{ALL}&fields=%2Bvalues.participants,%2Bvalues.reviewers")
    assert asked[2]["participants"] == one["participants"]
    assert asked[2]["reviewers"] == one["reviewers"]
    resolved = (await ask(f"/repositories/acme/website/commit/{whole[2]['source']['commit']['hash']}")).json()
    assert resolved["hash"] == one["source"]["commit"]["hash"]
    assert (await ask(f"{PULLS}?{ALL}&sort=id")).status_code == 500
    assert (await ask(f"{PULLS}?state=MERGED&sort=id")).status_code == 200
    for state in ("ALL", "OPEN,MERGED"):
        assert (await ask(f"{PULLS}?state={state}")).status_code == 400
    other = Asking(tmp_path / "b", switches=Switches(participants_in_lists=False, short_hashes=False))
    [pull] = await other.entries(f"{PULLS}?fields=%2Bvalues.participants")
    assert "participants" not in pull
    assert len(pull["source"]["commit"]["hash"]) == 40


async def test_pipelines_have_no_next_and_ignore_filters(tmp_path: Path) -> None:
    path = "/repositories/acme/website/pipelines/"
    ask = Asking(tmp_path / "a")
    first = (await ask(f"{path}?pagelen=1")).json()
    assert "next" not in first
    assert [one["build_number"] for one in first["values"]] == [1]
    assert (await ask(f"{path}?pagelen=1&page=2")).json()["values"][0]["build_number"] == 2
    assert (await ask(f"{path}?pagelen=1&page=3")).json()["values"] == []
    assert (await ask(f"{path}?q=created_on>2100-01-01")).json()["size"] == 2
    newest = (await ask(f"{path}?sort=-created_on")).json()["values"]
    assert [one["build_number"] for one in newest] == [2, 1]
    assert newest[0]["created_on"].endswith("Z")
    assert (await ask(path.rstrip("/"))).status_code == 404
    switches = Switches(pipelines_have_next=True, pipelines_need_slash=False, pipelines_sort=False)
    other = Asking(tmp_path / "b", switches=switches)
    assert "next" in (await other(f"{path.rstrip('/')}?pagelen=1")).json()
    oldest = (await other(f"{path}?sort=-created_on")).json()["values"]
    assert [one["build_number"] for one in oldest] == [1, 2]


async def test_all_activity_is_that_of_each_pull_request_the_newest_first(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    whole = await ask.entries(f"{PULLS}/activity?pagelen=50")
    single = [one for number in (1, 2, 3) for one in await ask.entries(f"{PULLS}/{number}/activity")]
    assert sorted(map(str, whole)) == sorted(map(str, single))
    ours = [one for one in whole if one["pull_request"]["id"] == 1]
    assert ours == await ask.entries(f"{PULLS}/1/activity")
    # No entry has a number of its own.
    assert all("id" not in one for one in whole)


async def test_slashes_at_the_end_may_make_a_difference(tmp_path: Path) -> None:
    for same in (True, False):
        ask = Asking(tmp_path / str(same), switches=Switches(slashes_at_the_end_are_ignored=same))
        for path in ("/repositories/acme/", "/repositories/acme/website/hooks/", f"{PULLS}/3/"):
            assert (await ask(path)).status_code == (200 if same else 404), path
