"""Mirror gives up a transfer that is too slow: an API response, a token, a response of an LFS server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.auth.credentials import OAuthConsumer, WorkspaceAccessToken
from mirror.auth.signin import SignIn
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import WORKSPACE
from mirror.bitbucket.failures import ServerTrouble
from mirror.errors import TryLater
from mirror.git.lfs.batch_api import LfsFailed, LfsServer
from mirror.git.workers.clock import Watch
from mirror.http.network import Network
from mirror.http.rates import MinimumRate
from mirror.simulator import Fault, Simulator, World
from mirror.simulator.world.sample import SCOPES
from tests.auth.helpers import signed, variable
from tests.bitbucket.helpers import FakeClock

OAUTH = "POST /site/oauth2/access_token"
NETWORK = Network(minimum_rate=MinimumRate(short_window=0.2))


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    world = World(tmp_path)
    world.add_workspace("acme")
    with Simulator(world) as running:
        yield running


def trickling(match: str) -> Fault:
    return Fault(match, "trickle", seconds=0.02, times=100)


def access_token(simulator: Simulator) -> SignIn:
    secret = simulator.world.add_workspace_access_token("acme", SCOPES)
    return signed(WorkspaceAccessToken(variable("SECRET")), secret, api_url=simulator.api_url)


async def test_an_api_answer(simulator: Simulator) -> None:
    simulator.order(trickling("GET /2.0/*"))
    one = access_token(simulator)
    began = time.monotonic()
    async with Client([one], api_url=simulator.api_url, clock=FakeClock(), network=NETWORK) as client:
        with pytest.raises(ServerTrouble, match="bytes a second; given up"):
            await client.get(WORKSPACE, workspace="acme")
    # The whole transfer would take 20 s, and there are five tries.
    assert time.monotonic() - began < 15


async def test_a_token(simulator: Simulator) -> None:
    client_id, secret = simulator.world.add_oauth_consumer("acme", SCOPES)
    consumer = OAuthConsumer(client_id, variable("SECRET"))
    one = signed(consumer, secret, api_url=simulator.api_url, oauth_url=simulator.oauth_url, network=NETWORK)
    simulator.order(trickling(OAUTH))
    async with Client([one], api_url=simulator.api_url, clock=FakeClock(), network=NETWORK) as client:
        with pytest.raises(TryLater, match="bytes a second; given up"):
            await client.get(WORKSPACE, workspace="acme")
        with pytest.raises(TryLater, match="bytes a second; given up"):
            await client.git_login()


class NoWaiting(Watch):
    def sleep(self, seconds: float) -> None:
        del seconds


def test_an_answer_of_an_lfs_server(simulator: Simulator) -> None:
    simulator.order(trickling("POST */info/lfs/objects/batch"))
    url = f"{simulator.git_url}/acme/game.git"
    server = LfsServer(
        url, None, silence_timeout=5, connections=1, pause=0.01, watch=NoWaiting(), network=NETWORK
    )
    with pytest.raises(LfsFailed, match="bytes a second; given up") as caught:
        server.batch("download", [("0" * 64, 1)])
    server.close()
    assert caught.value.retryable


async def test_what_comes_fast_enough_is_kept_however_long_it_takes(simulator: Simulator) -> None:
    slow = Network(minimum_rate=MinimumRate(bytes_per_second=1, short_window=0.2))
    simulator.order(Fault("GET /2.0/*", "trickle", seconds=0.002, times=1))
    one = access_token(simulator)
    async with Client([one], api_url=simulator.api_url, clock=FakeClock(), network=slow) as client:
        assert (await client.get(WORKSPACE, workspace="acme")).object("it")["slug"] == "acme"
        assert client.requests == 1
