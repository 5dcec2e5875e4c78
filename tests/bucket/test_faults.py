"""What AWS demands of uploads, and what happens where a server fails, hangs, lies or points elsewhere."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.bucket.access import RETRIES, Access
from mirror.bucket.address import Address
from mirror.bucket.bucket import PART, Bucket
from mirror.bucket.failures import Absent, Denied
from mirror.errors import CredentialRefused, MirrorError, NoStore, TryLater, UsageError
from mirror.http.network import Network
from mirror.http.proxies import Proxy
from tests.bucket.servers import ADMIN, access_to
from tests.bucket.strict import Answer, StrictStore, refusal
from tests.clock import FakeClock
from tests.http.proxy import HttpProxy, make_certificates

HERE = Address("s3", "bucket", "p")


@pytest.fixture
def strict() -> Iterator[StrictStore]:
    """A store of its own for each test."""
    with StrictStore() as store:
        yield store


def opened(access: Access) -> Bucket:
    return Bucket(HERE, access, clock=FakeClock())


async def keys_of(bucket: Bucket) -> list[str]:
    return [one.key async for one in bucket.list()]


async def test_every_upload_has_the_checksum_that_object_lock_demands(strict: StrictStore) -> None:
    large = os.urandom(2 * PART + 1)
    async with opened(access_to(strict.endpoint)) as bucket:
        await bucket.put("small", b"1")
        await bucket.put("empty", b"")
        await bucket.put("large", io.BytesIO(large))
    assert strict.objects == {
        "/bucket/p/small": b"1", "/bucket/p/empty": b"", "/bucket/p/large": large,
    }  # fmt: skip
    assert [one.method for one in strict.asked].count("PUT") == 2 + 3
    assert all("mirror/" in one.headers["user-agent"] for one in strict.asked)


async def test_keys_from_elsewhere_are_not_used(strict: StrictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-something-else")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with opened(access_to(strict.endpoint)) as bucket:
        await bucket.put("x", b"1")
        await bucket.lock_state()
    assert all(f"Credential={ADMIN.key}/" in one.headers["authorization"] for one in strict.asked)
    assert not [one for one in strict.asked if "x-amz-security-token" in one.headers]


async def test_a_busy_server_is_asked_again(strict: StrictStore) -> None:
    async with opened(access_to(strict.endpoint)) as bucket:
        strict.faults = [refusal(503, "SlowDown"), refusal(500, "InternalError")]
        await bucket.put("x", b"1")
        strict.faults = [refusal(503, "SlowDown")]
        assert await bucket.get("x", limit=1) == b"1"


async def test_a_server_that_stays_busy_is_for_later(strict: StrictStore) -> None:
    strict.faults = [refusal(503, "SlowDown")] * 100
    async with opened(access_to(strict.endpoint)) as bucket:
        for attempt in (bucket.put("x", b"1"), bucket.get("x", limit=1), keys_of(bucket)):
            before = len(strict.asked)
            with pytest.raises(TryLater, match="SlowDown: Told by the test"):
                await attempt
            assert len(strict.asked) - before == 1 + RETRIES


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchBucket", NoStore),
        (404, "NoSuchKey", Absent),
        (403, "AccessDenied", Denied),
        (403, "InvalidAccessKeyId", CredentialRefused),
        (403, "SignatureDoesNotMatch", CredentialRefused),
        (400, "ExpiredToken", CredentialRefused),
        (403, "RequestTimeTooSkewed", TryLater),
        (400, "AuthorizationHeaderMalformed", UsageError),
        (301, "PermanentRedirect", UsageError),
        (400, "EntityTooLarge", MirrorError),
    ],
)
async def test_a_refusal_is_what_it_says(
    strict: StrictStore, status: int, code: str, kind: type[MirrorError]
) -> None:
    strict.faults = [refusal(status, code)] * 3
    async with opened(access_to(strict.endpoint)) as bucket:
        for attempt in (bucket.get("x", limit=1), bucket.delete("x")):
            with pytest.raises(kind) as caught:
                await attempt
            assert type(caught.value) is kind
            assert str(caught.value).startswith("s3://bucket/p: ")
            assert "http:" not in str(caught.value) and "<" not in str(caught.value)


async def test_where_nothing_can_be_put_there_is_no_bucket(strict: StrictStore) -> None:
    strict.faults = [Answer(404)] * 3
    async with opened(access_to(strict.endpoint)) as bucket:
        for attempt in (bucket.put("x", b"1"), bucket.put("x", io.BytesIO(bytes(PART + 1))), keys_of(bucket)):
            with pytest.raises(NoStore, match="there is no such bucket"):
                await attempt


async def test_a_download_that_ends_too_early_is_for_later(strict: StrictStore) -> None:
    data = os.urandom(3 << 20)
    strict.objects["/bucket/p/x"] = data
    strict.faults = [Answer(body=data, cut=1 << 20)] * 100
    async with opened(access_to(strict.endpoint)) as bucket:
        with pytest.raises(TryLater, match="reading x failed"):
            await bucket.download("x", io.BytesIO())
        with pytest.raises(TryLater, match="reading x failed"):
            await bucket.get("x", limit=len(data))


async def test_a_silent_server_is_given_up(strict: StrictStore) -> None:
    held = threading.Event()
    strict.faults = [Answer(after=held.wait)] * 20
    try:
        async with opened(access_to(strict.endpoint, silence=0.1)) as bucket:
            with pytest.raises(TryLater, match="reading x failed"):
                await bucket.get("x", limit=1)
            with pytest.raises(TryLater, match="Timeout"):
                await bucket.lock_state()
    finally:
        held.set()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_leads_to_no_other_host(strict: StrictStore, status: int) -> None:
    with StrictStore() as other:
        elsewhere = {"location": f"http://localhost:{other.port}/bucket/p/x"}
        strict.faults = [Answer(status, headers=elsewhere)] * 100
        access = replace(access_to(strict.endpoint), token="session-token-000")
        async with opened(access) as bucket:
            for attempt in (
                bucket.get("x", limit=1), bucket.put("x", b"1"), bucket.put("x", io.BytesIO(bytes(PART + 1))),
                keys_of(bucket), bucket.delete("x"), bucket.lock_state(),
            ):  # fmt: skip
                with pytest.raises(MirrorError):
                    await attempt
        assert other.asked == [] and strict.asked


async def test_nor_does_one_with_keys_of_the_providers_chain(
    strict: StrictStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their session token is in a header that the client would not take off."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", f"{name}-00000000")
    with StrictStore() as other:
        strict.faults = [Answer(307, headers={"location": f"http://localhost:{other.port}/b/p/x"})] * 100
        async with opened(replace(access_to(strict.endpoint), key=None, secret=None)) as bucket:
            with pytest.raises(MirrorError):
                await bucket.get("x", limit=1)
        assert [asked.headers["x-amz-security-token"] for asked in strict.asked[:1]]
        assert other.asked == []


async def test_a_source_that_breaks_off_stores_nothing(strict: StrictStore) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= PART:
                raise OSError(5, "Input/output error")
            return super().read(size)

    async with opened(access_to(strict.endpoint)) as bucket:
        with pytest.raises(OSError, match="Input/output error"):
            await bucket.put("x", Broken(bytes(3 * PART)))
        assert strict.objects == {}
        strict.faults = [None, None, refusal(403, "AccessDenied")]  # the parts may not even be given up
        with pytest.raises(OSError, match="Input/output error"):
            await bucket.put("x", Broken(bytes(3 * PART)))
    assert strict.objects == {}


async def test_a_proxy_with_a_password_and_an_authority_of_ones_own(
    strict: StrictStore, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path, "s3.example.org")
    hosts = {"s3.example.org": strict.port}
    with HttpProxy(hosts, certificates, user="me", password="proxy-pass-word") as proxy:
        through = Proxy("http", "127.0.0.1", proxy.port, "me", "proxy-pass-word")
        network = Network(https_proxy=through, ca_file=str(certificates.authority), pause=0.01)
        access = Access("https://s3.example.org", "us-east-1", ADMIN.key, ADMIN.secret, network=network)
        async with opened(access) as bucket:
            await bucket.put("x", b"1")
            assert await bucket.get("x", limit=1) == b"1"
            await bucket.lock_state()
        assert set(proxy.asked) == {"CONNECT s3.example.org:443"}
        wrong = replace(network, https_proxy=replace(through, password="another-pass-word"))
        async with opened(replace(access, network=wrong)) as bucket:
            for attempt in (bucket.get("x", limit=1), bucket.lock_state()):
                with pytest.raises(TryLater) as caught:
                    await attempt
                assert "another-pass-word" not in str(caught.value)
        unknown = replace(network, ca_file=None)
        async with opened(replace(access, network=unknown)) as bucket:
            with pytest.raises(TryLater):
                await bucket.get("x", limit=1)
    assert "/bucket/p/x" in strict.objects


@pytest.mark.parametrize("name", ["obstore", "boto3"])
async def test_a_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for one in [one for one in sys.modules if one.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, one)
    monkeypatch.setitem(sys.modules, name, None)
    extra = {"obstore": "copy", "boto3": "lock"}[name]
    with pytest.raises(UsageError, match=f"need {name}, which is not installed") as caught:
        async with opened(access_to("http://127.0.0.1:1")) as bucket:
            await bucket.lock_state()
    assert f"pip install '.[{extra}]'" in str(caught.value.hint)
