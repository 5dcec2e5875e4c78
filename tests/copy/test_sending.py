"""A copy run sends what is new, and what stands in the bucket is a store."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mirror.bucket.bucket import Bucket
from mirror.bucket.failures import Denied
from mirror.copy import sending
from mirror.copy.memory import memory_of
from mirror.errors import TryLater
from mirror.store.writing.locks import hold
from tests.bucket.servers import NOBODY, UPLOADER, ObjectServer
from tests.copy.conftest import Stores
from tests.copy.copies import Copies
from tests.copy.remote import PREFIX, objects_of, tree


@pytest.fixture
def copies(stores: Stores, seaweed: ObjectServer, tmp_path: Path) -> Copies:
    shutil.copytree(stores.now, tmp_path / "store")
    return Copies(tmp_path / "store", seaweed, seaweed.make_bucket(), UPLOADER)


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_first_nothing_changed_and_a_change(
    copies: Copies, stores: Stores, tmp_path: Path, is_encrypted: bool
) -> None:
    if is_encrypted:
        copies.encrypt(tmp_path)
    before = tree(copies.store)
    first = await copies.make()
    assert first.all_problems == ()
    folders = first.facts["folders"]["copied"]
    assert folders == 5
    assert copies.there().rebuild(tmp_path / "a")
    assert tree(tmp_path / "a") == before
    assert not list((copies.store / "tmp").glob("copying-*"))

    # Only store.json is asked for; the record of the first copy goes up.
    again = await copies.make()
    assert again.facts["folders"] == {"copied": 0, "unchanged": folders, "failed": 0}
    assert again.facts["requests"] <= 3
    third = await copies.make()
    assert third.facts["requests"] == 2, "store.json, and the record of the second copy"

    stores.put(stores.later, copies.store)
    changed = await copies.make()
    assert changed.facts["folders"] == {"copied": 1, "unchanged": folders - 1, "failed": 0}
    # A bundle, a pack, a manifest, and the records and list of two runs.
    assert changed.facts["objects"] <= 3 + 4 < first.facts["objects"]
    await copies.sound(tmp_path / "b")
    assert changed.facts["covers"] in {path.stem for path in (tmp_path / "b" / "runs").glob("*.json")}
    if is_encrypted:
        secret = (b"website", b"acme", b"code.git", b"refs/heads")
        for key, data in objects_of(copies.server, copies.bucket).items():
            assert not any(word in key.encode() or word in data for word in secret), key


async def test_what_is_tried_is_not_done(copies: Copies, stores: Stores) -> None:
    dry = await copies.make(dry_run=True)
    assert dry.facts["folders"]["untried"] == 5 and dry.facts["bytes_to_send"] > 0
    assert objects_of(copies.server, copies.bucket) == {}
    first = await copies.make()
    assert first.facts["bytes"] <= 2 * dry.facts["bytes_to_send"]
    assert (await copies.make(dry_run=True)).facts["bytes_to_send"] == 0
    stores.put(stores.later, copies.store)
    there = objects_of(copies.server, copies.bucket)
    assert [one.full_name for one in (await copies.make(dry_run=True)).entries] == ["acme/website"]
    assert objects_of(copies.server, copies.bucket) == there


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_lost_memory_costs_a_listing_and_not_the_blobs(
    copies: Copies, tmp_path: Path, is_encrypted: bool
) -> None:
    if is_encrypted:
        copies.encrypt(tmp_path)
    first = await copies.make()
    blobs = {key for key in objects_of(copies.server, copies.bucket) if key.startswith("blobs/")}
    shutil.rmtree(copies.store / "cache")
    again = await copies.make()
    assert again.exit_code == 0
    there = copies.there()
    assert {key for key in there.objects if key.startswith("blobs/")} == blobs
    # Nobody without the key can tell that nothing changed: then there are new manifests, and nothing else.
    assert again.facts["folders"]["copied"] == (5 if is_encrypted else 0)
    assert again.facts["objects"] <= 5 + 1 + 2 < first.facts["objects"]
    await copies.sound(tmp_path / "a")
    assert (await copies.make()).facts["folders"]["unchanged"] == 5


async def test_what_was_lost_there_is_sent_again(copies: Copies, tmp_path: Path) -> None:
    await copies.make()
    client = copies.server.client()
    objects = objects_of(copies.server, copies.bucket)
    lost = [key for key in objects if key.startswith("blobs/")][::3]
    lost += [key for key in objects if "website" in key]
    for key in lost:
        client.delete_object(Bucket=copies.bucket, Key=f"{PREFIX}/{key}")
    memory_of(copies.store, copies.config.address).doubt()
    tried = await copies.make(dry_run=True)
    assert tried.problems[0].text.endswith("it would be sent again")
    run = await copies.make()
    assert run.exit_code == 3 and run.problems[0].text.endswith("it was sent again")
    [website] = [one for one in run.entries if one.full_name == "acme/website"]
    assert "manifests/" in website.problems[0].text
    await copies.sound(tmp_path / "a")
    # All of it, and what stood there before: another copy is begun.
    for key in objects_of(copies.server, copies.bucket):
        client.delete_object(Bucket=copies.bucket, Key=f"{PREFIX}/{key}")
    run = await copies.make()
    assert run.exit_code == 3 and "begun anew" in run.problems[0].text
    await copies.sound(tmp_path / "b")


async def test_another_host_that_writes_there_is_noticed(
    copies: Copies, stores: Stores, tmp_path: Path
) -> None:
    await copies.make()
    shutil.copytree(copies.store, tmp_path / "other")
    other = Copies(tmp_path / "other", copies.server, copies.bucket)
    for one in (copies, other):
        stores.put(stores.later, one.store)
    assert (await other.make()).exit_code == 0
    before = {
        key: data for key, data in objects_of(copies.server, copies.bucket).items() if "manifests" in key
    }
    assert (await copies.make()).exit_code == 0
    after = objects_of(copies.server, copies.bucket)
    assert {key: after[key] for key in before} == before, "no manifest is ever written over"
    await copies.sound(tmp_path / "a")


async def test_a_copy_is_of_one_store_and_written_in_one_way(copies: Copies, tmp_path: Path) -> None:
    await copies.make()
    encrypted = Copies(copies.store, copies.server, copies.bucket)
    encrypted.encrypt(tmp_path)
    run = await encrypted.make()
    assert run.exit_code == 2 and "not encrypted" in run.problems[0].text and "folders" not in run.facts
    from mirror.store.writing.writer import create_or_open

    create_or_open(tmp_path / "fresh", now=copies.clock.now()).close()
    run = await Copies(tmp_path / "fresh", copies.server, copies.bucket).make()
    assert run.exit_code == 2 and "another store" in run.problems[0].text
    copies.encrypt(tmp_path)
    copies.bucket = copies.server.make_bucket()
    assert (await copies.make()).exit_code == 0
    (tmp_path / "names").write_text("f" * 32)
    run = await copies.make()
    assert run.exit_code == 2 and "names_key" in run.problems[0].text


async def test_faults_have_their_kind_and_are_recorded(copies: Copies) -> None:
    good = copies.bucket
    copies.bucket = "b-no-such-bucket"
    assert (await copies.make()).exit_code == 10
    copies.bucket, copies.keys = good, NOBODY
    run = await copies.make()
    assert run.exit_code == 12 and copies.keys.secret not in str(run)
    assert "folders" not in run.facts and "covers" not in run.facts
    assert len(list((copies.store / "runs").glob("*.json"))) >= 2


async def test_denied_in_the_middle_vouches_for_nothing(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, count = Bucket.put, 0

    async def some(self: Bucket, key: str, source: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count > 4:
            raise Denied("no more")
        await put(self, key, source, **more)

    monkeypatch.setattr(Bucket, "put", some)
    run = await copies.make()
    assert run.exit_code == 1 and run.facts["folders"]["untried"] > 0 and "covers" not in run.facts
    there = copies.there()
    there.check_whole()
    assert not there.rebuild(tmp_path / "a") and not [key for key in there.objects if key.startswith("runs/")]
    monkeypatch.undo()
    assert (await copies.make()).exit_code == 0
    await copies.sound(tmp_path / "b")


async def test_a_dead_endpoint_ends_the_run(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def none(self: Bucket, key: str, source: Any, **more: Any) -> None:
        tried.append(key)
        raise TryLater("not now")

    await copies.make()
    shutil.rmtree(copies.store / "cache")
    copies.bucket = copies.server.make_bucket()
    put = Bucket.put
    monkeypatch.setattr(
        Bucket,
        "put",
        lambda self, key, *rest, **more: (put if key == "store.json" else none)(self, key, *rest, **more),
    )
    run = await copies.make()
    assert run.exit_code == 75 and run.facts["folders"]["failed"] >= 3


async def test_without_hard_links(copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    assert (await copies.make()).exit_code == 0
    await copies.sound(tmp_path / "a")


async def test_damage_is_not_copied_over_what_is_good(copies: Copies, stores: Stores, tmp_path: Path) -> None:
    await copies.make()
    stores.put(stores.later, copies.store)
    ledger = next(copies.store.glob("workspaces/*/repositories/website~*/snapshots.json"))
    data = ledger.read_bytes()
    ledger.write_bytes(data.replace(b"true", b"TRUE", 1) if b"true" in data else data[:-3])
    run = await copies.make()
    assert run.exit_code == 4 and [one.full_name for one in run.entries] == ["acme/website"]
    assert "covers" not in run.facts and run.facts["covers_number"] > 0
    await copies.sound(tmp_path / "a")
    ledger.write_bytes(data)
    assert (await copies.make()).exit_code == 0
    await copies.sound(tmp_path / "b")


async def test_a_large_file_that_changes_is_never_sent_whole(
    copies: Copies, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place, which no writer does: while it goes up, after it was hashed."""
    stores.put(stores.later, copies.store)
    large = max(copies.store.glob("workspaces/*/repositories/*/*.git/objects/pack/*.pack"), key=size_of)
    assert size_of(large) > 256 << 10
    put = Bucket.put

    async def meddled(self: Bucket, key: str, source: Any, **more: Any) -> None:
        with large.open("r+b") as stream:
            stream.seek(1000)
            stream.write(os.urandom(8))
        await put(self, key, source, **more)

    monkeypatch.setattr(Bucket, "put", meddled)
    run = await copies.make()
    assert run.exit_code == 1 and any("changed while" in one.text for one in run.all_problems)
    copies.there().check_whole()


