"""The simulated Bitbucket of a drill has the people of the original, and nothing else."""

from __future__ import annotations

from pathlib import Path

from mirror.bitbucket import endpoints
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.lists import all_of
from mirror.bitbucket.people import accounts_in, groups_in
from mirror.cli.system import SystemClock
from mirror.config.settings import Limits
from mirror.connect import client_of
from mirror.drill.originals import choose
from mirror.drill.upstream import Members, simulated
from mirror.store.reading.reader import Store
from tests.drill.sample import whole_store

ANN = "{7816c190-1c48-5f5c-bd9b-8bc8272f8fcd}"


async def test_it_is_empty_but_for_the_people(tmp_path: Path) -> None:
    members = Members({ANN: "Ann Archer"}, {"developers": "Developers"})
    with simulated(tmp_path, "acme", members, {}, Limits(git_workers=1)) as upstream:
        [entry], clock = upstream.config.workspaces, SystemClock()
        async with client_of(
            upstream.config, entry, clock=clock, environment=upstream.environment, budget=Budget(clock)
        ) as client:
            people = accounts_in(await all_of(client, endpoints.MEMBERS, None, workspace="acme"))
            repositories = await all_of(client, endpoints.REPOSITORIES, None, workspace="acme")
            granted = await all_of(client, endpoints.WORKSPACE_HOOKS, None, workspace="acme")
    assert people[ANN] == "Ann Archer" and sorted(people.values()) == ["Ann Archer", "Drill"]
    assert repositories == granted == []
    # The hour's limit of the real API must not stop a drill half-way.
    assert upstream.config.limits.api_limit == 1_000_000 and upstream.config.limits.api_reserve == 0
    assert upstream.config.limits.git_workers == 1


def test_the_people_are_those_of_the_original() -> None:
    with Store.open(whole_store()) as store:
        [chosen] = choose(store, [])
        members = chosen.members()
    assert sorted(members.users.values()) == ["Ann Archer", "Bob Baker", "Eve Eng"]
    assert dict(members.groups) == {"developers": "Developers"}
    assert groups_in([{"type": "group", "slug": "a"}]) == {"a": "a"}
