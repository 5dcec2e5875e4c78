"""Retention of what is in use is extended, at most every third of the time, and goes on after a kill."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mirror.bucket.bucket import Bucket
from tests.bucket.servers import ObjectServer
from tests.copy.conftest import Stores
from tests.copy.copies import Copies
from tests.copy.remote import PREFIX, objects_of


@pytest.fixture
def copies(stores: Stores, moto_server: ObjectServer, tmp_path: Path) -> Copies:
    shutil.copytree(stores.now, tmp_path / "store")
    bucket = moto_server.make_bucket(locked=True)
    return Copies(tmp_path / "store", moto_server, bucket, more={"protect": "90d"})


def retained(copies: Copies) -> dict[str, datetime]:
    """Until when each object is retained."""
    found = {}
    for key in objects_of(copies.server, copies.bucket):
        head = copies.server.client().head_object(Bucket=copies.bucket, Key=f"{PREFIX}/{key}")
        if "ObjectLockRetainUntilDate" in head:
            found[key] = head["ObjectLockRetainUntilDate"]
    return found


async def test_the_version_that_a_restore_takes_after_an_attack_is_retained(copies: Copies) -> None:
    """A thief wrote over what was sent, and deleted it: what stands there now is not what is needed."""
    client = copies.server.client()
    del copies.more["protect"]
    assert (await copies.make()).exit_code == 0
    sent = {key: version_of(copies, key) for key in objects_of(copies.server, copies.bucket)}
    blobs = [key for key in sent if key.startswith("blobs/")]
    for key, body in [*((key, b"noise") for key in sent), *((key, b"noise again") for key in blobs)]:
        if key != "store.json":
            client.put_object(Bucket=copies.bucket, Key=f"{PREFIX}/{key}", Body=body)
    for key in blobs[::2]:
        client.delete_object(Bucket=copies.bucket, Key=f"{PREFIX}/{key}")
    copies.more["protect"] = "90d"
    run = await copies.make()
    assert run.exit_code == 0 and "lost" not in run.facts["protected"]
    for key, version in sent.items():
        head = client.head_object(Bucket=copies.bucket, Key=f"{PREFIX}/{key}", VersionId=version)
        assert "ObjectLockRetainUntilDate" in head, key


def version_of(copies: Copies, key: str) -> str:
    head = copies.server.client().head_object(Bucket=copies.bucket, Key=f"{PREFIX}/{key}")
    return str(head["VersionId"])


async def test_what_is_not_there_cannot_be_retained_and_is_told(copies: Copies) -> None:
    copies.bucket = copies.server.make_bucket(locked=True)
    del copies.more["protect"]
    await copies.make()
    client = copies.server.client()
    blob = next(key for key in objects_of(copies.server, copies.bucket) if key.startswith("blobs/"))
    client.delete_object(Bucket=copies.bucket, Key=f"{PREFIX}/{blob}", VersionId=version_of(copies, blob))
    copies.more["protect"] = "90d"
    run = await copies.make()
    assert run.exit_code == 3 and blob in run.problems[0].text
    run = await copies.make()
    assert run.exit_code == 3 and run.problems[0].text.endswith("it was sent again")
    assert (await copies.make()).exit_code == 0


async def test_all_that_is_in_use_is_retained(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    extend, count = Bucket.extend, 0

    async def some(self: Bucket, key: str, version: str | None, until: datetime) -> None:
        nonlocal count
        count += 1
        if count > 12:
            raise OSError("gone")
        await extend(self, key, version, until)

    monkeypatch.setattr(Bucket, "extend", some)
    first = await copies.make()
    assert first.exit_code == 1 and first.facts["covers"], "the copy itself is good"
    monkeypatch.undo()
    before = retained(copies)
    second = await copies.make()
    assert second.exit_code == 0
    after = retained(copies)
    # It goes on where it was: of twelve that began, at most five had not ended when one failed.
    assert len(after) - len(before) <= second.facts["protected"]["objects"] <= len(after) - 7
    objects = objects_of(copies.server, copies.bucket)
    assert after.keys() == objects.keys()
    assert {time - copies.clock.now() for time in after.values()} <= {
        timedelta(days=90) - timedelta(seconds=60)
    }
    # Not before a third of the time is over.
    copies.clock.elapsed += timedelta(days=29).total_seconds()
    assert (await copies.make()).facts["protected"]["objects"] == 0
    copies.clock.elapsed += timedelta(days=2).total_seconds()
    third = await copies.make()
    assert third.facts["protected"]["objects"] == len(objects_of(copies.server, copies.bucket))
    assert min(retained(copies).values()) > max(after.values())
