"""Snippets as git repositories: fetched after an update, kept after a deletion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror import prune, restore, verify
from mirror.backup.git.mirrors import fetch_if_there
from mirror.browse import export
from mirror.config import Retention, load
from mirror.errors import CredentialRefused
from mirror.git.mirrors.maintenance import MaintenanceLimits
from mirror.model import JsonObject, Part, Run, RunEntry, Selector, Snapshot
from mirror.prune import ErasureTarget
from mirror.retention import Policy
from mirror.simulator import Fault, Simulator, World
from mirror.simulator.api.render_settings import Settings
from mirror.simulator.world.discussions import Snippet
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.reading.reader import WorkspaceFolder
from tests.e2e.helpers import write_config
from tests.git.backend import git, need_git
from tests.git.fetched import packs
from tests.place import Killed, Place
from tests.stores import plain_reader

DAY = 86400.0
ACME = Selector("acme")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A workspace with three snippets; the ids of two of them differ only in case."""
    world = World(tmp_path / "upstream")
    populate(world)
    acme, ann = world.workspaces["acme"], world.users["ann@acme.example"]
    acme.add_snippet("Upper", {"a.txt": b"upper\n"}, author=ann, identifier="kYpJ")
    acme.add_snippet("Lower", {"a.txt": b"lower\n"}, author=ann, identifier="kypj")
    acme.settings.clear()
    # No real access token has this scope; these tests are about credentials that have it.
    token = world.add_workspace_access_token("acme", SCOPES | {"snippet"})
    with Simulator(world) as simulator:
        config = load(write_config(tmp_path, simulator, token))
        only = replace(config.workspaces[0], include=("handbook",))
        yield Place(tmp_path, simulator, replace(config, workspaces=(only,)))


def entry(run: Run) -> RunEntry:
    [found] = [one for one in run.entries if one.kind == "workspace"]
    return found


def part(run: Run) -> Part:
    return entry(run).parts["snippets"]


def asked(place: Place) -> list[str]:
    """The snippets that git asked for since the last call."""
    paths = [one.path for one in place.simulator.requests if ".git/" in one.path]
    place.simulator.requests.clear()
    return sorted({path.split("/")[3] for path in paths if path.startswith("/snippets/")})


def home(place: Place) -> WorkspaceFolder:
    with place.store() as store:
        [found] = store.workspaces()
        return found


def mirror_of(place: Place, snippet: Snippet) -> Path:
    [found] = [
        path
        for path in home(place).mirrors().values()
        if snippet.commit in git("cat-file", "--batch-check", "--batch-all-objects", cwd=path)
    ]
    return found


async def sound(place: Place) -> None:
    run = await verify.run(place.config.store, clock=place.clock, environment=os.environ)
    assert run.facts["findings"] == []


async def test_each_is_mirrored_and_ids_that_differ_in_case_do_not_meet(place: Place) -> None:
    run = await place.run()
    assert run.exit_code == 0
    assert (str(part(run).state), part(run).counts["mirrors"]) == ("complete", 3)
    paths = {mirror_of(place, one) for one in place.acme.snippets.values()}
    assert len(paths) == 3 and len({path.name.lower() for path in paths}) == 3
    assert all(path.parent.stat().st_mode & 0o777 == 0o700 for path in paths)
    folder = home(place)
    latest = folder.metadata.latest()
    assert latest is not None
    told = folder.metadata.mirrors(latest)
    assert {name: folder.mirror(name) for name in told} == folder.mirrors()
    values = {one.refs.refs[b"refs/heads/main"] for one in told.values()}
    assert values == {one.commit for one in place.acme.snippets.values()}
    await sound(place)


