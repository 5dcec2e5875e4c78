"""Messages reach real servers; slow and dead ones hold up nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from mirror.errors import UsageError
from mirror.http.network import Network
from mirror.http.proxies import Proxy
from mirror.notify import delivery
from mirror.notify.message import Message
from tests.http.proxy import HttpProxy, make_certificates
from tests.notify.servers import Receiver, smtp_server
from tests.ports import unused_port

MESSAGE = Message("Mirror on h: backup failed", "- a/b: <b>gone</b> & *over*\n\nLook", "failure")
REFUSED = "the server did not take it, or could not be reached"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


async def send(*urls: str, seconds: float = 30, network: Network | None = None) -> list[str | None]:
    return await delivery.deliver(
        MESSAGE, urls, network=network or Network(), environment=ENVIRONMENT, seconds=seconds
    )


async def test_mail_and_webhook_get_it_and_bad_servers_hold_up_nobody() -> None:
    with smtp_server() as (box, mailto), Receiver() as hook, Receiver(500) as broken:
        results = await send(
            mailto,
            f"json://127.0.0.1:{hook.port}/hook",
            f"json://127.0.0.1:{broken.port}/hook",
            f"json://127.0.0.1:{unused_port()}/hook",
            "nonsense://x",
        )
    assert results == [None, None, REFUSED, REFUSED, "Apprise does not know this kind of address"]
    assert box.mails[0]["Subject"] == MESSAGE.title
    assert box.text().strip() == MESSAGE.body
    [(path, body)] = hook.got
    sent = json.loads(body)
    assert (path, sent["title"], sent["message"], sent["type"]) == (
        "/hook", MESSAGE.title, MESSAGE.body, "failure",
    )  # fmt: skip


async def test_a_server_that_never_ends_its_answer_is_given_up() -> None:
    with Receiver(is_slow=True) as slow, Receiver() as hook:
        began = time.monotonic()
        results = await send(f"json://127.0.0.1:{slow.port}/", f"json://127.0.0.1:{hook.port}/", seconds=2.5)
        assert time.monotonic() - began < 5
    assert results == ["no answer within 2.5 s", None]


async def test_it_goes_through_the_configured_proxy() -> None:
    with Receiver() as hook, HttpProxy({"hooks.example.org": hook.port}, user="me", password="p@ss") as proxy:
        network = Network(http_proxy=Proxy("http", "127.0.0.1", proxy.port, "me", "p@ss"))
        assert await send("json://hooks.example.org/hook", network=network) == [None]
    assert (len(proxy.asked), hook.paths) == (1, ["/hook"])


async def test_it_trusts_the_configured_authority(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "localhost")
    with Receiver(certificates=certificates) as hook:
        url = f"jsons://localhost:{hook.port}/hook"
        network = Network(ca_file=str(certificates.authority))
        assert [await send(url), await send(url, network=network)] == [[REFUSED], [None]]


async def test_unknown_addresses_are_found_without_sending() -> None:
    with Receiver() as hook:
        urls = [f"json://127.0.0.1:{hook.port}/", "nonsense://x", "https//typo"]
        assert await delivery.unknown(urls, environment=ENVIRONMENT) == [1, 2]
    assert hook.got == []


def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery.check_installed()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError) as found:
        delivery.check_installed()
    assert "pip install '.[notify]'" in str(found.value.hint)


def test_nothing_imports_apprise_here() -> None:
    assert "apprise" not in sys.modules
