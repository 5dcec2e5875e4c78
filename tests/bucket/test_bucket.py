"""What is put comes back, from two servers; what is not there, not allowed or not known says so."""

from __future__ import annotations

import functools
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirror.bucket.address import Address
from mirror.bucket.bucket import PART, Bucket
from mirror.bucket.failures import Absent, Denied
from mirror.errors import CredentialRefused, MirrorError, NoStore, TryLater
from tests.bucket.servers import ADMIN, NOBODY, READER, UPLOADER, Keys, ObjectServer, access_to
from tests.clock import FakeClock
from tests.ports import unused_port


@pytest.fixture(params=["seaweed", "moto_server"])
def server(request: pytest.FixtureRequest) -> ObjectServer:
    """Each of the two servers."""
    found: ObjectServer = request.getfixturevalue(request.param)
    return found


async def keys_of(bucket: Bucket, prefix: str = "") -> list[str]:
    return [one.key async for one in bucket.list(prefix)]


async def test_what_is_put_comes_back(server: ObjectServer, tmp_path: Path) -> None:
    large = os.urandom(PART * 2 + 12_345)
    (tmp_path / "large").write_bytes(large)
    sent: list[int] = []
    async with server.open(server.make_bucket()) as bucket:
        await bucket.put("store.json", b"{}")
        await bucket.put("blobs/ab/large", tmp_path / "large", sent=sent.append)
        await bucket.put("blobs/ab/empty", b"")
        await bucket.put("manifests/workspaces/acme~1234/000000000001.json", io.BytesIO(b"small"))
        assert bucket.requests == 3 + 2 + 3
        assert sum(sent) == len(large)
        assert await bucket.get("store.json", limit=2) == b"{}"
        assert await bucket.get("blobs/ab/empty", limit=0) == b""
        target, received = io.BytesIO(), list[int]()
        await bucket.download("blobs/ab/large", target, received=received.append)
        assert hashlib.sha256(target.getvalue()).digest() == hashlib.sha256(large).digest()
        assert sum(received) == len(large) and len(received) > 1
        found = {one.key: one.size async for one in bucket.list()}
        assert found == {
            "blobs/ab/empty": 0,
            "blobs/ab/large": len(large),
            "manifests/workspaces/acme~1234/000000000001.json": 5,
            "store.json": 2,
        }
        assert all([one.modified.tzinfo is not None async for one in bucket.list()])
        assert await keys_of(bucket, "blobs") == ["blobs/ab/empty", "blobs/ab/large"]
        assert await keys_of(bucket, "blob") == await keys_of(bucket, "runs") == []


async def test_a_bucket_without_a_prefix(server: ObjectServer) -> None:
    async with server.open(server.make_bucket(), prefix="") as bucket:
        await bucket.put("runs/one.json", b"1")
        assert await bucket.get("runs/one.json", limit=10) == b"1"
        assert await keys_of(bucket) == ["runs/one.json"]


async def test_other_prefixes_are_not_seen(server: ObjectServer) -> None:
    name = server.make_bucket()
    async with server.open(name, prefix="p") as one, server.open(name, prefix="p2/deep") as other:
        await one.put("store.json", b"one")
        await other.put("store.json", b"other")
        assert await keys_of(one) == await keys_of(other) == ["store.json"]
        assert await other.get("store.json", limit=10) == b"other"


async def test_many_keys_come_in_pages(seaweed: ObjectServer) -> None:
    name, client = seaweed.make_bucket(), seaweed.client()
    with ThreadPoolExecutor(8) as threads:
        put = functools.partial(client.put_object, Bucket=name, Body=b"")
        for made in [threads.submit(put, Key=f"p/k/{number:04}") for number in range(1005)]:
            made.result()
    async with seaweed.open(name) as bucket:
        assert await keys_of(bucket, "k") == [f"k/{number:04}" for number in range(1005)]
        assert bucket.requests == 2
        late = [one.key async for one in bucket.list("k", after="k/1001")]
        assert late == ["k/1002", "k/1003", "k/1004"] and bucket.requests == 3
        assert [one.key async for one in bucket.list("k", after="k/1003-none")] == ["k/1004"]
        assert [one.key async for one in bucket.list("k", after="k/1004")] == []


