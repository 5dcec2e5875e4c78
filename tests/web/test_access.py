"""Who may read the page, and what every response says to browsers."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from mirror.config import address
from mirror.errors import UsageError
from mirror.web.access import COOKIE, SESSION_SECONDS
from mirror.web.headers import HEADERS
from tests.clock import FakeClock
from tests.web.helpers import TOKEN, access, client, make_store

EVERYWHERE = address("0.0.0.0:9321")
PROXIES = (ipaddress.ip_network("10.0.0.0/8"),)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("page") / "store")


async def test_without_a_token_this_machine_alone_reads_the_page(store: Path) -> None:
    async with client(store, FakeClock()) as browser:
        assert (await browser.get("/")).status_code == 200
        assert (await browser.get("/login")).headers["location"] == "/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", ""])
async def test_a_name_of_elsewhere_that_leads_here_is_refused(store: Path, host: str) -> None:
    async with client(store, FakeClock()) as browser:
        found = await browser.get("/", headers={"Host": host})
        assert found.status_code == 421
        assert "repositories" not in found.text


@pytest.mark.parametrize("host", ["localhost", "localhost:9321", "127.0.0.1:1", "[::1]:9321"])
async def test_the_names_of_this_machine_are_good(store: Path, host: str) -> None:
    async with client(store, FakeClock()) as browser:
        assert (await browser.get("/", headers={"Host": host})).status_code == 200


def test_an_address_for_everybody_without_a_rule_is_refused() -> None:
    with pytest.raises(UsageError, match="let everybody who reaches it") as caught:
        access(FakeClock(), listen=EVERYWHERE)
    assert "web.token" in str(caught.value.hint)


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(UsageError, match="shorter than 16") as caught:
        access(FakeClock(), token="fifteen-letters")
    assert "fifteen" not in str(caught.value)


async def test_the_token_opens_the_page_as_bearer(store: Path) -> None:
    clock = FakeClock()
    async with client(store, clock, rules=access(clock, token=TOKEN, listen=EVERYWHERE)) as browser:
        assert (await browser.get("/", headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200
        wrong = await browser.get("/", headers={"Authorization": "Bearer wrong", "Accept": "*/*"})
        assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_browser_is_led_to_the_sign_in_and_back(store: Path) -> None:
    clock = FakeClock()
    async with client(store, clock, rules=access(clock, token=TOKEN)) as browser:
        asked = await browser.get("/runs?of=acme&page=2")
        assert asked.headers["location"] == "/login?next=%2Fruns%3Fof%3Dacme%26page%3D2"
        assert "Token of this page" in (await browser.get(asked.headers["location"])).text
        wrong = await browser.post("/login", data={"token": "wrong"})
        assert wrong.status_code == 401 and COOKIE not in browser.cookies
        right = await browser.post(asked.headers["location"], data={"token": TOKEN})
        assert (right.status_code, right.headers["location"]) == (303, "/runs?of=acme&page=2")
        kept = right.headers["set-cookie"].lower()
        assert "httponly" in kept and "samesite=strict" in kept and "secure" not in kept
        assert TOKEN not in kept
        assert "Sign out" in (await browser.get("/")).text
        out = await browser.post("/logout")
        assert out.headers["location"] == "/login" and COOKIE not in browser.cookies


async def test_behind_https_the_cookie_is_secure(store: Path) -> None:
    clock = FakeClock()
    async with client(store, clock, rules=access(clock, token=TOKEN)) as browser:
        headers = {"X-Forwarded-Proto": "https"}
        right = await browser.post("/login", data={"token": TOKEN}, headers=headers)
        assert "secure" in right.headers["set-cookie"].lower()


@pytest.mark.parametrize("path", ["//e.example", "/\\e.example", "https://e.example", "evil", "/a b"])
async def test_a_sign_in_leads_nowhere_else(store: Path, path: str) -> None:
    clock = FakeClock()
    async with client(store, clock, rules=access(clock, token=TOKEN)) as browser:
        right = await browser.post("/login", params={"next": path}, data={"token": TOKEN})
        assert right.headers["location"] == "/"


async def test_a_sign_in_ends_and_cannot_be_made_longer(store: Path) -> None:
    clock = FakeClock()
    rules = access(clock, token=TOKEN)
    value = rules.sign_in(TOKEN, Headers(), "127.0.0.1")
    assert isinstance(value, str)
    ends, _, mac = value.partition(".")

    async def status(cookie: str) -> int:
        async with client(store, clock, rules=rules) as browser:
            return (await browser.get("/", headers={"Cookie": f"{COOKIE}={cookie}"})).status_code

    assert await status(value) == 200
    for forged in (f"{int(ends) + 1}.{mac}", f"{ends}.{mac[:-1]}x", f"{ends}.", ends, "", "x.y", f"-1.{mac}"):
        assert await status(forged) == 303, forged
    another = "another-token-for-the-page"
    other = access(clock, token=another).sign_in(another, Headers(), "::1")
    assert await status(str(other)) == 303
    clock.elapsed += SESSION_SECONDS
    assert await status(value) == 303


async def test_guessing_is_slowed_down_for_one_address_only(store: Path) -> None:
    clock = FakeClock()
    rules = access(clock, token=TOKEN, listen=EVERYWHERE)
    async with client(store, clock, rules=rules, peer="203.0.113.9") as guesser:
        for _ in range(5):
            assert (await guesser.post("/login", data={"token": "wrong"})).status_code == 401
        refused = await guesser.post("/login", data={"token": TOKEN})
        assert refused.status_code == 429 and COOKIE not in guesser.cookies
        bearer = await guesser.get("/", headers={"Authorization": f"Bearer {TOKEN}"})
        assert (bearer.status_code, bearer.headers["retry-after"]) == (429, "60")
        async with client(store, clock, rules=rules, peer="203.0.113.10") as other:
            assert (await other.post("/login", data={"token": TOKEN})).status_code == 303
        clock.elapsed += 60
        assert (await guesser.post("/login", data={"token": TOKEN})).status_code == 303


async def test_behind_a_proxy_one_guesser_keeps_nobody_else_out(store: Path) -> None:
    clock = FakeClock()
    rules = access(clock, token=TOKEN, proxies=PROXIES, listen=EVERYWHERE)

    async def status(seen: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": seen, "Accept": "*/*"}
        return (await proxied.get("/", headers=headers)).status_code

    async with client(store, clock, rules=rules, peer="10.1.2.3") as proxied:
        for number in range(5):
            assert await status(f"{number}, 203.0.113.9", "wrong") == 401
        assert await status("198.51.100.1, 203.0.113.9", TOKEN) == 429, "what a guesser says does not count"
        assert await status("203.0.113.10", TOKEN) == 200


async def test_addresses_of_one_ipv6_network_are_one_guesser(store: Path) -> None:
    clock = FakeClock()
    rules = access(clock, token=TOKEN, listen=EVERYWHERE)

    async def status(peer: str, token: str) -> int:
        async with client(store, clock, rules=rules, peer=peer) as browser:
            headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}
            return (await browser.get("/", headers=headers)).status_code

    for number in range(5):
        assert await status(f"2001:db8::{number}", "wrong") == 401
    assert await status("2001:db8::9", TOKEN) == 429
    assert await status("2001:db8:0:1::9", TOKEN) == 200


async def test_two_names_of_a_user_are_refused(store: Path) -> None:
    rules = access(FakeClock(), proxies=PROXIES, listen=EVERYWHERE)
    async with client(store, FakeClock(), rules=rules, peer="10.1.2.3") as proxied:
        names = [("X-Forwarded-User", "mallory"), ("X-Forwarded-User", "ann")]
        found = await proxied.get("/", headers=names)
    assert found.status_code == 403 and "mallory" not in found.text


async def test_a_trusted_proxy_names_a_user(store: Path) -> None:
    clock = FakeClock()
    rules = access(clock, proxies=PROXIES, listen=EVERYWHERE)
    named = {"X-Forwarded-User": "ann <b>"}
    async with client(store, clock, rules=rules, peer="10.1.2.3") as proxied:
        assert "ann &lt;b&gt;" in (await proxied.get("/", headers=named)).text
        assert (await proxied.get("/")).status_code == 401
    async with client(store, clock, rules=rules, peer="::ffff:10.1.2.3") as mapped:
        assert (await mapped.get("/", headers=named)).status_code == 200
    async with client(store, clock, rules=rules, peer="203.0.113.9") as stranger:
        assert (await stranger.get("/", headers=named)).status_code == 403


async def test_a_proxy_on_this_machine_does_not_open_the_page_to_names_of_elsewhere(store: Path) -> None:
    clock = FakeClock()
    rules = access(clock, proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    async with client(store, clock, rules=rules) as browser:
        headers = {"X-Forwarded-User": "ann", "Host": "evil.example"}
        assert (await browser.get("/", headers=headers)).status_code == 421


async def test_a_form_of_another_site_is_refused(store: Path) -> None:
    clock = FakeClock()
    async with client(store, clock, rules=access(clock, token=TOKEN)) as browser:
        found = await browser.post("/logout", headers={"Sec-Fetch-Site": "cross-site"})
        assert found.status_code == 403 and "set-cookie" not in found.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_the_page_only_reads(store: Path, method: str) -> None:
    async with client(store, FakeClock()) as browser:
        found = await browser.request(method, "/")
        assert found.status_code == 405 and "GET" in found.headers["allow"]
        assert "changes nothing" in found.text


async def test_every_response_has_the_headers(store: Path, tmp_path: Path) -> None:
    clock = FakeClock()
    async with client(store, clock) as browser, client(tmp_path / "none", clock) as without:
        style = (await browser.get("/")).text.partition('rel="stylesheet" href="')[2].partition('"')[0]
        found = [
            await browser.get("/"), await browser.get("/nothing"), await browser.post("/"),
            await browser.get(style), await browser.get("/", headers={"Host": "evil.example"}),
            await without.get("/"),
        ]  # fmt: skip
    assert [one.status_code for one in found] == [200, 404, 405, 200, 421, 503]
    for one in found:
        assert {name: one.headers.get(name) for name in HEADERS} == HEADERS
    caches = [one.headers["cache-control"] for one in found]
    assert caches[3].endswith("immutable") and {*caches[:3], *caches[4:]} == {"no-store"}


async def test_an_unexpected_error_is_a_page_without_its_traceback(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the inside of the program")

    monkeypatch.setattr("mirror.browse.watch.Watch.look", broken)
    async with client(store, FakeClock()) as browser:
        found = await browser.get("/")
    assert found.status_code == 500 and "Something went wrong" in found.text
    assert "inside of the program" not in found.text and "Traceback" not in found.text
    assert found.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