async def test_only_what_was_updated_is_asked_for_and_all_once_a_week(place: Place) -> None:
    await place.run()
    asked(place)
    place.clock.elapsed += 2 * DAY
    run = await place.run()
    assert (str(entry(run).outcome), asked(place)) == ("confirmed", [])
    place.acme.snippets["kYpJ"].edit({"a.txt": b"edited\n"})
    place.clock.elapsed += 2 * DAY
    run = await place.run()
    assert (str(entry(run).outcome), asked(place)) == ("saved", ["kYpJ"])
    # A push that only the list of commits shows, and one that nothing shows.
    pushed = place.acme.snippets["kypj"].commit_files({"a.txt": b"pushed\n"})
    hidden = place.acme.snippets["kYpJ"].git.commit("other", {"b.txt": b"hidden\n"}, "Elsewhere\n")
    place.clock.elapsed += 1 * DAY
    assert (str(entry(await place.run()).outcome), asked(place)) == ("saved", ["kypj"])
    assert git("rev-parse", "main", cwd=home(place).mirror("snippets/kypj")).strip() == pushed
    place.clock.elapsed += 3 * DAY
    assert str(entry(await place.run()).outcome) == "saved"
    assert len(asked(place)) == 3
    upper = mirror_of(place, place.acme.snippets["kYpJ"])
    assert git("rev-parse", "other", cwd=upper).strip() == hidden
    await sound(place)


@pytest.mark.git
async def test_all_that_a_snippet_ever_was_can_be_brought_back(place: Place, tmp_path: Path) -> None:
    """Edited, rewritten by a force-push, and deleted."""
    need_git()
    snippet, states = place.acme.snippets["kypj"], {}

    async def saved() -> RunEntry:
        place.clock.elapsed += 8 * DAY
        run = await place.run()
        assert run.exit_code == 0
        found = entry(run)
        assert str(found.outcome) == "saved" and found.snapshot is not None
        states[found.snapshot] = snippet.commit
        return found

    await saved()
    snippet.edit({"b.txt": b"another\n"})
    await saved()
    snippet.commit_files({"c.txt": b"over\n"}, parents=())
    [change] = (await saved()).ref_changes
    assert (change.name, change.kind) == (b"snippets/kypj:refs/heads/main", "rewritten")
    del place.acme.snippets["kypj"]
    gone = await saved()
    assert gone.parts["snippets"].counts["mirrors"] == 3
    for snapshot, expected in states.items():
        target = tmp_path / snapshot
        report = await restore.run(
            place.config.store, ACME, target=str(target), at=snapshot, only=frozenset({"snippets"}),
            environment=os.environ,
        )  # fmt: skip
        assert report.exit_code == 0, report.to_json()
        assert [path.name for path in (target / "acme").iterdir()] == ["~workspace"]
        bare = target / "acme" / "~workspace" / "snippets" / "kypj.git"
        git("clone", "-q", str(bare), str(tmp_path / f"clone-{snapshot}"))
        assert git("rev-parse", "HEAD", cwd=tmp_path / f"clone-{snapshot}").strip() == expected
        [plain] = [one for one in plain_reader.folders(place.config.store) if one.names()[0] == "acme"]
        [found] = [one for one in plain.snapshots() if one.facts["id"] == snapshot]
        plain.bring_back(found, tmp_path / "plain" / snapshot)
        there = tmp_path / "plain" / snapshot / "snippets" / "kypj.git"
        assert git("rev-parse", "main", cwd=there).strip() == expected
    exported = export(place.config.store, ACME, tmp_path / "exported")
    assert not any(one.problems for one in exported)
    out = tmp_path / "exported" / "acme" / "~workspace" / "snippets" / "kypj"
    assert (out / "c.txt").read_bytes() == b"over\n"
    await sound(place)


async def test_prune_lets_go_of_what_only_old_snapshots_had(place: Place) -> None:
    snippet, values = place.acme.snippets["kypj"], []
    for number in range(4):
        values.append(snippet.commit_files({"a.txt": b"%d\n" % number}, parents=()))
        place.clock.elapsed += 8 * DAY
        assert (await place.run()).exit_code == 0
    path = home(place).mirror("snippets/kypj")
    rules = replace(place.config.workspaces[0], retention=Retention(Policy(keep_last=2)))
    place.config = replace(place.config, workspaces=(rules,))
    run = await prune.prune(place.config, clock=place.clock, environment=os.environ)
    assert run.exit_code == 0 and entry(run).facts["freed"]["code"] > 0
    there = git("cat-file", "--batch-check", "--batch-all-objects", cwd=path)
    assert [one in there for one in values] == [False, False, True, True]
    await sound(place)


