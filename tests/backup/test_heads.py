"""Heads of pull requests: pinned wherever git gives them, patched where it does not, and counted
correctly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.config import load
from mirror.git.mirrors.fetch import read_refs
from mirror.git.mirrors.fsck import CheckJob, check
from mirror.model import Run, RunEntry, Selector
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

DAY = 86400.0
KINDS = ("", "_patched", "_lost", "_unknown")


@contextmanager
def made(folder: Path, **switches: bool) -> Iterator[Place]:
    world = World(folder / "upstream")
    populate(world)
    world.add_workspace("guests")
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world, switches=replace(Switches.default(), **switches)) as simulator:
        yield Place(folder, simulator, load(write_config(folder, simulator, token)))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with made(tmp_path) as found:
        yield found


def contribute(
    place: Place, workspace: str = "guests", *, private: bool = False, name: str = "website-fork"
) -> SimRepository:
    """A fork of the website with a pull request from it; the first has number 4."""
    website = place.acme.repositories["website"]
    home = place.world.workspaces[workspace]
    fork = home.add_repository(name, private=private, parent=website)
    fork.commit("idea", {"idea.txt": b"An idea\n"}, "An idea\n", parents=[website.refs()[b"refs/heads/main"]])
    ann = place.world.users["ann@acme.example"]
    website.open_pull_request(source="idea", title="An idea", author=ann, fork=fork)
    return fork


def entry(run: Run, name: str = "acme/website") -> RunEntry:
    [found] = [one for one in run.entries if one.full_name == name]
    return found


def heads(run: Run, name: str = "acme/website") -> list[int | None]:
    """How many heads are pinned, patched, lost, unknown."""
    counts = entry(run, name).parts["code"].counts
    return [counts.get(f"pull_request_heads{kind}") for kind in KINDS]


def pin(place: Place, number: int, name: str = "acme/website") -> str | None:
    with place.store() as store:
        folder = store.repository(Selector.parse(name))
        latest = folder.metadata.latest()
        assert latest is not None
        known = folder.metadata.code_refs(latest)
        assert known is not None
        pinned = read_refs(folder.code, ours=True).refs.get(b"refs/mirror/pull-requests/%d/from" % number)
        assert known[1].get(number) == pinned
        if pinned is not None:
            assert check(CheckJob(str(folder.code), (pinned,))).problems == ()
        return pinned


def asked(place: Place, what: str = "website-fork.git") -> list[str]:
    found = [one.path for one in place.simulator.requests if what in one.path]
    place.simulator.requests.clear()
    return found


@pytest.mark.parametrize(
    ("workspace", "private", "short"),
    [("acme", True, True), ("guests", False, True), ("guests", False, False)],
)
async def test_a_head_from_a_fork_is_pinned_as_soon_as_seen(
    tmp_path: Path, workspace: str, private: bool, short: bool
) -> None:
    with made(tmp_path, short_hashes=short) as place:
        fork = contribute(place, workspace, private=private)
        run = await place.run("acme/website")
        assert run.exit_code == 0
        first = fork.refs()[b"refs/heads/idea"]
        assert pin(place, 4) == first
        assert heads(run) == [4, 0, 0, None]
        assert asked(place) != []
        # Later runs do not ask for pinned heads again, but for later pushes to the fork.
        again = await place.run("acme/website")
        assert str(entry(again).outcome) == "confirmed" and asked(place) == []
        second = fork.commit("idea", {"idea.txt": b"A better idea\n"}, "Better\n", parents=[])
        assert heads(await place.run("acme/website")) == [4, 0, 0, None]
        assert pin(place, 4) == second
        with place.store() as store:
            folder = store.repository(Selector.parse("acme/website"))
            assert check(CheckJob(str(folder.code), (first, second))).problems == ()
            assert first in read_refs(folder.code, ours=True).refs.values()
        # The fork may disappear: the mirror has the head.
        place.world.workspaces[workspace].delete_repository("website-fork")
        place.clock.elapsed += 8 * DAY
        run = await place.run("acme/website")
        assert heads(run) == [4, 0, 0, None] and pin(place, 4) == second
        assert run.exit_code == 0


async def test_a_fork_that_may_not_be_read_is_a_fact_and_rarely_asked(place: Place) -> None:
    contribute(place, private=True)
    run = await place.run("acme/website")
    assert run.exit_code == 0 and entry(run).parts["code"].state == "complete"
    assert pin(place, 4) is None
    # The API gives what git does not: the patch.
    assert heads(run) == [3, 1, 0, None]
    assert len(asked(place)) <= 4  # with the credential, and anonymously
    for _ in range(3):
        place.world.workspaces["guests"].repositories["website-fork"].commit(
            "idea", {"more": place.clock.now().isoformat().encode()}, "More\n"
        )
        assert (await place.run("acme/website")).exit_code == 0
    assert asked(place) == []
    place.clock.elapsed += 8 * DAY
    place.world.workspaces["guests"].repositories["website-fork"].private = False
    run = await place.run("acme/website")
    assert heads(run) == [4, 0, 0, None] and pin(place, 4) is not None


async def test_a_fork_that_was_gone_before_it_was_seen_is_counted_as_lost(place: Place) -> None:
    contribute(place)
    place.world.workspaces["guests"].delete_repository("website-fork")
    run = await place.run("acme/website")
    assert run.exit_code == 0
    assert heads(run) == [3, 0, 1, None] and asked(place) == []
    requests = (await place.run("acme/website")).facts["requests"]
    assert requests <= 4  # the run asks for nothing twice


async def test_a_fork_that_cannot_be_reached_is_asked_by_the_next_run(place: Place) -> None:
    fork = contribute(place)
    place.simulator.order(Fault("*/website-fork.git/*", status=503, times=1000))
    run = await place.run("acme/website")
    assert run.exit_code == 75
    assert entry(run).parts["code"].state == "partial"
    assert "heads of 1 pull requests" in (entry(run).parts["code"].reason or "")
    place.simulator.faults.clear()
    run = await place.run("acme/website")
    assert run.exit_code == 0 and heads(run) == [4, 0, 0, None]
    assert pin(place, 4) == fork.refs()[b"refs/heads/idea"]


async def test_a_fork_that_cannot_be_reached_makes_nothing_passing_of_refs_that_are_refused(
    place: Place,
) -> None:
    fork = contribute(place)
    website = place.acme.repositories["website"]
    line = f"{website.refs()[b'refs/heads/main']} refs/tags/{'n' * 1100}\n"
    with (website.git_path / "packed-refs").open("a") as packed:
        packed.write(line)
    run = await place.run("acme/website")
    refused = entry(run).parts["code"]
    assert (run.exit_codes, str(refused.state)) == ((3,), "partial") and refused.reason is not None
    fork.commit("idea", {"idea.txt": b"Better\n"}, "Better\n", parents=[])
    place.simulator.order(Fault("*/website-fork.git/*", status=503, times=1000))
    run = await place.run("acme/website")
    reason = entry(run).parts["code"].reason or ""
    assert run.exit_codes == (3,)
    assert reason.startswith(f"{refused.reason}; heads of 1 pull requests could not be asked for: ")


async def test_forks_that_never_answer_keep_no_other_place_from_being_asked(tmp_path: Path) -> None:
    """The silent forks have the newer pull requests, and there are more of them than one run tries."""
    with made(tmp_path, git_serves_any_hash=True) as place:
        good = contribute(place, name="good")
        for name in ("silent-1", "silent-2", "silent-3"):
            contribute(place, name=name)
        website = place.acme.repositories["website"]
        tip = website.refs()[b"refs/heads/main"]
        website.commit("ours", {"ours.txt": b"Ours\n"}, "Ours\n", parents=[tip])
        ann = place.world.users["ann@acme.example"]
        own = website.open_pull_request(source="ours", title="Ours", author=ann)
        own.merge(author=ann, squash=True)
        place.simulator.order(Fault("*/silent-*.git/*", status=503, times=10_000))
        run = await place.run("acme/website")
        assert (run.exit_code, asked(place, "good.git")) == (75, [])
        run = await place.run("acme/website")
        assert run.exit_code == 75
        assert pin(place, 4) == good.refs()[b"refs/heads/idea"]
        assert pin(place, own.id) == own.source_hash
        # No run leaves out a silent fork for ever, either.
        place.simulator.faults.clear()
        run = await place.run("acme/website")
        assert (run.exit_code, heads(run)) == (0, [8, 0, 0, None])


@pytest.mark.parametrize("short", [True, False])
async def test_a_head_that_no_ref_has_comes_by_hash_where_the_server_gives_it(
    tmp_path: Path, short: bool
) -> None:
    """A squashed pull request whose branch was deleted; the list of its commits has the full hash of its
    head."""
    with made(tmp_path, git_serves_any_hash=True, short_hashes=short) as place:
        run = await place.run("acme/billing")
        squashed = place.acme.repositories["billing"].pull_requests[1]
        assert heads(run, "acme/billing") == [2, 0, 0, None]
        assert pin(place, 1, "acme/billing") == squashed.source_hash
        assert str(entry(await place.run("acme/billing"), "acme/billing").outcome) == "confirmed"


async def test_where_the_server_gives_nothing_by_hash_the_patch_is_kept(place: Place) -> None:
    run = await place.run("acme/billing")
    assert heads(run, "acme/billing") == [1, 1, 0, None] and run.exit_code == 0
    place.simulator.requests.clear()
    await place.run("acme/billing")
    # The server refused it once, and not every run asks again: only the requests for refs remain.
    assert len(asked(place, "billing.git")) <= 2


async def test_what_was_not_asked_for_yet_is_neither_patched_nor_lost(place: Place) -> None:
    contribute(place, private=True)
    place.simulator.order(Fault("GET */patch*", status=503, times=1000))
    place.simulator.order(Fault("GET */pullrequests/4/patch", status=503, times=1000))
    run = await place.run("acme/website")
    assert run.exit_code == 75 and heads(run) == [3, 0, 0, 1]
    place.simulator.faults.clear()
    assert heads(await place.run("acme/website")) == [3, 1, 0, None]


async def test_without_its_cursors_a_repository_counts_the_same(place: Place) -> None:
    contribute(place, private=True)
    before = heads(await place.run("acme/website"))
    with place.store() as store:
        folder = store.repository(Selector.parse("acme/website"))
        (folder.code.parent / "state.json").unlink()
    assert heads(await place.run("acme/website")) == before == [3, 1, 0, None]


async def test_many_heads_of_one_fork_take_one_fetch(place: Place) -> None:
    fork = contribute(place)
    website, ann = place.acme.repositories["website"], place.world.users["ann@acme.example"]
    for number in range(5, 25):
        fork.commit(f"idea-{number}", {"idea.txt": b"%d\n" % number}, f"Idea {number}\n")
        website.open_pull_request(source=f"idea-{number}", title="Another", author=ann, fork=fork)
    run = await place.run("acme/website")
    assert heads(run) == [24, 0, 0, None]
    assert len(asked(place)) <= 3 * 2  # first with the credential, then anonymously: branches, and one pack


@pytest.mark.parametrize("lie", ["other-origin", "login-page"])
async def test_a_fork_that_answers_nonsense_harms_nothing(place: Place, lie: str, tmp_path: Path) -> None:
    contribute(place)
    kinds: dict[str, Callable[[], Fault]] = {
        "other-origin": lambda: Fault(
            "*/website-fork.git/*", kind="redirect", location=f"{place.simulator.storage_url}/x", times=1000
        ),
        "login-page": lambda: Fault("*/website-fork.git/*", kind="html", times=1000),
    }
    place.simulator.order(kinds[lie]())
    run = await place.run("acme/website")
    assert run.exit_code == 0 and heads(run) == [3, 1, 0, None]