def size_of(path: Path) -> int:
    return path.stat().st_size


async def test_foreign_files_are_told_every_time(copies: Copies) -> None:
    folder = next(copies.store.glob("workspaces/*/repositories/website~*"))
    (folder / "my notes.txt").write_text("mine")
    (folder / "link").symlink_to("/etc/passwd")
    for _ in range(2):
        run = await copies.make()
        assert (
            run.exit_code == 3 and "my notes.txt" in run.problems[0].text and "link" in run.problems[0].text
        )
        assert run.facts["covers"]


async def test_a_busy_folder_is_waited_for(copies: Copies) -> None:
    folder = next(copies.store.glob("workspaces/*/repositories/website~*"))
    async with hold(folder / "lock", what="it", command="test", wait=0, clock=copies.clock):
        run = await copies.make(lock_wait=5)
        assert run.exit_code == 11 and run.facts["folders"] == {"copied": 4, "unchanged": 0, "failed": 1}
        assert copies.clock.slept
    assert (await copies.make()).exit_code == 0


async def test_two_runs_to_one_address(copies: Copies) -> None:
    memory = memory_of(copies.store, copies.config.address)
    memory.prepare()
    async with hold(memory.lock_path, what="it", command="test", wait=0, clock=copies.clock):
        assert (await copies.make()).exit_code == 11
    other = Copies(copies.store, copies.server, copies.server.make_bucket())
    runs = await asyncio.gather(copies.make(lock_wait=60), other.make(lock_wait=60))
    assert [run.exit_code for run in runs] == [0, 0]


