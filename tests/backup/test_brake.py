"""The mass-loss brake: what was lost upstream stays in the store until it is back or somebody accepts the
loss, wherever the folder is, however the loss is spread, and whatever runs at the same time."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror import backup, prune, verify
from mirror.config import load
from mirror.fs.durable import write_file
from mirror.model import Run, Selector
from mirror.simulator import Simulator, World
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES
from mirror.store.format.brake import Brake, Count, Rules
from mirror.store.format.seal import sealed
from mirror.store.reading.reader import RepositoryFolder
from mirror.store.writing.writer import create_or_open
from tests.e2e.helpers import MADE
from tests.place import Killed, Place

run_module = importlib.import_module("mirror.backup.visits")
RULES = "retention: {keep_last: 1}\nbrake: {share: 10%, at_least: 5}\n"


def write_both(folder: Path, simulator: Simulator, tokens: dict[str, str], order: tuple[str, ...]) -> Path:
    """A configuration of several workspaces, in this order."""
    lines = [
        "store: store",
        "bitbucket:",
        f"  api_url: '{simulator.api_url}'",
        f"  git_url: '{simulator.git_url}'",
        f"  oauth_url: '{simulator.oauth_url}'",
        "workspaces:",
    ]
    for name in order:
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(tokens[name])
        lines += [
            f"  - workspace: {name}",
            f"    credential: {{kind: workspace_access_token, token: {{file: {name}}}}}",
        ]
    path = folder / "config.yaml"
    path.write_text("\n".join(lines) + "\n" + RULES)
    create_or_open(folder / "store", now=MADE).close()
    return path


class Two(Place):
    """The workspaces acme and beta, backed up in either order."""

    def __init__(self, folder: Path, simulator: Simulator, tokens: dict[str, str]) -> None:
        self.tokens = tokens
        super().__init__(folder, simulator, load(write_both(folder, simulator, tokens, ("acme", "beta"))))
        self.beta = self.world.workspaces["beta"]

    def order(self, *names: str) -> None:
        self.config = load(write_both(self.folder, self.simulator, self.tokens, names))

    async def prune(self, *selectors: str) -> Run:
        self.clock.elapsed += 60
        chosen = [Selector.parse(text) for text in selectors]
        return await prune.prune(self.config, chosen, clock=self.clock, environment=os.environ)

    async def accept(self, selector: str) -> Run:
        self.clock.elapsed += 60
        return await prune.accept_loss(
            self.config.store, Selector.parse(selector), by="ann", clock=self.clock
        )

    def folder_of(self, name: str) -> RepositoryFolder:
        with self.store() as store:
            return store.repository(Selector.parse(name))

    def snapshots(self, name: str) -> list[str]:
        return list(self.folder_of(name).metadata.tags())


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    world = World(tmp_path / "upstream")
    tokens = {}
    for name in ("acme", "beta"):
        world.add_workspace(name).add_repository("quiet").commit("main", {"a": b"1"}, "Begin\n")
        tokens[name] = world.add_workspace_access_token(name, SCOPES)
    with Simulator(world) as simulator:
        yield Two(tmp_path, simulator, tokens)


def with_branches(place: Place, name: str, count: int) -> SimRepository:
    """A repository of acme with a main branch and `count` others."""
    made = place.acme.add_repository(name)
    tip = made.commit("main", {"a": name.encode()}, "Begin\n")
    for number in range(count):
        made.set_ref(b"refs/heads/topic-%d" % number, tip)
    return made


def lose(repository: SimRepository, *numbers: int) -> dict[bytes, str]:
    """Delete branches; returns them with their values."""
    names = [b"refs/heads/topic-%d" % number for number in numbers]
    lost = {name: repository.refs()[name] for name in names}
    for name in names:
        repository.delete_ref(name)
    return lost


def outcomes(run: Run) -> dict[str, str]:
    return {entry.full_name: str(entry.outcome) for entry in run.entries if entry.kind == "repository"}


async def sound(place: Place) -> None:
    run = await verify.run(place.config.store, clock=place.clock, environment=os.environ)
    assert run.facts["findings"] == []


@pytest.mark.parametrize("order", [("acme", "beta"), ("beta", "acme")], ids=" before ".join)
async def test_a_transferred_repository_is_judged_where_it_is_now(two: Two, order: tuple[str, ...]) -> None:
    two.order(*order)
    shop = with_branches(two, "shop", 19)
    assert (await two.run()).exit_code == 0
    two.acme.transfer_repository("shop", two.beta)
    for _ in range(3):
        run = await two.run()
        assert (run.exit_code, set(outcomes(run))) == (0, {"acme/quiet", "beta/quiet", "beta/shop"})
    lose(shop, *range(19))
    tripped = await two.run()
    assert tripped.exit_code == 5
    told = [problem.text for entry in tripped.entries for problem in entry.problems]
    assert any("beta/shop: refs fell from 20 to 1" in text for text in told), told
    ids = two.snapshots("beta/shop")
    pruned = await two.prune()
    assert pruned.exit_code == 5
    assert two.snapshots("beta/shop") == ids
    codes = {one.full_name: [problem.code for problem in one.problems] for one in pruned.entries}
    assert (codes["beta/shop"], codes["beta/quiet"], codes["acme/quiet"]) == ([5], [5], [])
    await two.accept("beta")
    assert (await two.run()).exit_code == 0
    assert (await two.prune()).exit_code == 0
    assert len(two.snapshots("beta/shop")) == 1
    await sound(two)


@pytest.mark.parametrize("left", [1, 0], ids=["some branches", "all branches"])
async def test_many_small_losses_add_up(two: Two, left: int) -> None:
    several = [with_branches(two, f"small-{number}", 3) for number in range(8)]
    assert (await two.run()).exit_code == 0
    for one in several:
        lose(one, 0, 1, 2)
        if not left:
            one.delete_ref(b"refs/heads/main")
    run = await two.run()
    assert run.exit_code == 5
    assert any("acme: refs fell from 33 to" in problem.text for problem in run.problems)
    in_each = [entry for entry in run.entries if any(problem.code == 5 for problem in entry.problems)]
    assert len(in_each) == (0 if left else 8), "a repository that had refs and has none trips its own brake"
    ids = two.snapshots("acme/small-0")
    pruned = await two.prune()
    assert pruned.exit_code == 5
    assert two.snapshots("acme/small-0") == ids
    assert {str(one.outcome) for one in pruned.entries if one.full_name.startswith("acme")} == {"kept"}
    # The loss stays until somebody accepts it, however old it becomes.
    two.clock.elapsed += 20 * 86400
    several[0].commit("main", {"b": b"2"}, "More\n", parents=())
    assert (await two.run()).exit_code == 5
    await two.accept("acme")
    assert (await two.run()).exit_code == 0
    assert (await two.prune()).exit_code == 0
    await sound(two)


async def test_what_came_back_by_name_and_value_releases_the_brake(two: Two) -> None:
    shop = with_branches(two, "shop", 10)
    assert (await two.run()).exit_code == 0
    lost = lose(shop, *range(10))
    assert (await two.run()).exit_code == 5
    other = shop.commit("main", {"b": b"2"}, "More\n", parents=())
    for name in lost:
        shop.set_ref(name, other)
    assert (await two.run()).exit_code == 5, "the names are there, but not what they stood for"
    for name, value in list(lost.items())[1:]:
        shop.set_ref(name, value)
    assert (await two.run()).exit_code == 5, "one is still missing"
    for name, value in lost.items():
        shop.set_ref(name, value)
    run = await two.run()
    assert run.exit_code == 0
    [release] = two.folder_of("acme/shop").brake().releases
    assert (release.by, release.loss.was, release.at) == (None, 11, two.clock.now())
    with two.store() as store:
        [one] = store.workspaces([Selector.parse("acme")])[0].brake().releases
        assert one.by is None
    assert (await two.prune()).exit_code == 0
    await sound(two)


async def test_a_list_that_is_empty_for_a_while_needs_no_hand(two: Two) -> None:
    for number in range(8):
        two.acme.add_repository(f"extra-{number}")
    assert (await two.run()).exit_code == 0
    gone = [two.acme.delete_repository(f"extra-{number}") for number in range(8)]
    run = await two.run()
    assert run.exit_code == 5
    assert any("acme: repositories fell from 9 to 1" in problem.text for problem in run.problems)
    for one in gone[1:]:
        two.acme.restore(one)
    assert (await two.run()).exit_code == 5
    two.acme.restore(gone[0])
    assert (await two.run()).exit_code == 0


async def test_accepting_under_a_clock_that_is_ahead_accepts_no_later_loss(two: Two) -> None:
    two.order("acme")
    for number in range(16):
        two.acme.add_repository(f"extra-{number}")
    assert (await two.run()).exit_code == 0
    for number in range(8):
        two.acme.delete_repository(f"extra-{number}")
    years = 10 * 365 * 86400
    two.clock.elapsed += years
    assert (await two.run()).exit_code == 5
    await two.accept("acme")
    assert (await two.run()).exit_code == 3
    two.clock.elapsed -= years
    for number in range(8, 16):
        two.acme.delete_repository(f"extra-{number}")
    run = await two.run()
    assert run.exit_code == 5
    assert any("repositories fell from" in problem.text for problem in run.problems)
    await two.accept("acme")
    for _ in range(3):
        two.clock.elapsed += 86400
        run = await two.run()
    assert set(outcomes(run).values()) == {"confirmed", "gone"}, "however far ahead it was first missed"


async def test_accepting_one_repository_leaves_the_others(two: Two) -> None:
    shops = [with_branches(two, f"shop-{number}", 10) for number in range(2)]
    assert (await two.run()).exit_code == 0
    for shop in shops:
        lose(shop, *range(10))
    assert (await two.run()).exit_code == 5
    run = await two.accept("acme/shop-0")
    assert outcomes(run) == {"acme/shop-0": "accepted"}
    again = await two.run()
    assert again.exit_code == 5
    codes = {entry.full_name: [one.code for one in entry.problems] for entry in again.entries}
    assert (codes["acme/shop-0"], codes["acme/shop-1"]) == ([], [5])
    await two.accept("acme/shop-1")
    assert (await two.run()).exit_code == 0
    [release] = two.folder_of("acme/shop-0").brake().releases
    assert (release.by, str(release.loss)) == ("ann", "acme/shop-0: refs fell from 11 to 1")


async def prunes_during(two: Two, monkeypatch: pytest.MonkeyPatch, *, kill: bool = False) -> list[Run]:
    """Run prune after all repositories of a workspace had their turn and before the end of the run."""
    pruned: list[Run] = []
    original: Callable[..., Awaitable[Any]] = run_module.backup_workspace

    async def meanwhile(*args: Any) -> Any:
        pruned.append(await two.prune("acme"))
        if kill:
            raise Killed()
        return await original(*args)

    monkeypatch.setattr(run_module, "backup_workspace", meanwhile)
    return pruned


async def test_prune_beside_a_backup_takes_nothing(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    several = [with_branches(two, f"small-{number}", 3) for number in range(4)]
    big = with_branches(two, "big", 12)
    assert (await two.run()).exit_code == 0
    for one in several:
        lose(one, 0, 1)
    lose(big, *range(12))
    ids = {name: two.snapshots(f"acme/{name}") for name in ("small-0", "big", "quiet")}
    pruned = await prunes_during(two, monkeypatch)
    assert (await two.run()).exit_code == 5
    monkeypatch.undo()
    codes = {one.full_name: [problem.code for problem in one.problems] for one in pruned[0].entries}
    assert (codes["acme/big"], codes["acme/small-0"], codes["acme/quiet"]) == ([5], [11], [11])
    assert {str(entry.outcome) for entry in pruned[0].entries} == {"kept"}
    for name, before in ids.items():
        assert set(before) <= set(two.snapshots(f"acme/{name}"))
    assert (await two.prune("acme")).exit_code == 5


async def test_after_a_killed_backup_prune_waits_for_one_that_ends(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [with_branches(two, f"small-{number}", 3) for number in range(4)]
    assert (await two.run()).exit_code == 0
    for one in several:
        lose(one, 0, 1)
    pruned = await prunes_during(two, monkeypatch, kill=True)
    with pytest.raises(Killed):
        await two.run()
    monkeypatch.undo()
    assert pruned[0].exit_code == 11
    # The killed run saved everything, but did not compute the sum, however long ago that was.
    two.clock.elapsed += 30 * 86400
    held = await two.prune()
    assert held.exit_code == 11
    assert any("was interrupted" in problem.text for one in held.entries for problem in one.problems)
    assert len(two.snapshots("acme/small-0")) == 2
    again = await two.run()
    assert again.exit_code == 5
    assert any("acme: refs fell from" in problem.text for problem in again.problems)
    assert (await two.prune()).exit_code == 5
    await two.accept("acme")
    assert (await two.prune()).exit_code == 0


async def test_after_a_killed_backup_prune_does_not_wait_for_what_can_no_longer_be_reached(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.order("acme")
    assert (await two.run()).exit_code == 0
    await prunes_during(two, monkeypatch, kill=True)
    with pytest.raises(Killed):
        await two.run()
    monkeypatch.undo()
    (two.folder / "acme").write_text("revoked")
    [entry] = two.config.workspaces
    two.config = replace(two.config, workspaces=(replace(entry, exclude=("quiet",)),))
    assert (await two.prune()).exit_code == 11
    assert (await two.run()).exit_code == 12
    assert (await two.prune()).exit_code == 0


async def test_a_loss_in_a_run_that_was_killed_is_found_by_the_next(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = with_branches(two, "shop", 10)
    assert (await two.run()).exit_code == 0
    lose(shop, *range(10))
    original = backup.turn.note_fetched

    def dies(*args: Any) -> None:
        if len(args[2].refs.refs) == 1 and "shop" in str(args[0].repository.full_name):
            raise Killed
        original(*args)

    monkeypatch.setattr(backup.turn, "note_fetched", dies)
    with pytest.raises((Killed, BaseExceptionGroup)):
        await two.run()
    monkeypatch.undo()
    assert (await two.run()).exit_code == 5


async def test_the_brake_of_an_older_version_still_holds(two: Two) -> None:
    assert (await two.run()).exit_code == 0
    with two.store() as store:
        workspace = store.workspaces([Selector.parse("acme")])[0]
        uuid = store.repository(Selector.parse("acme/quiet")).uuid
    loss = {
        "repository": uuid, "what": "refs", "name": "acme/quiet", "was": 20, "now": 1,
        "at": "2026-11-22T02:00:00Z",
    }  # fmt: skip
    old = {
        "schema": 1,
        "accepted": [{"repository": uuid, "what": "refs", "count": 20, "at": "2026-11-22T02:00:00Z"},
                     {"repository": "", "what": "repositories", "count": 1, "at": "2026-11-22T02:00:00Z"}],
        "losses": [loss],
        "acceptances": [{"loss": {**loss, "was": 40}, "by": "bob", "at": "2026-11-21T02:00:00Z"}],
    }  # fmt: skip
    write_file(two.config.store / workspace.place / "brake.json", sealed(old))
    run = await two.run()
    assert run.exit_code == 5
    assert any("acme/quiet: refs fell from 20 to 1" in problem.text for problem in run.problems)
    assert (await two.prune()).exit_code == 5
    await two.accept("acme/quiet")
    assert (await two.run()).exit_code == 0
    releases = json.loads((two.config.store / workspace.place / "brake.json").read_text())["releases"]
    assert [one["by"] for one in releases] == ["bob", "ann"]
    await sound(two)


async def test_a_brake_that_cannot_be_read_counts_as_tripped(two: Two) -> None:
    shop = with_branches(two, "shop", 10)
    assert (await two.run()).exit_code == 0
    lost = lose(shop, *range(10))
    assert (await two.run()).exit_code == 5
    path = two.config.store / two.folder_of("acme/shop").place / "brake.json"
    path.write_text("{")
    for name, value in lost.items():
        shop.set_ref(name, value)
    run = await two.run()
    assert run.exit_code == 4
    assert outcomes(run)["acme/shop"] == "saved"
    assert (await two.prune()).exit_code == 4
    assert len(two.snapshots("acme/shop")) == 3
    await two.accept("acme/shop")
    await two.accept("acme")
    assert (await two.run()).exit_code == 0
    assert (await two.prune()).exit_code == 0


async def test_branches_that_come_and_go_do_not_trip_it(two: Two) -> None:
    shop = with_branches(two, "shop", 30)
    assert (await two.run()).exit_code == 0
    for number in range(8):
        lose(shop, number)
        shop.set_ref(b"refs/heads/topic-%d" % (number + 30), shop.refs()[b"refs/heads/main"])
        two.clock.elapsed += 6 * 3600
        assert (await two.run()).exit_code == 0


async def test_a_slow_loss_adds_up_within_a_week(two: Two) -> None:
    shop = with_branches(two, "shop", 30)
    assert (await two.run()).exit_code == 0
    codes = []
    for number in range(6):
        lose(shop, number)
        two.clock.elapsed += 86400
        codes.append((await two.run()).exit_code)
    assert codes == [0, 0, 0, 0, 5, 5]


@pytest.mark.parametrize("spread", [False, True], ids=["one repository", "many small ones"])
async def test_most_branches_replaced_at_once_trip_it(two: Two, spread: bool) -> None:
    counts = [3] * 4 if spread else [12]
    several = [with_branches(two, f"shop-{number}", count) for number, count in enumerate(counts)]
    assert (await two.run()).exit_code == 0
    gone = [lose(one, *range(count)) for one, count in zip(several, counts, strict=True)]
    for one, count in zip(several, counts, strict=True):
        other = one.commit("main", {"b": b"2"}, "Other\n", parents=())
        for number in range(count + 2):
            one.set_ref(b"refs/heads/other-%d" % number, other)
    run = await two.run()
    assert run.exit_code == 5
    assert any("vanished at once, while others were added" in text for text in told_by(run)), told_by(run)
    assert (await two.prune()).exit_code == 5
    two.clock.elapsed += 20 * 86400
    assert (await two.run()).exit_code == 5, "it stands until somebody accepts it"
    for one, lost in zip(several, gone, strict=True):
        for name, value in lost.items():
            one.set_ref(name, value)
    assert (await two.run()).exit_code == 0, "all is back"


def told_by(run: Run) -> list[str]:
    """The problems that a run reports."""
    return [one.text for one in (*run.problems, *(one for entry in run.entries for one in entry.problems))]


RULE = Rules(0.1, 5)
BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def step(brake: Brake, names: set[str], then: set[str], day: float) -> Brake:
    """The brake after a run that found `then`, while the last snapshot has `names`."""
    lost: dict[str, str | None] = dict.fromkeys(names - then, "0")
    count = Count("refs", len(names), len(then), lost, lambda one: one.name in then)
    return brake.seen(count, RULE, name="acme/shop", now=BEGAN + timedelta(days=day), hold=False)


def test_a_loss_counts_for_a_week_from_when_it_was_seen_however_rare_runs_are() -> None:
    names = {str(number) for number in range(40)}
    brake = step(Brake(), names, names - {"0"}, 0)
    names = names - {"0"}
    for day in (10, 20):  # nothing happens, and the loss is accepted
        brake = step(brake, names, names, day)
    assert (brake.lost, brake.accepted["refs"].count) == ((), 39)
    brake = step(brake, names, names - {"1", "2", "3"}, 30)
    now = BEGAN + timedelta(days=30)
    assert brake.shrunk_by("refs", now, hold=False) == 3, "it is new, however old the last count is"
    names -= {"1", "2", "3"}
    assert not brake.losses
    assert step(brake, names, names - {"4", "5"}, 36).losses
    assert not step(brake, names, names - {"4", "5"}, 38).losses


def test_a_clock_that_was_ahead_keeps_no_loss_young() -> None:
    names = {str(number) for number in range(40)}
    brake = step(Brake(), names, names - {"0"}, 5000)
    names = names - {"0"}
    brake = step(brake, names, names, 1)
    assert len(brake.lost) == 1
    assert step(brake, names, names, 9).lost == ()


def test_a_week_of_branches_that_are_merged_and_replaced_does_not_trip_it() -> None:
    brake, names, number = Brake(), {str(number) for number in range(12)}, 12
    for day in range(14):
        old = sorted(names, key=int)[:4]
        then = (names - set(old)) | {str(number + one) for one in range(4)}
        brake, number = step(brake, names, then, day), number + 4
        names = then
        assert not brake.losses


def test_a_file_is_not_written_again_where_nothing_changes() -> None:
    names = {str(number) for number in range(12)}
    brake = step(Brake(), names, {*names, "new"} - {"0"}, 0)
    names = {*names, "new"} - {"0"}
    brake = step(brake, names, names, 1)
    assert step(brake, names, names, 2) == brake
