"""Behind a proxy, and with a private certificate authority, all requests take the same way."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mirror import backup, doctor
from mirror.auth.credentials import OAuthConsumer
from mirror.auth.secrets import SecretSource
from mirror.bitbucket.client.budget import Budget
from mirror.config import Config
from mirror.config.settings import BitbucketUrls, NetworkConfig
from mirror.connect import network_of
from mirror.errors import UsageError
from mirror.git.mirrors.fetch import ProbeJob
from mirror.git.workers.pool import WorkerPool
from mirror.http.network import Network, from_environment
from mirror.http.proxies import Proxy
from mirror.logs import redact
from mirror.model import Run, Selector
from mirror.simulator.git.lfs import add_object
from mirror.simulator.world.sample import SCOPES
from tests.http.proxy import Certificates, HttpProxy, make_certificates
from tests.place import Place

API, STORAGE = "bitbucket.test", "storage.test"
PASSWORD = "open%sesame"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), API, STORAGE)


@pytest.fixture
def proxy(place: Place, certificates: Certificates) -> Iterator[HttpProxy]:
    """The only way to the simulator, which answers as two hosts that no name server knows."""
    app = place.simulator.app
    ports = {API: urlsplit(app.git).port or 0, STORAGE: urlsplit(app.storage).port or 0}
    app.api, app.git, app.storage = f"https://{API}/2.0", f"https://{API}", f"https://{STORAGE}"
    website = place.acme.repositories["website"]
    website.commit("main", {"large.bin": add_object(website, b"large" * 1000)}, "Something large")
    client_id, secret = place.world.add_oauth_consumer("acme", SCOPES)
    (place.folder / "secret").write_text(secret)
    (place.folder / "secret").chmod(0o600)
    consumer = OAuthConsumer(client_id, SecretSource("file", str(place.folder / "secret")))
    [only] = place.config.workspaces
    place.config = replace(
        place.config,
        bitbucket=BitbucketUrls(app.api, app.git, f"{app.git}/site/oauth2/access_token"),
        workspaces=(replace(only, credentials=(consumer,), include=("website",)),),
    )
    with HttpProxy(ports, certificates, user="ann", password=PASSWORD) as running:
        yield running


async def run(place: Place, config: Config, environment: dict[str, str]) -> Run:
    place.clock.elapsed += 3600
    return await backup.run(
        config, [Selector.parse("acme/website")], clock=place.clock, environment=environment
    )


def by_environment(proxy: HttpProxy, certificates: Certificates) -> dict[str, str]:
    quoted = PASSWORD.replace("%", "%25")
    return {
        "HTTPS_PROXY": f"http://ann:{quoted}@127.0.0.1:{proxy.port}",
        "SSL_CERT_FILE": str(certificates.authority),
    }


async def test_everything_goes_through_the_proxy_of_the_environment(
    place: Place, proxy: HttpProxy, certificates: Certificates
) -> None:
    done = await run(place, place.config, by_environment(proxy, certificates))
    assert done.exit_code == 0, done.problems
    # Sign-in, the API, git, LFS, and the storage of files.
    assert {"api", "oauth", "git", "storage"} <= {one.kind for one in place.simulator.requests}
    assert any("info/lfs" in one.path for one in place.simulator.requests)
    assert set(proxy.asked) == {f"CONNECT {API}:443", f"CONNECT {STORAGE}:443"}
    told = json.dumps(done.to_json(previous=None))
    assert PASSWORD not in told and "sesame" not in redact(f"proxy said {PASSWORD}")


async def test_everything_goes_through_the_proxy_of_the_configuration(
    place: Place, proxy: HttpProxy, certificates: Certificates
) -> None:
    network = NetworkConfig(
        proxy=proxy.url,
        proxy_user="ann",
        proxy_password=SecretSource("env", "PROXY_PASSWORD"),
        ca_file=certificates.authority,
        user_agent="(backup of acme)",
    )
    environment = {"PROXY_PASSWORD": PASSWORD, "HTTPS_PROXY": "http://127.0.0.1:1"}
    done = await run(place, replace(place.config, network=network), environment)
    assert done.exit_code == 0, done.problems
    agents = {one.kind: one.headers["user-agent"] for one in place.simulator.requests}
    assert agents["git"].startswith("git/mirror-") and agents["api"].startswith("mirror/")
    assert all(agent.endswith(" (backup of acme)") for agent in agents.values())


async def test_a_proxy_that_wants_another_password_is_told_everywhere(
    place: Place, proxy: HttpProxy, certificates: Certificates
) -> None:
    environment = by_environment(proxy, certificates)
    environment["HTTPS_PROXY"] = f"http://ann:wrong-password@127.0.0.1:{proxy.port}"
    done = await run(place, place.config, environment)
    assert done.exit_code == 75
    assert "the proxy answered 407" in done.problems[0].text
    network = from_environment(environment)
    async with WorkerPool(1, network=network) as workers:
        with pytest.raises(Exception, match="the proxy answered 407") as caught:
            await workers.run(ProbeJob(f"https://{API}/acme/website.git"))
    assert "network.proxy" in str(caught.value.hint)  # type: ignore[attr-defined]
    assert "wrong-password" not in str(caught.value)


async def test_an_authority_that_nobody_named_is_told_everywhere(
    place: Place, proxy: HttpProxy, certificates: Certificates
) -> None:
    environment = by_environment(proxy, certificates)
    del environment["SSL_CERT_FILE"]
    done = await run(place, place.config, environment)
    assert done.exit_code == 75 and "its certificate is not trusted" in done.problems[0].text
    async with WorkerPool(1, network=from_environment(environment)) as workers:
        with pytest.raises(Exception, match="its certificate is not trusted") as caught:
            await workers.run(ProbeJob(f"https://{API}/acme/website.git"))
    assert "network.ca_file" in str(caught.value.hint)  # type: ignore[attr-defined]


async def test_doctor_tells_what_is_in_force_and_no_secret(
    place: Place, proxy: HttpProxy, certificates: Certificates
) -> None:
    report = await doctor.run(
        place.config, clock=place.clock, environment=by_environment(proxy, certificates),
        budget=Budget(place.clock),
    )  # fmt: skip
    told = {check.name: check.text for check in report.checks}
    assert told["network: proxy"] == f"{proxy.url} (with a user name) (by the environment)"
    assert told["network: certificates"] == str(certificates.authority)
    assert {check.state for check in report.checks if "git" in check.name or "lfs" in check.name} == {"ok"}
    assert PASSWORD not in json.dumps(report.to_json())


async def test_plain_http_goes_through_its_proxy_and_past_it(place: Place) -> None:
    with HttpProxy({}) as proxy:
        done = await run(place, place.config, {"HTTP_PROXY": proxy.url})
        assert done.exit_code == 0, done.problems
        paths = [urlsplit(one.partition(" ")[2]).path for one in proxy.asked]
        assert any(path.startswith("/2.0/") for path in paths)
        assert any(path.endswith("git-upload-pack") for path in paths)
        asked = len(proxy.asked)
        done = await run(place, place.config, {"HTTP_PROXY": proxy.url, "NO_PROXY": "127.0.0.0/8"})
        assert done.exit_code == 0 and len(proxy.asked) == asked


def chosen(environment: dict[str, str], url: str) -> str | None:
    proxy = from_environment(environment).proxy_for(url)
    return proxy.host if proxy is not None else None


@pytest.mark.parametrize(
    ("environment", "url", "host"),
    [
        ({}, "https://a.test", None),
        ({"HTTPS_PROXY": "p:1"}, "https://a.test", "p"),
        ({"HTTPS_PROXY": "p:1"}, "http://a.test", None),
        ({"https_proxy": "q:1", "HTTPS_PROXY": "p:1"}, "https://a.test", "q"),
        ({"ALL_PROXY": "p:1", "HTTP_PROXY": "q:1"}, "https://a.test", "p"),
        ({"ALL_PROXY": "p:1", "HTTP_PROXY": "q:1"}, "http://a.test", "q"),
        ({"HTTP_PROXY": "q:1", "REQUEST_METHOD": "GET"}, "http://a.test", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, "https://a.test", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "b.test, a.test"}, "https://a.test", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "test"}, "https://x.a.test", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": ".a.test"}, "https://x.a.test:8443", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "*.a.test"}, "https://x.a.test", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "a.test"}, "https://ba.test", "p"),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "a.test:444"}, "https://a.test", "p"),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "a.test:443"}, "https://A.test", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "https://10.2.3.4", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "https://11.2.3.4", "p"),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "::1"}, "https://[::1]:7", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "[::1]:7"}, "https://[::1]:7", None),
    ],
)
def test_proxies_are_chosen_as_everybody_does(
    environment: dict[str, str], url: str, host: str | None
) -> None:
    assert chosen(environment, url) == host


@pytest.mark.parametrize(
    "text", ["socks5://u:hidden-secret@p:1080", "http://", "http://u:hidden-secret@:1", "ht tp"]
)
def test_what_is_no_proxy_is_told_without_its_secret(text: str) -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        from_environment({"HTTPS_PROXY": text})
    assert "hidden-secret" not in str(caught.value)


async def test_certificates_that_cannot_be_used_are_told(place: Place, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("no certificate")
    for file, reason in (
        (tmp_path / "none.pem", "no certificate"),
        (tmp_path / "absent.pem", "No such file"),
    ):
        config = replace(place.config, network=NetworkConfig(ca_file=file))
        with pytest.raises(UsageError, match=reason):
            await network_of(config, {})


async def test_the_configuration_wins_over_the_environment(place: Place) -> None:
    environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.test"}
    network = await network_of(replace(place.config, network=NetworkConfig(proxy="none")), environment)
    assert network.proxy_for("https://b.test") is None
    wanted = NetworkConfig(no_proxy=("c.test",), ip="ipv4", connect_timeout=timedelta(seconds=3))
    network = await network_of(replace(place.config, network=wanted), environment)
    assert network.proxy_for("https://a.test") == Proxy("http", "p", 1)
    assert network.proxy_for("https://c.test") is None
    assert (network.source_address, network.connect_timeout) == ("0.0.0.0", 3)


def test_it_goes_to_workers_and_shows_no_password() -> None:
    network = from_environment({"HTTPS_PROXY": "http://u:very-secret@p:1"})
    assert pickle.loads(pickle.dumps(network)) == network
    assert "very-secret" not in repr(network) + str(network.describe())
    assert Network().describe()[0] == ("proxy", "none")