async def test_an_erased_snippet_takes_its_repository_with_it_and_stays_out(place: Place) -> None:
    await place.run()
    place.acme.snippets["kypj"].edit({"a.txt": b"hunter2\n"})
    place.clock.elapsed += 8 * DAY
    await place.run()
    run = await prune.erase(
        place.config.store, ACME, ErasureTarget(document="snippets/kypj.json"),
        reason="holds a password", by="ann",
        clock=place.clock, environment=os.environ,
    )  # fmt: skip
    assert run.exit_code == 0
    for _ in range(2):
        folder = home(place)
        assert len(folder.mirrors()) == 2
        for snapshot in folder.metadata.snapshots():
            assert "snippets/kypj" not in folder.metadata.mirrors(snapshot)
            document = folder.metadata.read(snapshot, "snippets/kypj.json")
            assert document is not None and document.keys() == {"erased"}
        assert not any(b"hunter2" in one.path.read_bytes() for one in folder.files())
        await sound(place)
        place.clock.elapsed += 8 * DAY
        assert (await place.run()).exit_code == 0


@pytest.mark.parametrize(
    "address",
    ["https://elsewhere.example/snippets/acme/kypj/x.git", "ssh://git@127.0.0.1/x.git", None],
    ids=["another host", "no address over HTTP", "none"],
)
async def test_an_address_that_is_not_the_git_servers_is_refused_and_told(
    place: Place, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = Settings.snippet

    def elsewhere(self: Settings, snippet: Snippet, workspace: str, *, listed: bool) -> JsonObject:
        shown = render(self, snippet, workspace, listed=listed)
        if snippet.id == "kypj":
            shown["links"]["clone"] = [{"name": "https", "href": address}] if address else None
        return shown

    monkeypatch.setattr(Settings, "snippet", elsewhere)
    run = await place.run()
    assert run.exit_code == 3
    assert str(part(run).state) == "partial"
    assert "snippets/kypj: its clone address is not one of the configured git server" in str(part(run).reason)
    assert "kypj" not in asked(place) and len(home(place).mirrors()) == 2
    await sound(place)


@pytest.mark.parametrize("status", [404, 410, 401, 403])
async def test_that_git_does_not_give_one_is_a_fact(place: Place, status: int) -> None:
    place.simulator.order(Fault("/snippets/acme/kypj/*", status=status, times=50))
    run = await place.run()
    assert run.exit_code == 0
    assert part(run).reason == "git does not give 1 of them, such as snippets/kypj"
    assert part(run).counts["mirrors"] == len(home(place).mirrors()) == 2
    asked(place)
    again = await place.run()
    assert (str(entry(again).outcome), part(again), asked(place)) == ("confirmed", part(run), [])
    place.simulator.faults.clear()
    place.clock.elapsed += 8 * DAY
    later = await place.run()
    assert (part(later).reason, part(later).counts["mirrors"]) == (None, 3)
    await sound(place)


@pytest.mark.parametrize("status", [404, 401, 403])
async def test_one_that_was_given_before_and_is_not_now_is_told_and_asked_for_until_it_comes(
    place: Place, status: int
) -> None:
    await place.run()
    snippet = place.acme.snippets["kypj"]
    snippet.edit({"a.txt": b"edited\n"})
    place.simulator.order(Fault("/snippets/acme/kypj/*", status=status, times=1000))
    told = []
    for _ in range(5):
        asked(place)
        place.clock.elapsed += DAY - 3600
        run = await place.run()
        assert "kypj" in asked(place)
        told.append((run.exit_code, str(part(run).state)))
    assert told == [(3, "partial")] * 3 + [(0, "complete")] * 2
    assert part(run).reason == "git does not give 1 of them, such as snippets/kypj"
    place.simulator.faults.clear()
    place.clock.elapsed += DAY
    run = await place.run()
    assert (run.exit_code, part(run).reason) == (0, None)
    assert git("rev-parse", "main", cwd=home(place).mirror("snippets/kypj")).strip() == snippet.commit
    # The next time the refusal does not count at once, either.
    snippet.edit({"a.txt": b"edited again\n"})
    place.simulator.order(Fault("/snippets/acme/kypj/*", status=status, times=1000))
    place.clock.elapsed += DAY
    assert (await place.run()).exit_code == 3
    await sound(place)


async def test_one_that_is_deleted_while_git_refused_it_is_no_longer_a_fault(place: Place) -> None:
    await place.run()
    place.acme.snippets["kypj"].edit({"a.txt": b"edited\n"})
    place.simulator.order(Fault("/snippets/acme/kypj/*", status=404, times=1000))
    place.clock.elapsed += DAY
    assert (await place.run()).exit_code == 3
    del place.acme.snippets["kypj"]
    place.clock.elapsed += 2 * DAY
    run = await place.run()
    assert (run.exit_code, part(run).counts["mirrors"]) == (0, 3)


async def test_trouble_with_one_stops_no_other_and_it_is_tried_again(place: Place) -> None:
    place.simulator.order(Fault("/snippets/acme/kypj/*", status=500, times=50))
    run = await place.run()
    assert (run.exit_code, str(part(run).state)) == (75, "partial")
    assert len(home(place).metadata.mirrors(_latest(place))) == 2
    place.simulator.faults.clear()
    asked(place)
    run = await place.run()
    assert (run.exit_code, str(part(run).state), asked(place)) == (0, "complete", ["kypj"])
    await sound(place)


async def test_a_sign_in_that_is_refused_before_the_snippets_is_told_as_such(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: object) -> None:
        raise CredentialRefused("the sign-in server refused the credential")

    with monkeypatch.context() as patched:
        patched.setattr("mirror.backup.git.snippets.login_for_git", refused)
        run = await place.run()
    assert (run.exit_codes, str(part(run).state)) == ((12,), "partial")
    run = await place.run()
    assert (run.exit_code, part(run).counts["mirrors"]) == (0, 3)


async def test_a_bug_met_with_one_stops_no_other_and_is_told_as_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*given: Any, mirror: str, **more: Any) -> Any:
        if mirror == "snippets/kypj":
            raise KeyError("values")
        return await fetch_if_there(*given, mirror=mirror, **more)

    with monkeypatch.context() as patched:
        patched.setattr("mirror.backup.git.snippets.fetch_if_there", broken)
        run = await place.run()
    assert (run.exit_code, str(part(run).state)) == (3, "partial")
    assert part(run).reason == "snippets/kypj: unexpected KeyError: 'values'; please report it"
    assert len(home(place).metadata.mirrors(_latest(place))) == 2
    with place.store() as store:
        last = store.last_run("backup")
    assert last is not None and last.data["id"] == run.id
    asked(place)
    run = await place.run()
    assert (run.exit_code, asked(place)) == (0, ["kypj"])
    await sound(place)


