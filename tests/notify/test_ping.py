"""Pings of a healthchecks-like server."""

from __future__ import annotations

import time

import pytest
import structlog

from mirror.errors import UsageError
from mirror.http.network import Network
from mirror.notify.ping import ATTEMPT, Signal, check_url, ping
from tests.clock import FakeClock
from tests.notify.servers import CHECK, Healthchecks, Receiver
from tests.ports import unused_port


async def send(
    url: str, signal: Signal = "fail", text: str = "", *, attempt: float = ATTEMPT
) -> tuple[bool, FakeClock]:
    clock = FakeClock()
    return await ping(url, signal, text, network=Network(), clock=clock, attempt=attempt), clock


async def test_each_signal_has_its_path() -> None:
    with Healthchecks() as server:
        for signal in ("start", "success", "fail"):
            assert (await send(server.url, signal, "why ⚠"))[0]
        assert (await send(f"{server.url}?rid=1", "start"))[0]
        assert (await send(f"{server.url}/", "start"))[0]
    assert server.paths == [
        f"{CHECK}/start",
        CHECK,
        f"{CHECK}/fail",
        f"{CHECK}/start?rid=1",
        f"{CHECK}/start",
    ]
    assert server.got[0][1] == "why ⚠"


async def test_a_lost_ping_is_sent_again() -> None:
    with Healthchecks(503) as server:
        sent, clock = await send(server.url)
    assert (sent, len(server.got), clock.slept) == (False, 3, [1.0, 5.0])


@pytest.mark.parametrize("kind", ["slow", "dead", "unresolved", "redirects"])
async def test_bad_servers_take_bounded_time_and_the_log_has_no_url(kind: str) -> None:
    with Receiver(302, is_slow=kind == "slow") as server:
        port = unused_port() if kind == "dead" else server.port
        host = "nobody.invalid" if kind == "unresolved" else "127.0.0.1"
        began = time.monotonic()
        with structlog.testing.capture_logs() as logged:
            sent, _ = await send(f"http://{host}:{port}{CHECK}", attempt=0.3)
        assert (sent, time.monotonic() - began < 5) == (False, True)
    [line] = logged
    assert line["event"] == "notify.ping_failed"
    assert CHECK.rpartition("/")[2] not in str(logged)
    assert line["reason"]


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://example.org/", "example.org", "https://", ""])
def test_a_url_that_cannot_be_pinged_is_refused_unseen(url: str) -> None:
    with pytest.raises(UsageError) as found:
        check_url(url)
    assert url in ("", "https://") or url not in found.value.message
