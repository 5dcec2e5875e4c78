"""Wikis as git repositories: everything seen once stays, and a missing wiki is no failure."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror import backup, prune, restore, verify
from mirror.backup import turn
from mirror.backup.git.lfs import fetch_lfs
from mirror.browse import diff
from mirror.config import Retention, load
from mirror.errors import CredentialRefused
from mirror.git.documents.repository import Documents
from mirror.git.mirrors.fetch import read_refs
from mirror.model import Part, Run, RunEntry, Selector
from mirror.prune import ErasureTarget
from mirror.retention import Policy
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.reading.reader import RepositoryFolder
from tests.e2e.helpers import write_config
from tests.git.backend import git, need_git
from tests.place import Killed, Place
from tests.stores import plain_reader

DAY = 86400.0
WEBSITE = Selector("acme", "website")


def _place(folder: Path, switches: Switches) -> Iterator[Place]:
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world, switches=switches) as simulator:
        yield Place(folder, simulator, load(write_config(folder, simulator, token)))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A workspace that still has wikis."""
    yield from _place(tmp_path, Switches(wikis=True))


@pytest.fixture
def retired(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from _place(tmp_path, request.param)


def entry(run: Run, name: str = "acme/website") -> RunEntry:
    [found] = [one for one in run.entries if one.full_name == name]
    return found


def wiki_part(run: Run) -> Part:
    return entry(run).parts["wiki"]


def asked(place: Place) -> int:
    """How many wikis git asked for since the last call."""
    paths = {one.path.partition(".git/wiki/")[0] for one in place.simulator.requests if "/wiki/" in one.path}
    place.simulator.requests.clear()
    return len(paths)


def folder_of(place: Place) -> RepositoryFolder:
    with place.store() as store:
        return store.repository(WEBSITE)


def refs(wiki: SimRepository) -> dict[str, str]:
    return {name.decode(): value for name, value in wiki.refs().items()}


def wiki_of(place: Place) -> SimRepository:
    wiki = place.acme.repositories["website"].wiki
    assert wiki is not None
    return wiki


async def restored_refs(place: Place, target: Path, at: str) -> dict[str, str]:
    """The refs of the wiki after a restore, read by C git from a clone."""
    report = await restore.run(
        place.config.store, WEBSITE, target=str(target), at=at, only=frozenset({"wiki"}),
        environment=os.environ,
    )  # fmt: skip
    assert report.exit_code == 0, report.to_json()
    assert [path.name for path in target.iterdir()] == ["wiki.git"]
    git("clone", "-q", "--mirror", str(target / "wiki.git"), str(target / "clone"))
    assert git("fsck", "--full", "--strict", "--no-dangling", cwd=target / "clone") == ""
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", cwd=target / "clone").splitlines()
    return {name: value for value, _, name in (line.partition(" ") for line in lines)}


async def sound(place: Place) -> None:
    run = await verify.run(place.config.store, clock=place.clock, environment=os.environ)
    assert run.facts["findings"] == []


RETIRED = {
    "404": (Switches(), "gone"),
    "410": (Switches(absent_wikis_are_410=True), "gone"),
    "401": (Switches(absent_wikis_are_401=True), "unavailable"),
    "403": (Switches(wikis=True, wikis_need_scope=True), "unavailable"),
}


@pytest.mark.parametrize(("retired", "state"), RETIRED.values(), ids=RETIRED, indirect=["retired"])
async def test_that_there_is_none_is_a_fact_and_costs_nothing_more(retired: Place, state: str) -> None:
    place, count = retired, len(retired.acme.repositories)
    run = await place.run()
    assert run.exit_code == 0
    assert {str(one.parts["wiki"].state) for one in run.entries if one.kind == "repository"} == {state}
    assert not list(place.config.store.rglob("wiki.git"))
    assert asked(place) == count
    again = await place.run()
    assert {str(one.outcome) for one in again.entries} == {"confirmed"}
    assert asked(place) == 0


async def test_it_is_asked_for_again_seldom_and_not_of_all_at_a_time(place: Place) -> None:
    place.acme.repositories["website"].wiki = None
    count = len(place.acme.repositories)
    await place.run()
    asked(place)
    found = []
    for days in (27, 4, 4, 4, 4):
        place.clock.elapsed += days * DAY
        run = await place.run()
        assert {str(one.outcome) for one in run.entries if one.kind == "repository"} == {"confirmed"}
        found.append(asked(place))
    assert found[0] == 0 and sum(found) == count and max(found) < count


async def test_full_asks_again_and_finds_what_is_new(place: Place) -> None:
    website = place.acme.repositories["website"]
    wiki, website.wiki = website.wiki, None
    assert str(wiki_part(await place.run()).state) == "gone"
    website.wiki = wiki
    assert str(wiki_part(await place.run()).state) == "gone"
    place.clock.elapsed += 3600
    run = await backup.run(place.config, clock=place.clock, environment=os.environ, full=True)
    assert str(wiki_part(run).state) == "complete"


@pytest.mark.git
async def test_all_that_a_wiki_ever_was_can_be_brought_back(place: Place, tmp_path: Path) -> None:
    """The wiki is written, rewritten, loses a branch, and disappears."""
    need_git()
    wiki = wiki_of(place)
    states = {}

    async def saved(what: str) -> RunEntry:
        run = await place.run()
        assert run.exit_code == 0, what
        found = entry(run)
        assert str(found.outcome) == "saved" and found.snapshot is not None, what
        states[found.snapshot] = refs(wiki)
        return found

    await saved("a first page")
    wiki.commit("main", {"Prices.md": b"# Prices\n"}, "Prices\n")
    wiki.tag("reviewed", wiki.refs()[b"refs/heads/main"], "All read\n")
    await saved("a second page")
    wiki.commit("draft", {"Draft.md": b"# Not yet\n"}, "A draft\n")
    await saved("a draft")
    wiki.commit("main", {"Home.md": b"# Oops\n"}, "Start over\n", parents=())
    wiki.delete_ref(b"refs/heads/draft")
    rewritten = await saved("rewritten")
    told = {(one.name, one.kind) for one in rewritten.ref_changes}
    assert told == {(b"wiki:refs/heads/main", "rewritten"), (b"wiki:refs/heads/draft", "removed")}
    place.acme.repositories["website"].wiki = None
    gone = await saved("gone")
    since = gone.parts["wiki"].reason or ""
    assert str(gone.parts["wiki"].state) == "gone" and "its last copy is kept" in since
    place.acme.repositories["website"].commit("main", {"later": b"x"}, "Later\n")
    later = await saved("the code goes on without it")
    assert later.parts["wiki"] == gone.parts["wiki"]
    for at, expected in states.items():
        assert await restored_refs(place, tmp_path / at, at) == expected
    for folder in plain_reader.folders(place.config.store):
        for snapshot in folder.snapshots() if folder.names()[0] == "acme/website" else []:
            target = tmp_path / "plain" / snapshot.facts["id"]
            folder.bring_back(snapshot, target)
            lines = git("for-each-ref", "--format=%(objectname) %(refname)", cwd=target / "wiki.git")
            there = {name: value for value, _, name in (one.partition(" ") for one in lines.splitlines())}
            assert there == states[snapshot.facts["id"]]
    first, *_, last = states
    changed = {one.what for one in diff(place.config.store, WEBSITE, first, last).refs}
    assert changed == {"refs/heads/main", "wiki:refs/heads/main", "wiki:refs/tags/reviewed"}
    await sound(place)


async def test_one_that_is_gone_is_asked_for_until_that_is_sure_and_may_come_back(place: Place) -> None:
    await place.run()
    website = place.acme.repositories["website"]
    kept, website.wiki = website.wiki, None
    first = wiki_part(await place.run())
    place.simulator.requests.clear()
    second = await place.run()
    assert wiki_part(second) == first and str(entry(second).outcome) == "confirmed"
    assert asked(place) > 0
    place.clock.elapsed += 3 * DAY
    await place.run()
    asked(place)
    await place.run()
    assert asked(place) == 0
    (place.config.store / folder_of(place).relative("state.json")).unlink()
    again = await place.run()
    assert wiki_part(again) == first, "since when it is gone stands in the snapshot"
    website.wiki = kept
    place.clock.elapsed += 60 * DAY
    back = await place.run()
    assert str(wiki_part(back).state) == "complete" and str(entry(back).outcome) == "saved"
    folder = folder_of(place)
    told = [folder.metadata.mirrors(one)["wiki"].gone_since for one in folder.metadata.snapshots()]
    assert told[0] is None and told[1] is not None and told[-1] is None
    await sound(place)


@pytest.mark.parametrize(
    ("is_known", "has_wiki"),
    [(True, True), (True, False), (False, True)],
    ids=["another wiki", "none", "another wiki, first seen"],
)
async def test_what_a_name_gives_that_changed_hands_after_the_code_is_not_this_ones(
    place: Place, monkeypatch: pytest.MonkeyPatch, is_known: bool, has_wiki: bool
) -> None:
    """LFS objects come between the code and the wiki, and may take hours."""
    old = place.acme.repositories["website"]
    before = refs(wiki_of(place))
    if is_known:
        assert (await place.run()).exit_code == 0
    made: list[SimRepository] = []
    real: Callable[..., Awaitable[Any]] = fetch_lfs

    async def lfs(folder: Any, context: Any, *given: Any, **more: Any) -> Any:
        if context.repository.uuid == old.uuid:
            place.acme.delete_repository("website")
            made.append(place.acme.add_repository("website"))
            made[0].commit("main", {"other.txt": b"something else\n"}, "Something else\n")
            if has_wiki:
                made[0].add_wiki().commit("main", {"Other.md": b"# Other\n"}, "Other\n")
        return await real(folder, context, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(turn, "fetch_lfs", lfs)
        run = await place.run()
    found = entry(run)
    assert run.exit_code == 75 and str(found.parts["wiki"].state) == "partial"
    assert made[0].uuid in (found.parts["wiki"].reason or "")
    assert [one for one in found.ref_changes if one.name.startswith(b"wiki:")] == []
    with place.store() as store:
        folder = next(one for one in store.repositories() if one.uuid == old.uuid)
    latest = folder.metadata.latest()
    assert latest is not None
    told = folder.metadata.mirrors(latest).get("wiki")
    there = {name.decode(): value for name, value in read_refs(folder.mirror("wiki")).refs.items()}
    assert there == (before if is_known else {})
    assert (told is not None and told.gone_since is None) if is_known else told is None
    code = folder.metadata.code_refs(latest)
    assert code is not None and code[0].refs == old.refs(), "the code came before, and is kept"
    await sound(place)
    await place.run()
    with place.store() as store:
        other = next(one for one in store.repositories() if one.uuid == made[0].uuid)
    expected = made[0].wiki.refs() if made[0].wiki is not None else None
    assert (read_refs(other.mirror("wiki")).refs if other.mirror("wiki").exists() else None) == expected
    await sound(place)


UNCLEAR: dict[str, tuple[dict[str, Any], int, str]] = {
    "401": ({"status": 401}, 3, "denied"),
    "403": ({"status": 403}, 3, "denied"),
    "a page": ({"kind": "html"}, 75, "partial"),
}


@pytest.mark.parametrize(("fault", "code", "state"), UNCLEAR.values(), ids=UNCLEAR)
async def test_one_that_is_held_and_refused_is_told_as_missing_before_it_counts_as_gone(
    place: Place, fault: dict[str, Any], code: int, state: str
) -> None:
    await place.run()
    place.simulator.order(Fault("*/website.git/wiki*", times=100_000, **fault))
    told = []
    for _ in range(5):
        place.clock.elapsed += DAY - 3600
        run = await place.run("acme/website")
        told.append((run.exit_code, str(wiki_part(run).state)))
    assert told == [(code, state)] * 3 + [(0, "gone")] * 2
    folder = folder_of(place)
    gone = [folder.metadata.mirrors(one)["wiki"].gone_since for one in folder.metadata.snapshots()]
    first_refused = gone[-1]
    assert gone == [None, None, first_refused] and first_refused is not None
    place.simulator.faults.clear()
    wiki_of(place).commit("main", {"New.md": b"# New\n"}, "New\n")
    place.clock.elapsed += DAY - 3600
    run = await place.run("acme/website")
    assert (run.exit_code, str(wiki_part(run).state)) == (0, "complete")
    assert read_refs(folder_of(place).mirror("wiki")).refs == wiki_of(place).refs()
    # The next time it does not count as gone at once, either.
    place.simulator.order(Fault("*/website.git/wiki*", times=100_000, **fault))
    assert (await place.run("acme/website")).exit_code == code
    await sound(place)


async def test_one_that_is_gone_is_asked_for_daily_for_a_month_and_seldom_afterwards(place: Place) -> None:
    await place.run()
    place.acme.repositories["website"].wiki = None
    await place.run("acme/website")
    found = []
    for _ in range(40):
        asked(place)
        # A daily run is not always at the same minute.
        place.clock.elapsed += DAY - 3600 - 60
        assert (await place.run("acme/website")).exit_code == 0
        found.append(asked(place))
    assert found == [1] * 33 + [0] * 7


async def test_nothing_new_in_a_wiki_costs_git_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.run()
    opened: list[str] = []
    begin = Documents.__init__

    def note(self: Documents, path: Path) -> None:
        opened.append(str(path))
        begin(self, path)

    monkeypatch.setattr(Documents, "__init__", note)
    run = await place.run()
    assert {str(one.outcome) for one in run.entries} == {"confirmed"}
    assert [path for path in opened if "/repositories/" in path] == []


async def test_trouble_is_no_absence(place: Place) -> None:
    await place.run()
    place.simulator.order(Fault("/acme/website.git/wiki/*", status=500, times=20))
    run = await place.run()
    assert run.exit_code == 75
    assert str(wiki_part(run).state) == "partial"
    place.simulator.faults.clear()
    assert (await place.run()).exit_code == 0
    await sound(place)


async def test_a_page_instead_of_git_is_an_absence(place: Place) -> None:
    place.simulator.order(Fault("/acme/website.git/wiki/*", "html", times=20))
    run = await place.run()
    assert (run.exit_code, str(wiki_part(run).state)) == (0, "gone")


async def test_a_credential_that_is_refused_as_a_whole_is_not_a_wiki_that_went(place: Place) -> None:
    await place.run()
    place.simulator.order(Fault("/acme/website.git/*", status=401, times=50))
    run = await place.run()
    assert run.exit_code == 12
    assert str(entry(run).parts["code"].state) == "denied"
    assert str(wiki_part(run).state) == "partial"
    told = folder_of(place).metadata
    latest = told.latest()
    assert latest is not None and told.mirrors(latest)["wiki"].gone_since is None


async def test_a_sign_in_that_is_refused_before_the_wiki_is_told_as_such(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may revoke a secret between the code and the wiki."""

    async def refused(*_: object) -> None:
        raise CredentialRefused("the sign-in server refused the credential")

    with monkeypatch.context() as patched:
        patched.setattr("mirror.backup.git.wiki.with_each_login", refused)
        run = await place.run()
    assert (run.exit_codes, str(wiki_part(run).state)) == ((12,), "partial")
    assert str(entry(run).parts["code"].state) == "complete"
    assert (await place.run()).exit_code == 0


async def test_trouble_with_a_wiki_is_no_worse_where_the_rest_is_asked_for_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(*_: object) -> bool:
        return False

    monkeypatch.setattr(turn, "has_requests_left", waits)
    place.simulator.order(Fault("/acme/website.git/wiki/*", status=500, times=20))
    run = await place.run()
    assert (run.exit_codes, str(wiki_part(run).state)) == ((75,), "partial")


async def test_switched_off_it_is_neither_asked_for_nor_lost(place: Place) -> None:
    await place.run()
    on = place.config.workspaces[0]
    off = replace(on, parts=replace(on.parts, wiki=False))
    place.config = replace(place.config, workspaces=(off,))
    asked(place)
    run = await place.run()
    assert (run.exit_code, str(wiki_part(run).state), asked(place)) == (0, "skipped", 0)
    told = folder_of(place).metadata
    latest = told.latest()
    assert latest is not None and told.mirrors(latest)["wiki"].refs.refs
    await sound(place)


async def test_prune_lets_go_of_what_only_old_snapshots_had(place: Place) -> None:
    wiki = wiki_of(place)
    values = []
    for number in range(4):
        values.append(wiki.commit("main", {"Home.md": b"%d\n" % number}, "Start over\n", parents=()))
        assert (await place.run()).exit_code == 0
    path = folder_of(place).mirror("wiki")
    assert all(git("cat-file", "-t", one, cwd=path) == "commit\n" for one in values)
    rules = replace(place.config.workspaces[0], retention=Retention(Policy(keep_last=2)))
    place.config = replace(place.config, workspaces=(rules,))
    told = await prune.prune(place.config, clock=place.clock, environment=os.environ, dry_run=True)
    assert entry(told).facts["freed"]["code"] > 0
    run = await prune.prune(place.config, clock=place.clock, environment=os.environ)
    assert run.exit_code == 0 and entry(run).facts["freed"]["code"] > 0
    there = git("cat-file", "--batch-check", "--batch-all-objects", cwd=path)
    assert [one in there for one in values] == [False, False, True, True]
    await sound(place)


@pytest.mark.parametrize("ref", ["wiki:refs/heads/main", None])
async def test_what_is_erased_of_a_wiki_stays_out(place: Place, ref: str | None) -> None:
    wiki = wiki_of(place)
    secret = wiki.commit("main", {"Keys.md": b"hunter2\n"}, "Keys\n")
    other = wiki.commit("other", {"Fine.md": b"fine\n"}, "Fine\n", parents=())
    await place.run()
    path = folder_of(place).mirror("wiki")
    run = await prune.erase(
        place.config.store, WEBSITE, ErasureTarget(ref=ref),
        reason="holds a password", by="ann", clock=place.clock,
        environment=os.environ,
    )  # fmt: skip
    assert run.exit_code == 0
    if ref is None:
        assert not path.exists()
    for _ in range(2):
        there = git("cat-file", "--batch-check", "--batch-all-objects", cwd=path) if path.exists() else ""
        assert (secret in there, other in there) == (False, ref is not None)
        await sound(place)
        assert (await place.run()).exit_code == 0


async def test_damage_in_a_wiki_is_found_and_named(place: Place) -> None:
    wiki_of(place).commit("main", {"Home.md": b"again\n"}, "Start over\n", parents=())
    await place.run()
    wiki_of(place).commit("main", {"Home.md": b"and again\n"}, "Start over\n", parents=())
    await place.run()
    folder = folder_of(place)
    ids = [one.id for one in folder.metadata.snapshots()]
    packed = folder.mirror("wiki") / "packed-refs"
    whole = packed.read_bytes()
    # As git itself writes it, without our words, and without the kept value.
    packed.write_bytes(
        b"# pack-refs with: peeled fully-peeled sorted \n"
        + b"".join(line for line in whole.splitlines(keepends=True)[1:] if b"refs/mirror/keep" not in line)
    )
    run = await verify.run(place.config.store, clock=place.clock, environment=os.environ)
    [finding] = [one for one in run.facts["findings"] if "no longer the value" in one["problem"]]
    assert finding["file"].endswith("wiki.git/packed-refs") and finding["snapshots"] == ids[:1]
    packed.write_bytes(whole)
    [pack, *_] = sorted(packed.parent.rglob("*.pack"))
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    run = await verify.run(place.config.store, clock=place.clock, environment=os.environ)
    assert run.exit_code == 4
    assert any("/wiki.git/" in one["file"] for one in run.facts["findings"])


async def test_killed_while_a_first_wiki_came_the_next_run_completes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror is on the disk, but no snapshot names it."""

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("mirror.store.writing.folder_writer.FolderWriter.snapshot", killed)
        with pytest.raises(BaseExceptionGroup):
            await place.run()
    await asyncio.sleep(0)
    run = await place.run()
    assert (run.exit_code, str(wiki_part(run).state)) == (0, "complete")
    await sound(place)