def _latest(place: Place) -> Snapshot:
    latest = home(place).metadata.latest()
    assert latest is not None
    return latest


async def test_no_access_token_can_have_them_and_that_is_no_failure(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        run = await place.run()
        assert (run.exit_code, str(part(run).state)) == (0, "unavailable")
        assert asked(place) == [] and not home(place).mirrors()


async def test_killed_before_the_snapshot_they_are_fetched_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def killed(*_: object, **__: object) -> None:
            raise Killed

        patched.setattr("mirror.store.writing.folder_writer.FolderWriter._commit", killed)
        with pytest.raises(BaseExceptionGroup):
            await place.run()
    run = await place.run()
    assert (run.exit_code, part(run).counts["mirrors"]) == (0, 3)
    assert len(home(place).metadata.mirrors(_latest(place))) == 3
    await sound(place)


async def test_the_packs_of_one_that_was_edited_often_are_joined(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.maintenance_limits = MaintenanceLimits(packs=1)
    await place.run()
    snippet = place.acme.snippets["kYpJ"]
    snippet.edit({"a.txt": b"edited\n"})
    place.clock.elapsed += 2 * DAY
    run = await place.run()
    [(name, facts)] = entry(run).facts["upkeep"].items()
    assert home(place).mirror(name) == mirror_of(place, snippet)
    assert facts == {"joined": 2, "removed": 0, "graph": False}
    place.clock.elapsed += 7 * DAY
    run = await place.run()
    assert entry(run).facts["upkeep"] == {name: {"joined": 0, "removed": 2, "graph": False}}
    assert len(packs(mirror_of(place, snippet))) == 1
    await sound(place)
