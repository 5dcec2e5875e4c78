"""The simulator is strict where Bitbucket is."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.sample import SCOPES, populate
from tests.git.backend import git, need_git

REPOSITORY = "/repositories/acme/website"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "world")
    populate(made)
    return made


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    with Simulator(world) as running:
        yield running


def get(simulator: Simulator, path: str, authorization: str) -> httpx.Response:
    return httpx.get(simulator.api_url + path, headers={"Authorization": authorization})


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def test_each_kind_of_credential_has_its_own_scheme(simulator: Simulator, world: World) -> None:
    ann = world.users["ann@acme.example"]
    access = world.add_workspace_access_token("acme", SCOPES)
    api = world.add_api_token(ann, {"read:repository:bitbucket", "read:user:bitbucket"})
    password = world.add_app_password(ann, SCOPES)
    statuses = {
        "bearer access": get(simulator, REPOSITORY, f"Bearer {access}").status_code,
        "basic access": get(simulator, REPOSITORY, basic("x-token-auth", access)).status_code,
        "basic api": get(simulator, REPOSITORY, basic(ann.email, api)).status_code,
        "bearer api": get(simulator, REPOSITORY, f"Bearer {api}").status_code,
        "api without name": get(simulator, REPOSITORY, basic("", api)).status_code,
        "app password": get(simulator, REPOSITORY, basic(ann.email, password)).status_code,
        "nobody": httpx.get(simulator.api_url + REPOSITORY).status_code,
    }
    assert statuses == {
        "bearer access": 200, "basic access": 401, "basic api": 200, "bearer api": 401,
        "api without name": 401, "app password": 401, "nobody": 404,
    }  # fmt: skip


@pytest.mark.git
def test_git_takes_each_kind_with_its_own_user_name(
    simulator: Simulator, world: World, tmp_path: Path
) -> None:
    need_git()
    ann = world.users["ann@acme.example"]
    access = world.add_workspace_access_token("acme", SCOPES)
    api = world.add_api_token(ann, {"read:repository:bitbucket"})

    def clones(name: str, secret: str) -> bool:
        url = simulator.git_url.replace("://", f"://{name}:{secret}@") + "/acme/website.git"
        target = tmp_path / f"{name}-{secret[:4]}-{len(list(tmp_path.iterdir()))}"
        try:
            git("clone", "-q", "--mirror", url, str(target))
        except AssertionError:
            return False
        return git("fsck", "--strict", cwd=target) == ""

    assert clones("x-token-auth", access)
    assert clones("x-bitbucket-api-token-auth", api)
    assert not clones("x-token-auth", api)
    assert not clones("x-bitbucket-api-token-auth", access)
    assert not clones("ann", "wrong")


def test_a_missing_scope_is_named(simulator: Simulator, world: World) -> None:
    token = world.add_workspace_access_token("acme", {"repository"})
    answer = get(simulator, REPOSITORY + "/pipelines/", f"Bearer {token}")
    assert answer.status_code == 403
    assert answer.json()["error"]["detail"] == {"required": ["pipeline"], "granted": ["repository"]}


def test_narrow_tokens_see_their_part_only(simulator: Simulator, world: World) -> None:
    project = world.add_project_access_token("acme", "CORE", SCOPES)
    single = world.add_repository_access_token("acme", "api", SCOPES)
    listed = get(simulator, "/repositories/acme", f"Bearer {project}").json()["values"]
    assert {one["slug"] for one in listed} == {"api", "billing"}
    assert get(simulator, "/repositories/acme/api", f"Bearer {single}").status_code == 200
    assert get(simulator, REPOSITORY, f"Bearer {single}").status_code == 404
    assert get(simulator, "/repositories/acme", f"Bearer {single}").status_code == 403
    filtered = get(simulator, '/repositories/acme?q=project.key="CORE"', f"Bearer {single}")
    assert [one["slug"] for one in filtered.json()["values"]] == ["api"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pullrequests?pagelen=50", 200),
        ("/pullrequests?pagelen=51", 400),
        ("/pullrequests/1/comments?pagelen=100", 200),
        ("/pullrequests/1/comments?pagelen=101", 400),
        ("/pullrequests?state=OPEN&state=MERGED&sort=-updated_on", 500),
        ("/pullrequests?state=ALL", 400),
        ("/pipelines", 404),
        ("/pipelines/", 200),
        ("/issues", 410),
        ("/pipelines/00000000-0000-0000-0000-000000000000/steps/", 400),
    ],
)
def test_what_bitbucket_refuses_is_refused(
    simulator: Simulator, world: World, path: str, status: int
) -> None:
    token = world.add_workspace_access_token("acme", SCOPES)
    assert get(simulator, REPOSITORY + path, f"Bearer {token}").status_code == status


def test_a_list_defaults_to_ten_and_its_next_leads_on(simulator: Simulator, world: World) -> None:
    token = world.add_workspace_access_token("acme", SCOPES)
    for number in range(23):
        world.workspaces["acme"].add_repository(f"extra-{number}")
    url: str | None = f"{simulator.api_url}/repositories/acme"
    seen: list[str] = []
    while url is not None:
        data = httpx.get(url, headers={"Authorization": f"Bearer {token}"}).json()
        assert len(data["values"]) <= 10
        seen += [one["slug"] for one in data["values"]]
        url = data.get("next")
    assert len(seen) == len(set(seen)) == 27


def test_the_hour_is_a_rolling_one(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 23, 2, 0, tzinfo=UTC)]
    world = World(tmp_path / "w", clock=lambda: now[0], limit=3)
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world, switches=Switches(retry_after=True)) as simulator:
        statuses = [get(simulator, REPOSITORY, f"Bearer {token}").status_code for _ in range(3)]
        now[0] += timedelta(minutes=30)
        refused = get(simulator, REPOSITORY, f"Bearer {token}")
        now[0] += timedelta(minutes=31)
        later = get(simulator, REPOSITORY, f"Bearer {token}")
    assert statuses == [200, 200, 200]
    assert refused.status_code == 429
    assert 1790 <= int(refused.headers["Retry-After"]) <= 1801
    assert later.status_code == 200


def test_ordered_faults_happen_once(simulator: Simulator, world: World) -> None:
    token = world.add_workspace_access_token("acme", SCOPES)
    simulator.order(Fault("GET /2.0/repositories/acme/website", status=503))
    simulator.order(Fault("GET /2.0/repositories/acme/website", "html"))
    answers = [get(simulator, REPOSITORY, f"Bearer {token}") for _ in range(3)]
    assert [one.status_code for one in answers] == [503, 200, 200]
    assert "html" in answers[1].headers["Content-Type"]
    assert answers[2].json()["slug"] == "website"
    simulator.order(Fault("GET /2.0/repositories/acme/website", "truncate"))
    with pytest.raises(httpx.HTTPError):
        get(simulator, REPOSITORY, f"Bearer {token}").json()


def test_a_finished_log_lies_on_another_origin(simulator: Simulator, world: World) -> None:
    token = world.add_workspace_access_token("acme", SCOPES)
    pipeline = world.workspaces["acme"].repositories["website"].pipelines[1]
    path = f"{REPOSITORY}/pipelines/{pipeline.uuid}/steps/{pipeline.steps[0].uuid}/log"
    answer = get(simulator, path, f"Bearer {token}")
    assert answer.status_code == 307
    assert answer.headers["Location"].startswith(simulator.storage_url)
    assert httpx.get(answer.headers["Location"]).content == pipeline.steps[0].log


def test_the_world_survives_a_restart(world: World) -> None:
    world.save()
    again = World.load(world.root)
    assert again is not None
    assert set(again.workspaces["acme"].repositories) == set(world.workspaces["acme"].repositories)
    assert again.workspaces["acme"].repositories["website"].refs() != {}
