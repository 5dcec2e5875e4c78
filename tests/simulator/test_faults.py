"""Faults as they arrive over a socket; they affect nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from mirror.simulator import Fault, Simulator, World
from mirror.simulator.world.sample import SCOPES, populate

REPOSITORY = "/repositories/acme/website"
MATCH = "GET /2.0/repositories/acme/website"


class Client:
    """A client with a token."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.token = simulator.world.add_workspace_access_token("acme", SCOPES)

    def get(self, path: str = REPOSITORY, **headers: str) -> httpx.Response:
        """Request the API, or a full URL, over a connection of its own."""
        url = path if "://" in path else self.simulator.api_url + path
        return httpx.get(url, headers={"Authorization": f"Bearer {self.token}", **headers}, timeout=5)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    world = World(tmp_path_factory.mktemp("world"))
    populate(world)
    with Simulator(world) as simulator:
        yield simulator


@pytest.fixture
def client(running: Simulator) -> Iterator[Client]:
    yield Client(running)
    running.faults.clear()


def test_a_fault_meets_as_many_as_it_is_ordered_for(client: Client) -> None:
    client.simulator.order(Fault(MATCH, status=503, times=2, skip=1, headers=(("Retry-After", "7"),)))
    client.simulator.order(Fault("/2.0/workspaces/*", status=410))
    answers = [client.get() for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 503, 503, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert [client.get("/workspaces/acme").status_code for _ in range(2)] == [410, 200]


def test_a_reset_is_a_reset(client: Client) -> None:
    client.simulator.order(Fault(MATCH, "reset"))
    with pytest.raises(httpx.TransportError):
        client.get()
    assert client.simulator.requests[-1].status == 0
    assert client.get().status_code == 200


def test_a_truncated_answer_promises_more(client: Client) -> None:
    client.simulator.order(Fault(MATCH, "truncate"))
    with pytest.raises(httpx.RemoteProtocolError):
        client.get()


def test_a_page_of_html_says_that_all_is_well(client: Client) -> None:
    client.simulator.order(Fault(MATCH, "html"))
    answer = client.get()
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_stalled_answer_falls_silent_half_way(client: Client) -> None:
    client.simulator.order(Fault(MATCH, "stall", seconds=0.3, after=20))
    client.simulator.order(Fault(MATCH, "slow", seconds=0.3))
    for first in (20, None):
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {client.token}"}
        with httpx.stream("GET", client.simulator.api_url + REPOSITORY, headers=headers) as answer:
            chunks = list(answer.iter_raw())
        assert time.monotonic() - began >= 0.3
        assert first is None or len(chunks[0]) == first


def test_a_redirect_leads_where_the_test_says(client: Client) -> None:
    client.simulator.order(Fault(MATCH, "redirect", location="http://elsewhere.example/"))
    answer = client.get()
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://elsewhere.example/")


def test_lists_loop_and_shrink_on_order(client: Client) -> None:
    path = "/repositories/acme?pagelen=2"
    client.simulator.order(Fault("GET /2.0/repositories/acme", "loop"))
    looped = client.get(path).json()
    assert looped["next"] == client.simulator.api_url + path
    first = client.get(path).json()
    client.simulator.order(Fault("GET /2.0/repositories/acme", "shrink"))
    second = client.get(first["next"]).json()
    # The entry between the two pages is in neither.
    assert len(first["values"]) + len(second["values"]) == 3


def test_finished_logs_lie_on_another_origin_that_wants_no_credential(client: Client) -> None:
    pipeline = client.simulator.world.workspaces["acme"].repositories["website"].pipelines[1]
    path = f"{REPOSITORY}/pipelines/{pipeline.uuid}/steps/{pipeline.steps[0].uuid}/log"
    answer = client.get(path)
    assert answer.status_code == 307
    where = answer.headers["Location"]
    assert where.startswith(client.simulator.storage_url)
    assert not where.startswith(client.simulator.git_url)
    assert httpx.get(where).content == pipeline.steps[0].log
    part = httpx.get(where, headers={"Range": "bytes=4-5"})
    assert (part.status_code, part.content) == (206, b"ci")
    assert httpx.get(where, headers={"Range": "bytes=9999-"}).status_code == 416
    # A leaked credential is refused, and recorded as leaked.
    assert client.get(where).status_code == 400
    assert client.simulator.requests[-1].kind == "storage"
    assert client.token in client.simulator.requests[-1].headers["authorization"]
    # The API is not at the storage's address, and the storage is not at the API's.
    assert httpx.get(f"{client.simulator.storage_url}/2.0{REPOSITORY}").status_code == 404
    assert (
        client.get(where.replace(client.simulator.storage_url, client.simulator.git_url)).status_code != 200
    )


def test_a_running_log_is_given_at_once_and_an_expired_one_is_not_there(client: Client) -> None:
    website = client.simulator.world.workspaces["acme"].repositories["website"]
    pipeline = website.add_pipeline(steps=[("build", b"so far\n"), ("deploy", None)], result=None)
    first, second = (
        client.get(f"{REPOSITORY}/pipelines/{pipeline.uuid}/steps/{step.uuid}/log") for step in pipeline.steps
    )
    assert (first.status_code, first.content) == (200, b"so far\n")
    assert second.status_code == 404
    pipeline.finish()


def test_the_log_of_requests_has_all_that_was_asked(client: Client) -> None:
    before = len(client.simulator.requests)
    client.get("/repositories/acme?pagelen=2")
    client.get("/nowhere")
    first, second = client.simulator.requests[before:]
    assert (first.method, first.path, first.query) == ("GET", "/2.0/repositories/acme", "pagelen=2")
    assert (first.status, first.kind) == (200, "api")
    assert first.identity is not None and client.token not in first.identity
    assert second.status == 404
    assert client.token not in repr(first)
