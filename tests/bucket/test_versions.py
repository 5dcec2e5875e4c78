"""What was overwritten or deleted is found again, and locks are read, kept and extended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mirror.bucket import versions
from mirror.bucket.address import Address
from mirror.bucket.bucket import Bucket
from mirror.bucket.failures import Denied
from mirror.bucket.versions import LockState
from mirror.errors import CredentialRefused, NoStore, TryLater, UsageError
from tests.bucket.servers import (
    NOBODY,
    PROTECTOR,
    RESTORER,
    UPLOADER,
    ObjectServer,
    access_to,
)
from tests.clock import FakeClock
from tests.ports import unused_port


@pytest.fixture(params=["seaweed", "moto_server"])
def server(request: pytest.FixtureRequest) -> ObjectServer:
    """Each of the two servers."""
    found: ObjectServer = request.getfixturevalue(request.param)
    return found


async def test_every_version_is_listed_and_read(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PAGE", 2)
    name = server.make_bucket(locked=True, days=1)
    async with server.open(name) as bucket, server.open(name, prefix="p2") as other:
        for text in (b"1", b"22", b"333"):
            await bucket.put("blobs/a", text)
        await bucket.put("blobs/a.age", b"4444")
        await bucket.put("runs/r", b"r")
        await bucket.delete("blobs/a")
        await other.put("blobs/x", b"x")
        found = [one async for one in bucket.versions()]
        assert [(one.key, one.is_deleted) for one in found] == [
            ("blobs/a", True), ("blobs/a", False), ("blobs/a", False), ("blobs/a", False),
            ("blobs/a.age", False), ("runs/r", False),
        ]  # fmt: skip
        assert [one.is_latest for one in found] == [True, False, False, False, True, True]
        assert [one.size for one in found if not one.is_deleted] == [3, 2, 1, 4, 1]
        texts = [await bucket.get(one.key, version=one.version, limit=9) for one in found[1:4]]
        assert texts == [b"333", b"22", b"1"]
        assert [one.key async for one in bucket.versions("blobs/a")] == ["blobs/a"] * 4
        assert [one.key async for one in bucket.versions("runs")] == ["runs/r"]
        assert [one.key async for one in bucket.list()] == ["blobs/a.age", "runs/r"]


async def test_a_thief_with_the_uploaders_key_takes_nothing_away(seaweed: ObjectServer) -> None:
    name = seaweed.make_bucket(locked=True, days=1)
    async with seaweed.open(name, UPLOADER) as bucket:
        await bucket.put("x", b"good")
        await bucket.put("x", b"evil")
        with pytest.raises(Denied, match="deleting x is denied"):
            await bucket.delete("x")
        with pytest.raises(Denied, match="listing versions"):
            [one async for one in bucket.versions()]
    async with seaweed.open(name) as bucket:
        every = [one async for one in bucket.versions("x")]
        with pytest.raises(Denied, match="deleting a version of x is denied"):
            await bucket.delete("x", version=every[1].version)
    async with seaweed.open(name, RESTORER) as bucket:
        assert await bucket.get("x", version=every[1].version, limit=4) == b"good"


async def test_without_a_lock_a_version_can_be_deleted(server: ObjectServer) -> None:
    async with server.open(server.make_bucket(locked=True)) as bucket:
        await bucket.put("x", b"1")
        await bucket.put("x", b"2")
        newest, oldest = [one async for one in bucket.versions()]
        await bucket.delete("x", version=newest.version)
        assert [one.version async for one in bucket.versions()] == [oldest.version]
        assert await bucket.get("x", limit=1) == b"1"


async def test_the_state_of_locks_is_read(server: ObjectServer) -> None:
    wanted = {
        server.make_bucket(): LockState(False, False),
        server.make_bucket(locked=True): LockState(True, False),
        server.make_bucket(locked=True, days=30): LockState(True, True, "compliance", 30),
    }
    for name, state in wanted.items():
        async with server.open(name) as bucket:
            assert await bucket.lock_state() == state


async def test_what_may_not_be_read_is_unknown_and_says_why(seaweed: ObjectServer) -> None:
    name = seaweed.make_bucket(locked=True, days=30)
    async with seaweed.open(name, UPLOADER) as bucket:
        state = await bucket.lock_state()
    assert (state.versioning, state.has_default, state.days) == (None, None, None)
    assert state.unknown == (
        "whether versions are kept: this credential may not read it (AccessDenied)",
        "whether objects are retained: this credential may not read it (AccessDenied)",
    )
    async with seaweed.open(name, RESTORER) as bucket:
        assert await bucket.lock_state() == LockState(True, True, "compliance", 30)


async def test_the_state_of_other_providers_is_unknown() -> None:
    for scheme, name in (("gs", "Google Cloud Storage"), ("az", "Azure Blob Storage")):
        access = access_to("https://storage.example.org")
        bucket = Bucket(Address(scheme, "bucket", "p"), access, clock=FakeClock())
        state = await bucket.lock_state()
        assert (state.versioning, state.has_default) == (None, None) and name in state.unknown[0]
        with pytest.raises(UsageError, match=f"versions and locks of {name}"):
            await bucket.extend("x", None, datetime.now(UTC))


async def test_retention_is_extended_and_never_shortened(server: ObjectServer) -> None:
    name = server.make_bucket(locked=True, days=1)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=90)

    def retained(version: str | None) -> datetime:
        found = server.client().head_object(Bucket=name, Key="p/x", VersionId=version)
        date: datetime = found["ObjectLockRetainUntilDate"]
        return date.astimezone(UTC)

    async with server.open(name, PROTECTOR) as bucket:
        await bucket.put("x", b"1")
        await bucket.put("x", b"2")
        newest, oldest = [one async for one in bucket.versions()]
        await bucket.extend("x", oldest.version, until)
        assert retained(oldest.version) == until > retained(newest.version)
        await bucket.extend("x", None, until)
        assert retained(newest.version) == until
        await bucket.extend("x", oldest.version, until)


async def test_a_lock_that_lasts_longer_stays(seaweed: ObjectServer) -> None:
    name = seaweed.make_bucket(locked=True, days=30)
    async with seaweed.open(name, PROTECTOR) as bucket:
        await bucket.put("x", b"1")
        await bucket.extend("x", None, datetime.now(UTC) + timedelta(days=10))
        found = seaweed.client().get_object_retention(Bucket=name, Key="p/x")["Retention"]
        assert found["RetainUntilDate"] > datetime.now(UTC) + timedelta(days=20)


async def test_who_may_not_protect_is_denied(seaweed: ObjectServer) -> None:
    async with seaweed.open(seaweed.make_bucket(locked=True, days=1), UPLOADER) as bucket:
        await bucket.put("x", b"1")
        with pytest.raises(Denied, match="protecting x is denied"):
            await bucket.extend("x", None, datetime.now(UTC) + timedelta(days=10))


async def test_boto3_has_the_same_errors(seaweed: ObjectServer) -> None:
    async with seaweed.open("no-such-bucket") as bucket:
        with pytest.raises(NoStore, match="there is no such bucket"):
            [one async for one in bucket.versions()]
    async with seaweed.open(seaweed.make_bucket(), NOBODY) as bucket:
        for attempt in (bucket.lock_state(), bucket.extend("x", None, datetime.now(UTC))):
            with pytest.raises(CredentialRefused) as caught:
                await attempt
            assert NOBODY.secret not in str(caught.value)
    access = access_to(f"http://127.0.0.1:{unused_port()}")
    async with Bucket(Address("s3", "bucket", "p"), access, clock=FakeClock()) as bucket:
        with pytest.raises(TryLater, match="EndpointConnectionError"):
            await bucket.lock_state()


async def test_a_key_that_is_no_path_does_not_end_a_list(moto_server: ObjectServer) -> None:
    name = moto_server.make_bucket()
    async with moto_server.open(name) as bucket:
        for key in ("blobs/a", "blobs/n", "blobs/z"):
            await bucket.put(key, b"1")
        for key in ("p/blobs/b//evil", "p/blobs/../up", "p/blobs/o%41/é"):
            moto_server.client().put_object(Bucket=name, Key=key, Body=b"")
        found = [one.key async for one in bucket.list("blobs")]
        assert [one for one in found if one in ("blobs/a", "blobs/n", "blobs/z")] == [
            "blobs/a", "blobs/n", "blobs/z",
        ]  # fmt: skip
        assert len(found) == len(set(found))
        late = [one.key async for one in bucket.list("blobs", after="blobs/a")]
        assert late == [one for one in found if one > "blobs/a"]
