"""Where the credential of a client stands in the configuration, as its budget reports it."""

from __future__ import annotations

from pathlib import Path

from mirror.bitbucket import endpoints
from mirror.bitbucket.client.budget import Budget
from mirror.config import load, load_text
from mirror.connect import client_of
from mirror.connect.clients import place_of
from mirror.simulator import Simulator, World
from tests.clock import FakeClock
from tests.e2e.helpers import write_config

TEXT = """
store: store
credential: {kind: workspace_access_token, token: {env: ONE}}
workspaces:
  - workspace: a
  - workspace: b
    credential: {kind: workspace_access_token, token: {env: TWO}}
  - workspace: c
    credentials:
      - {kind: workspace_access_token, token: {env: TWO}}
      - {kind: workspace_access_token, token: {env: THREE}}
"""


def test_a_credential_is_named_by_its_first_place(tmp_path: Path) -> None:
    config = load_text(TEXT, "config.yaml", folder=tmp_path)
    places = [[place_of(config, one) for one in entry.credentials] for entry in config.workspaces]
    assert places == [
        ["credential"],
        ["workspaces[1].credential"],
        ["workspaces[1].credential", "workspaces[2].credentials[1]"],
    ]


async def test_the_budget_of_a_client_is_reported_under_its_place(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    world.add_workspace("acme")
    token = world.add_workspace_access_token("acme", {"account"})
    clock = FakeClock()
    budget = Budget(clock, limit=1000)
    with Simulator(world) as simulator:
        config = load(write_config(tmp_path, simulator, token))
        async with client_of(
            config, config.workspaces[0], clock=clock, environment={}, budget=budget
        ) as client:
            await client.get(endpoints.WORKSPACE, workspace="acme")
    [told] = budget.report()
    assert (told.credential, told.group, told.used) == ("workspaces[0].credential", "api", 1)
