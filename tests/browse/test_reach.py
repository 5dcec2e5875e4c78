"""`mirror status` distinguishes what is missing from what nobody can get, and reports both correctly."""

from __future__ import annotations

from pathlib import Path

from mirror import browse
from mirror.config import load
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import mirror, write_config
from tests.place import Place


async def stand(folder: Path, scopes: frozenset[str], *, more: str = "") -> tuple[int, browse.Status]:
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", scopes)
    with Simulator(world) as simulator:
        place = Place(folder, simulator, load(write_config(folder, simulator, token, more=more)))
        run = await place.run()
    return run.exit_code, browse.status(place.config.store)


async def test_with_the_best_token_nothing_is_missing_and_what_it_cannot_see_is_told(tmp_path: Path) -> None:
    code, found = await stand(tmp_path, frozenset(SCOPES))
    assert code == 0
    assert {name: one.missing for one in found.repositories for name in [one.name] if one.missing} == {}
    [website] = [one for one in found.repositories if one.name == "acme/website"]
    assert set(website.out_of_reach) == {"settings", "issues", "wiki"}
    assert website.out_of_reach["issues"].startswith("gone: ")
    assert "unavailable: groups' permissions, users' permissions" in website.out_of_reach["settings"]
    [acme] = found.workspaces
    assert not acme.missing
    assert acme.out_of_reach["snippets"].startswith("unavailable: ")
    assert "repository permissions" in acme.out_of_reach["settings"]
    shown = mirror("status", "--store", str(tmp_path / "store")).stdout
    table, _, beyond = shown.partition("Not available, which is no failure:")
    rows = [line for line in table.splitlines() if line.startswith("acme/")]
    assert rows and all(line.split()[-1] == "-" for line in rows)
    lines = [line for line in beyond.splitlines() if line.startswith("  ")]
    # One line for all of them, not one for each.
    assert sum("issues: gone" in line for line in lines) == 1
    assert any(line.startswith("  snippets: unavailable: ") for line in lines)


async def test_what_a_better_credential_could_have_is_missing_with_its_scope(tmp_path: Path) -> None:
    code, found = await stand(tmp_path, frozenset(SCOPES) - {"pipeline"})
    assert code == 3
    [website] = [one for one in found.repositories if one.name == "acme/website"]
    assert website.missing["pipelines"].startswith("denied: ")
    assert "pipeline" in website.missing["pipelines"]
    assert set(website.missing) == {"pipelines", "pipeline_logs", "settings"}
    shown = mirror("status", "--store", str(tmp_path / "store")).stdout
    [line] = [line for line in shown.splitlines() if line.startswith("acme/website ")]
    assert "pipelines (denied)" in line