async def test_cancelled(copies: Copies, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def never(self: Bucket, key: str, source: Any, **more: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    asked = asyncio.Event()
    put = Bucket.put
    monkeypatch.setattr(
        Bucket,
        "put",
        lambda self, key, *rest, **more: (put if key == "store.json" else never)(self, key, *rest, **more),
    )
    task = asyncio.ensure_future(copies.make())
    await asked.wait()
    task.cancel()
    with pytest.raises(sending.CopyCancelled) as stopped:
        await task
    assert stopped.value.run.exit_code == 130
    assert not list((copies.store / "tmp").glob("copying-*"))
    monkeypatch.undo()
    assert (await copies.make()).exit_code == 0
    await copies.sound(tmp_path / "a")


async def test_what_vanished_here_stays_there(copies: Copies, tmp_path: Path) -> None:
    await copies.make()
    shutil.rmtree(next(copies.store.glob("workspaces/*/repositories/website~*")))
    run = await copies.make()
    assert run.exit_code == 0 and run.facts["vanished"] == 1
    await copies.sound(tmp_path / "a")
    assert list((tmp_path / "a").glob("workspaces/*/repositories/website~*/code.git"))


async def test_what_is_pruned_meanwhile_is_not_vouched_for(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that has forgotten everything takes what is listed for sent: until it finds it gone."""
    copies.encrypt(tmp_path)
    await copies.make()
    shutil.rmtree(copies.store / "cache")
    there, newest = copies.there(), copies.there().store_manifest()
    assert newest is not None
    folder = next(name for place, name in newest.facts["folders"].items() if "website" in place)
    name = min(there.manifests(folder)[-1].blobs)
    blob = f"blobs/{name[:2]}/{name}.age"
    put, keys = Bucket.put, list[str]()

    async def prune(self: Bucket, key: str, source: Any, **more: Any) -> None:
        copies.server.client().delete_object(Bucket=copies.bucket, Key=f"{PREFIX}/{blob}")
        keys.append(key)
        await put(self, key, source, **more)

    monkeypatch.setattr(Bucket, "put", prune)
    run = await copies.make()
    assert run.exit_code == 75 and "covers" not in run.facts
    assert not [key for key in keys if key.startswith("runs/")]
    monkeypatch.undo()
    assert (await copies.make()).exit_code == 0
    # Sent again it is of another size: an age file's head is. The manifests of now know it.
    assert copies.there().rebuild(tmp_path / "a")
