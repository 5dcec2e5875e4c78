"""`mirror copy --check`, `--from` and `--prune`, as people call them."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.copy import pruning
from mirror.copy.checking import Checked, check
from mirror.copy.format import STORE, manifest_key
from mirror.copy.reading import Copy
from mirror.errors import DamageFound, MirrorError
from tests.bucket.servers import UPLOADER, ObjectServer
from tests.copy.test_commands import Sent
from tests.copy.test_reading import content
from tests.copy.written import WrittenCopy, places_of
from tests.e2e.helpers import mirror


@pytest.fixture
def sent(seaweed: ObjectServer, tmp_path: Path) -> Sent:
    return Sent(seaweed, tmp_path)


async def checked(sent: Sent, *, read: bool) -> Checked:
    async with sent.written.server.open(sent.bucket) as opened:
        return await check(await Copy.open(opened), read=read)


def damaged_key(sent: Sent, kind: str) -> str:
    """A key of each kind of object."""
    keys = sent.written.stored()
    pattern = {
        "store": r"store\.json", "manifest": rf"manifests/{STORE}/.*",
        "folder": r"manifests/.*repositories.*",
        "blob": r"blobs/.*", "record": r"runs/[^/]*", "list": r"runs/lists/.*",
    }[kind]  # fmt: skip
    found = [key for key in keys if re.fullmatch(pattern, key)]
    return found[len(found) // 2]


async def test_damage_of_each_kind_of_object_is_found(sent: Sent) -> None:
    for read in (False, True):
        assert (await checked(sent, read=read)).faults == []
    for kind in ("store", "manifest", "folder", "blob", "record", "list"):
        key = damaged_key(sent, kind)
        data = sent.written.read(key)
        middle = len(data) // 2
        sent.written.overwrite(key, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        found = await checked(sent, read=True)
        assert key in {fault.key for fault in found.faults}, kind
        assert found.exit_code == 4
        by_listing = {fault.key for fault in (await checked(sent, read=False)).faults}
        assert (key in by_listing) == (kind in ("store", "manifest", "folder")), kind
        sent.written.delete(key)
        found = await checked(sent, read=True)
        assert any(key.startswith(fault.key) for fault in found.faults), kind
        sent.written.overwrite(key, data)
    assert (await checked(sent, read=True)).faults == []


async def test_an_older_version_that_is_right_is_told(seaweed: ObjectServer, sent: Sent) -> None:
    bucket = seaweed.make_bucket(locked=True)
    sent.written = WrittenCopy(seaweed, bucket).write(sent.store)
    sent.bucket = bucket
    keys = [damaged_key(sent, kind) for kind in ("store", "folder", "blob", "record")]
    for key in keys:
        sent.written.overwrite(key, b"\0" * len(sent.written.read(key)))
    found = await checked(sent, read=True)
    assert {fault.key for fault in found.faults} == set(keys)
    assert all(fault.instead for fault in found.faults)


def test_check_compares_with_the_store_that_is_here(sent: Sent) -> None:
    words = ["copy", "--check", "--to", sent.address, "--store", str(sent.store), "--json"]
    done = mirror(*words, env=sent.environment)
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)["copies"]
    assert found["behind"] == {}
    place = places_of(sent.store)[-1]
    manifest = sent.written.manifests[place]
    facts = {**manifest.facts, "snapshots": manifest.facts["snapshots"][:-1]}
    sent.written.write_folder(sent.store, place, facts)
    done = mirror(*words, env=sent.environment)
    assert done.returncode == 0
    [found] = json.loads(done.stdout)["copies"]
    assert list(found["behind"]) == [manifest.facts["full_name"]]


def test_a_store_is_made_again_and_is_whole(sent: Sent, tmp_path: Path) -> None:
    words = ["copy", "--from", sent.address, "--to", str(tmp_path / "back")]
    done = mirror(*words, env=sent.environment)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "back") == content(sent.store)
    assert mirror("verify", "--store", str(tmp_path / "back")).returncode == 0
    assert mirror(*words, env=sent.environment).returncode == 2


NOW = datetime.fromisoformat("2099-01-01T00:00:00+00:00")


async def pruned(sent: Sent, now: datetime = NOW) -> pruning.Pruned:
    async with sent.written.server.open(sent.bucket) as opened:
        copy = await Copy.open(opened)
        return await pruning.prune(copy, await pruning.plan(copy, now=now), (), now=now)


async def test_prune_deletes_what_nothing_needs_and_nothing_else(sent: Sent, tmp_path: Path) -> None:
    place = places_of(sent.store)[-1]
    first = sent.written.manifests[place]
    (sent.store / place / "brake.json").write_bytes(os.urandom(9000))
    second = sent.written.write_folder(sent.store, place)
    orphan, _ = sent.written.blob(b"left by a run that was killed")
    others = {blob for one in sent.written.manifests.values() for blob in one.blobs}
    expected = {f"blobs/{one[:2]}/{one}" for one in {*first.blobs, orphan} - others}
    expected.add(manifest_key(place, first.number, ""))
    before = set(sent.written.stored())
    young = await pruned(sent, datetime.now(NOW.tzinfo) + timedelta(days=5))
    assert (young.plan.manifests, young.plan.blobs) == ((), ())
    done = await pruned(sent)
    assert before - set(sent.written.stored()) == expected
    assert (done.manifests, done.blobs, done.exit_code) == (1, len(expected) - 1, 0)
    assert second.number == 2
    assert (await checked(sent, read=True)).faults == []


async def test_prune_touches_no_copy_that_is_in_doubt(sent: Sent) -> None:
    place = places_of(sent.store)[-1]
    sent.written.blob(b"not needed")
    manifest = sent.written.write_folder(sent.store, place)
    before = set(sent.written.stored())
    sent.written.overwrite(manifest_key(place, manifest.number, ""), b"{}")
    with pytest.raises(DamageFound, match="not as it was sent"):
        await pruned(sent)
    # A manifest whose seal holds, that was not made after the one before.
    forged = manifest.to_bytes().replace(str(manifest.before).encode(), b"0" * 64)
    from mirror.copy.format import Manifest
    from mirror.model import loads
    from mirror.store.format.seal import sealed

    value: Any = loads(forged)
    sent.written.overwrite(manifest_key(place, manifest.number, ""), sealed(value))
    assert Manifest.from_bytes(sealed(value)).before == "0" * 64
    with pytest.raises(DamageFound, match="not made after"):
        await pruned(sent)
    assert set(sent.written.stored()) == before


async def test_prune_trusts_no_clock_that_differs_from_the_servers(
    seaweed: ObjectServer, moto_server: ObjectServer
) -> None:
    for server in (seaweed, moto_server):
        async with server.open(server.make_bucket()) as opened:
            theirs = await opened.server_time()
            await pruning.check_clock(opened, theirs + timedelta(hours=20))
            for wrong in (timedelta(days=3), timedelta(days=-3)):
                with pytest.raises(MirrorError, match="this machine's clock says"):
                    await pruning.check_clock(opened, theirs + wrong)


async def test_what_object_lock_retains_is_counted_and_stays(seaweed: ObjectServer, sent: Sent) -> None:
    sent.bucket = seaweed.make_bucket(locked=True, days=1)
    sent.written = WrittenCopy(seaweed, sent.bucket).write(sent.store)
    sent.written.blob(b"not needed")
    before = set(sent.written.stored())
    done = await pruned(sent)
    assert (done.refused, done.blobs, done.is_locked, done.exit_code) == (1, 0, True, 0)
    assert set(sent.written.stored()) == before


def test_prune_needs_a_credential_of_its_own(sent: Sent, seaweed: ObjectServer, tmp_path: Path) -> None:
    words = ["copy", "--prune", "--to", sent.address]
    assert mirror(*words, env=sent.environment).returncode == 2
    file = tmp_path / "prune.yaml"
    file.write_text("access_key_id: {env: PRUNE_KEY}\nsecret_access_key: plainly-here\n")
    done = mirror(*words, "--credentials", str(file), "--yes", env=sent.environment)
    assert done.returncode == 2
    assert "plainly-here" not in done.stderr
    assert f"{file}:2" in done.stderr
    file.write_text("access_key_id: {env: PRUNE_KEY}\nsecret_access_key: {env: PRUNE_SECRET}\n")
    keys = seaweed.environment()
    environment = {
        **seaweed.environment(UPLOADER),
        "PRUNE_KEY": keys["AWS_ACCESS_KEY_ID"],
        "PRUNE_SECRET": keys["AWS_SECRET_ACCESS_KEY"],
    }
    sent.written.blob(b"not needed, and young")
    done = mirror(*words, "--credentials", str(file), "--yes", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)["copies"]
    assert found["blobs"] == []
