"""Retention, the brake and erasure with the installed command: what it prints, asks and leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from tests.e2e.helpers import json_of, mirror, write_config
from tests.git.backend import need_git

pytestmark = pytest.mark.git


@pytest.fixture
def world(tmp_path: Path) -> World:
    need_git()
    world = World(tmp_path / "upstream")
    shop = world.add_workspace("acme").add_repository("shop")
    tip = shop.commit("main", {"a.txt": b"1\n"}, "Begin\n")
    for number in range(10):
        shop.set_ref(b"refs/heads/topic-%d" % number, tip)
    ann = world.add_user("Ann Archer", "ann@acme.example")
    shop.commit("wip", {"b.txt": b"1\n"}, "Work\n", parents=[tip])
    shop.open_pull_request(source="wip", title="Work", author=ann).comment("Secret words", author=ann)
    return world


@pytest.fixture
def config(world: World, tmp_path: Path) -> Iterator[str]:
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        more = "retention: {keep_last: 1}\nbrake: {share: 10%, at_least: 5}\n"
        yield str(write_config(tmp_path, simulator, token, more=more))


def test_prune_tells_what_goes_and_then_does_it(world: World, config: str) -> None:
    shop = world.workspaces["acme"].repositories["shop"]
    for number in range(3):
        shop.commit("main", {"a.txt": b"%d\n" % number}, "More\n", parents=())
        assert mirror("backup", "-c", config).returncode == 0
    foretold = mirror("prune", "-c", config, "--dry-run")
    assert foretold.returncode == 0
    assert "acme/shop: 1 kept, 2 to drop" in foretold.stdout
    assert "2 snapshots would be removed" in foretold.stdout
    listed = json_of(mirror("snapshots", "acme/shop", "-c", config, "--json"))
    assert len(listed["snapshots"]) == 3
    done = mirror("prune", "-c", config, "--json")
    assert (done.returncode, json_of(done)["facts"]["dropped"]) == (0, 2)
    assert len(json_of(mirror("snapshots", "acme/shop", "-c", config, "--json"))["snapshots"]) == 1
    assert mirror("verify", "-c", config).returncode == 0


def test_prune_without_retention_is_refused(world: World, config: str) -> None:
    path = Path(config)
    path.write_text(path.read_text().replace("retention: {keep_last: 1}\n", ""))
    assert mirror("backup", "-c", config).returncode == 0
    refused = mirror("prune", "-c", config)
    assert refused.returncode == 2
    assert "no retention is configured" in refused.stderr


def test_the_brake_holds_until_somebody_accepts(world: World, config: str) -> None:
    assert mirror("backup", "-c", config).returncode == 0
    shop = world.workspaces["acme"].repositories["shop"]
    for number in range(10):
        shop.delete_ref(b"refs/heads/topic-%d" % number)
    tripped = mirror("backup", "-c", config)
    assert tripped.returncode == 5
    assert "refs fell from" in tripped.stdout
    assert mirror("prune", "-c", config).returncode == 5
    stands = mirror("status", "-c", config)
    assert "acme/shop: lost much upstream: refs fell from" in stands.stdout
    assert "to be looked at" not in stands.stdout, "it is told once"
    assert json_of(mirror("status", "-c", config, "--json"))["losses"]
    accepted = mirror("accept-loss", "acme/shop", "-c", config)
    assert accepted.returncode == 0
    assert "accepted: acme/shop: refs fell from" in accepted.stdout
    assert "no loss to accept" in mirror("accept-loss", "acme/shop", "-c", config).stdout
    assert mirror("backup", "-c", config).returncode == 0
    assert mirror("prune", "-c", config).returncode == 0


def test_erasing_asks_and_what_is_erased_stays_away(world: World, config: str, tmp_path: Path) -> None:
    assert mirror("backup", "-c", config).returncode == 0
    what = ("erase", "acme/shop", "--document", "pull-requests/1", "--reason", "Somebody asked")
    unasked = mirror(*what, "-c", config)
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    assert "Secret words" in mirror("show", "acme/shop", "pull-requests/1", "-c", config).stdout
    done = mirror(*what, "-c", config, "--yes")
    assert done.returncode == 0, done.stderr
    assert "from Bitbucket, yourself" in done.stdout
    for _ in range(2):
        shown = mirror("show", "acme/shop", "pull-requests/1", "-c", config).stdout
        assert "Somebody asked" in shown
        assert "Secret words" not in shown
        assert mirror("backup", "-c", config).returncode == 0
    assert mirror("verify", "-c", config).returncode == 0
    assert mirror(*what, "-c", config, "--yes").returncode == 0, "it may be asked for again"
    assert mirror("show", "acme/shop", "pull-requests/1", "-c", config).stdout == shown
    unknown = mirror(*what[:3], "pull-requests/7", *what[4:], "-c", config, "--yes")
    assert (unknown.returncode, "nothing was changed" in unknown.stderr) == (2, True)
    restored = mirror("restore", "acme/shop", "-c", config, "--to", str(tmp_path / "back"))
    assert restored.returncode == 0, restored.stderr


def test_verify_takes_shares_the_longest_ago_first(world: World, config: str) -> None:
    for name in ("api", "docs"):
        world.workspaces["acme"].add_repository(name).commit("main", {"a": b"1"}, "Begin\n")
    assert mirror("backup", "-c", config).returncode == 0
    seen: set[str] = set()
    for _ in range(2):
        done = json_of(mirror("verify", "--share", "1/2", "-c", config, "--json"))
        assert done["facts"]["share"] == "2 of 4 folders"
        verified = json_of_file(Path(config).parent / "store" / "cache" / "verified.json")
        seen |= set(verified["folders"])
    assert len(seen) == 4
    assert mirror("verify", "--share", "0", "-c", config).returncode == 2


def json_of_file(path: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(path.read_text())
    return found
