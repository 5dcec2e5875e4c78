"""The hooks' door: what it takes, what it refuses, and that nothing else costs anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from mirror.auth.hook_keys import HookKeys, signature_of
from mirror.auth.secrets import Secret, SecretSource
from mirror.config import Address, HooksConfig, address
from mirror.errors import NoStore, UsageError
from mirror.store.writing.writer import create_or_open
from mirror.web import hooks_door
from mirror.web.hooks_door import BODY_MAX, HooksDoor, open_hooks_door, repository_uuid
from mirror.web.server import serving
from tests.clock import FakeClock
from tests.e2e.helpers import MADE

SECRET, OLD, STRANGERS = Secret("s" * 32), Secret("o" * 40), Secret("x" * 32)
STORE_ID = "7d7698a5-201c-4e48-8059-6eab61742b5a"
UUID = "{0f8fad5b-d9cb-469f-a165-70867728950e}"
BODY = json.dumps({"push": {}, "repository": {"uuid": UUID, "full_name": "acme/website"}}).encode()


class Events:
    """What went through the door."""

    def __init__(self) -> None:
        self.announced: list[str | None] = []
        self.events: list[bytes] = []
        self.refused = 0

    def announce(self, uuid: str | None, event: bytes) -> None:
        self.announced.append(uuid)
        self.events.append(event)

    def refuse(self) -> None:
        self.refused += 1


class Door:
    """A door that is served on loopback, and a client before it."""

    def __init__(
        self, door: HooksDoor, events: Events, keys: HookKeys, clock: FakeClock, at: Address
    ) -> None:
        self.door, self.events, self.keys, self.clock, self.at = door, events, keys, clock, at
        self.client = httpx.AsyncClient(base_url=f"http://{at.text}", trust_env=False, timeout=60)

    async def send(
        self, body: bytes = BODY, *, secret: Secret | None = SECRET, path: str | None = None, **more: Any
    ) -> int:
        headers = {} if secret is None else {"X-Hub-Signature": signature_of(secret, body)}
        headers |= more.pop("headers", {})
        answer = await self.client.post(path or self.keys.path, content=body, headers=headers, **more)
        assert answer.content == b""
        return answer.status_code

    async def raw(self, data: bytes) -> bytes:
        """The first line of the answer to what no client sends."""
        reader, writer = await asyncio.open_connection(self.at.host, self.at.port)
        writer.write(data)
        line = await reader.readline()
        writer.close()
        return line


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    events, clock = Events(), FakeClock()
    keys = HookKeys(SECRET, OLD, STORE_ID)
    made = HooksDoor(keys, events, clock)
    async with serving(made, address("127.0.0.1:0"), key="hooks.listen") as at:
        opened = Door(made, events, keys, clock, at)
        async with opened.client:
            yield opened


async def test_a_signed_hook_announces_its_repository(door: Door) -> None:
    assert await door.send() == 204
    assert door.events.announced == [UUID]
    assert door.events.refused == 0


async def test_the_same_hook_is_the_same_event(door: Door) -> None:
    await door.send()
    await door.send()
    await door.send(BODY + b" ")
    first, second, third = door.events.events
    assert first == second != third


async def test_the_secret_before_counts_too(door: Door) -> None:
    assert await door.send(secret=OLD) == 204
    assert await door.send(path=HookKeys(OLD, None, STORE_ID).path) == 204
    assert door.events.announced == [UUID, UUID]


async def test_the_path_is_of_the_secret_and_the_store(door: Door) -> None:
    assert door.keys.path.startswith("/hooks/")
    assert len(door.keys.path) == len("/hooks/") + 32
    others = [HookKeys(STRANGERS, None, STORE_ID), HookKeys(SECRET, None, "another store")]
    for path in [*(one.path for one in others), "/", "/hooks/", door.keys.path + "/", door.keys.path.upper()]:
        assert await door.send(path=path) == 404
    assert door.events.announced == []
    assert door.events.refused == 6


async def test_a_forged_hook_is_refused(door: Door) -> None:
    assert await door.send(secret=STRANGERS) == 403
    assert await door.send(secret=None) == 403
    good = signature_of(SECRET, BODY)
    for value in (
        good[:-1],
        good.upper(),
        good.replace("sha256", "sha1"),
        "sha256=",
        "",
        good + "0",
        "sha256=é",
    ):
        headers = {"X-Hub-Signature": value.encode("latin-1")}
        assert await door.send(secret=None, headers=headers) == 403
    assert await door.send(BODY + b" ", secret=None, headers={"X-Hub-Signature": good}) == 403
    assert door.events.announced == []


async def test_two_signatures_are_none(door: Door) -> None:
    headers = [("X-Hub-Signature", signature_of(one, BODY)) for one in (SECRET, STRANGERS)]
    answer = await door.client.post(door.keys.path, content=BODY, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_post_is_taken(door: Door, method: str) -> None:
    answer = await door.client.request(method, door.keys.path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert (await door.client.request(method, "/elsewhere")).status_code == 404


async def test_a_large_body_is_refused_before_it_is_read(door: Door) -> None:
    head = f"POST {door.keys.path} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature: sha256={'0' * 64}\r\n"
    for length in (str(BODY_MAX + 1), "9" * 30):
        line = await door.raw(f"{head}Content-Length: {length}\r\n\r\n".encode())
        assert b" 413 " in line or b" 400 " in line


async def test_a_body_in_pieces_is_measured_as_it_comes(door: Door) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b" " * 65536

    whole = b" " * 65536 * 2
    headers = {"X-Hub-Signature": signature_of(SECRET, whole)}
    answer = await door.client.post(door.keys.path, content=pieces(2), headers=headers)
    assert answer.status_code == 204
    answer = await door.client.post(door.keys.path, content=pieces(17), headers=headers)
    assert answer.status_code == 413
    assert door.events.announced == [None]


async def test_a_slow_body_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_door, "BODY_SECONDS", 0.05)
    head = f"POST {door.keys.path} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature: {signature_of(SECRET, BODY)}\r\n"
    assert b" 408 " in await door.raw(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:5])
    assert door.events.announced == []


async def test_a_body_that_ends_early_announces_nothing(door: Door) -> None:
    head = (
        f"POST {door.keys.path} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature: {signature_of(SECRET, BODY[:5])}\r\n"
    )
    _, writer = await asyncio.open_connection(door.at.host, door.at.port)
    writer.write(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:5])
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(120):
        while not door.events.refused:
            await asyncio.sleep(0.01)
    assert door.events.announced == []


async def test_too_many_bodies_at_a_time_are_put_off(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_door, "READING_MAX", 0)
    answer = await door.client.post(
        door.keys.path, content=BODY, headers={"X-Hub-Signature": signature_of(SECRET, BODY)}
    )
    assert answer.status_code == 503  # which Bitbucket sends again
    assert "retry-after" in answer.headers


async def test_refusals_are_summed_up_in_one_line_a_minute(door: Door) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            await door.send(secret=STRANGERS)
        await door.send(path="/x")
        assert [one["requests"] for one in lines] == [1]
        door.clock.elapsed += 60
        await door.send(path="/x")
        assert [one["requests"] for one in lines] == [1, 51]
        assert lines[1]["by_status"] == {"403": 49, "404": 2}
        door.door.close()
    assert len(lines) == 2
    assert door.events.refused == 52


def deep(count: int) -> bytes:
    return b'{"repository": ' + b'{"a":' * count + b"1" + b"}" * count + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"1", b'"text"', b"{", b"\xff\xfe", b"{}", b'{"repository": null}',
        b'{"repository": []}', b'{"repository": {"uuid": 1}}', b'{"repository": {"uuid": null}}',
        b'{"repository": {"uuid": {"a": 1}}}', b'{"repository": {"uuid": "../../etc"}}',
        b'{"repository": {"uuid": ""}}', b'{"repository": "%s"}' % UUID.encode(),
        b'{"test": true, "hook": {}}', b"[" * 200_000, deep(100_000), b'{"n": ' + b"9" * 200_000 + b"}",
        b'{"repository": {"uuid": "{0f8fad5b-d9cb-469f-a165-70867728950e}\\u0000"}}',
        b'{"repository": {"uuid": "\\ud800"}}',
    ],
)  # fmt: skip
def test_hostile_json_announces_nothing(body: bytes) -> None:
    assert repository_uuid(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"repository": {"uuid": "%s"}}' % UUID.encode(),
        b'{"repository": {"uuid": "%s"}}' % UUID.strip("{}").encode(),
        b'{"repository": {"uuid": "%s"}}' % UUID.upper().encode(),
        b'{"repository": 1, "repository": {"uuid": 2, "uuid": "%s"}}' % UUID.encode(),
        b'{"n": 1e999, "m": NaN, "repository": {"uuid": "%s"}}' % UUID.encode(),
        b'\xef\xbb\xbf{"repository": {"uuid": "%s"}}' % UUID.encode(),
    ],
)
def test_the_uuid_is_read_whatever_stands_beside_it(body: bytes) -> None:
    assert repository_uuid(body) == UUID


async def test_a_ping_without_a_repository_is_taken_for_nothing(door: Door) -> None:
    assert await door.send(b'{"test": true}') == 204
    assert door.events.announced == [None]
    assert door.events.refused == 0


def configured(secret: str, previous: str | None = None) -> tuple[HooksConfig, dict[str, str]]:
    environment = {"HOOKS": secret} | ({"OLD": previous} if previous is not None else {})
    source = SecretSource("env", "OLD") if previous is not None else None
    hooks = HooksConfig(
        url="https://mirror.example.org", secret=SecretSource("env", "HOOKS"), previous_secret=source,
        listen=address("127.0.0.1:0"),
    )  # fmt: skip
    return hooks, environment


@pytest.mark.parametrize(
    ("secret", "previous", "says"),
    [
        ("s" * 31, None, "hooks.secret has 31 characters; mirror wants at least 32"),
        ("s" * 129, None, "hooks.secret has 129 characters"),
        ("s" * 32, "short", "hooks.previous_secret has 5 characters"),
        ("", None, "the variable is not set"),
    ],
)
async def test_a_secret_that_could_be_guessed_is_refused(
    tmp_path: Path, secret: str, previous: str | None, says: str
) -> None:
    create_or_open(tmp_path / "store", now=MADE, command="test").close()
    hooks, environment = configured(secret, previous)
    with pytest.raises(UsageError) as caught:
        async with open_hooks_door(
            hooks, Events(), store=tmp_path / "store", clock=FakeClock(), environment=environment
        ):
            pass
    assert says in caught.value.message
    assert not secret or secret not in str(caught.value)


async def test_the_door_of_a_store_takes_the_hooks_of_that_store(tmp_path: Path) -> None:
    events = Events()
    hooks, environment = configured(SECRET.reveal())
    door = open_hooks_door(
        hooks, events, store=tmp_path / "store", clock=FakeClock(), environment=environment
    )
    with pytest.raises(NoStore):
        await door.__aenter__()
    with create_or_open(tmp_path / "store", now=MADE, command="test") as store:
        path = HookKeys(SECRET, None, store.reader.id).path
    door = open_hooks_door(
        hooks, events, store=tmp_path / "store", clock=FakeClock(), environment=environment
    )
    async with door as at, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        headers = {"X-Hub-Signature": signature_of(SECRET, BODY)}
        answer = await client.post(f"http://{at.text}{path}", content=BODY, headers=headers)
        assert answer.status_code == 204
    assert events.announced == [UUID]