async def test_what_is_larger_than_expected_is_refused(server: ObjectServer) -> None:
    async with server.open(server.make_bucket()) as bucket:
        await bucket.put("x", b"12345")
        with pytest.raises(MirrorError, match="x has 5 bytes, more than the 4 expected"):
            await bucket.get("x", limit=4)


async def test_a_file_is_sent_from_where_it_stands(server: ObjectServer) -> None:
    stream = io.BytesIO(b"headrest")
    stream.seek(4)
    async with server.open(server.make_bucket()) as bucket:
        await bucket.put("x", stream)
        assert await bucket.get("x", limit=10) == b"rest"


async def test_what_is_not_there_is_absent(server: ObjectServer) -> None:
    async with server.open(server.make_bucket()) as bucket:
        with pytest.raises(Absent, match="there is no manifests/x"):
            await bucket.get("manifests/x", limit=10)
        assert await keys_of(bucket) == []


@pytest.mark.parametrize("keys", [UPLOADER, READER])
async def test_a_missing_bucket_is_no_store(seaweed: ObjectServer, keys: Keys) -> None:
    async with seaweed.open("no-such-bucket", keys) as bucket:
        with pytest.raises(NoStore, match="s3://no-such-bucket/p: there is no such bucket"):
            await bucket.get("x", limit=10)


async def test_a_missing_bucket_is_no_store_whatever_is_tried(moto_server: ObjectServer) -> None:
    async with moto_server.open("no-such-bucket") as bucket:
        for attempt in (bucket.get("x", limit=1), bucket.put("x", b"1"), keys_of(bucket)):
            with pytest.raises(NoStore, match="s3://no-such-bucket/p: there is no such bucket"):
                await attempt


@pytest.mark.parametrize("keys", [NOBODY, Keys(ADMIN.key, "wrong-secret-0000000000000")])
async def test_a_wrong_key_is_refused_and_not_repeated(seaweed: ObjectServer, keys: Keys) -> None:
    async with seaweed.open(seaweed.make_bucket(), keys) as bucket:
        for attempt in (bucket.get("x", limit=1), bucket.put("x", b"1"), keys_of(bucket)):
            with pytest.raises(CredentialRefused) as caught:
                await attempt
            assert keys.secret not in str(caught.value) and "http" not in str(caught.value)


async def test_who_may_not_list_or_put_is_denied(seaweed: ObjectServer) -> None:
    name = seaweed.make_bucket()
    async with seaweed.open(name) as bucket:
        await bucket.put("x", b"1")
    async with seaweed.open(name, READER) as bucket:
        assert await bucket.get("x", limit=1) == b"1"
        with pytest.raises(Denied, match="listing it is denied: AccessDenied"):
            await keys_of(bucket)
        with pytest.raises(Denied, match="writing y is denied: AccessDenied"):
            await bucket.put("y", b"1")


async def test_an_uploader_may_put_large_objects_too(seaweed: ObjectServer) -> None:
    data = os.urandom(PART + 1)
    async with seaweed.open(seaweed.make_bucket(), UPLOADER) as bucket:
        await bucket.put("x", io.BytesIO(data))
        assert await bucket.get("x", limit=len(data)) == data


async def test_a_dead_endpoint_is_tried_again_and_then_later() -> None:
    access = access_to(f"http://127.0.0.1:{unused_port()}")
    async with Bucket(Address("s3", "bucket", "p"), access, clock=FakeClock()) as bucket:
        for attempt in (bucket.get("x", limit=1), bucket.put("x", b"1"), keys_of(bucket)):
            with pytest.raises(TryLater, match=r"s3://bucket/p: .* failed"):
                await attempt


async def test_bandwidth_is_kept_over_all_uploads(seaweed: ObjectServer) -> None:
    clock = FakeClock()
    address = Address("s3", seaweed.make_bucket(), "p")
    async with Bucket(address, seaweed.access(), clock=clock, bandwidth=1 << 20) as bucket:
        await bucket.put("a", bytes(3 << 20))
        assert clock.elapsed == 0
        await bucket.put("b", io.BytesIO(bytes(2 * PART + (1 << 20))))
        assert clock.elapsed == 3 + 2 * PART // (1 << 20)
