"""What happens to a copy behind the back of the host that sends it, and what would take from it silently."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mirror.copy import format as copy_format
from mirror.copy import sending
from mirror.copy.format import Manifest
from mirror.copy.memory import LISTED_TRUSTED, memory_of
from mirror.model import NoProgress
from mirror.store.writing.locks import hold
from mirror.store.writing.writer import open_store
from tests.bucket.servers import UPLOADER, ObjectServer
from tests.copy.conftest import Stores
from tests.copy.copies import Copies
from tests.copy.remote import PREFIX, objects_of


@pytest.fixture
def copies(stores: Stores, seaweed: ObjectServer, tmp_path: Path) -> Copies:
    shutil.copytree(stores.now, tmp_path / "store")
    return Copies(tmp_path / "store", seaweed, seaweed.make_bucket(), UPLOADER)


def add_file(copies: Copies, repository: str, data: bytes) -> None:
    """Bring a file into the folder of a repository, as a download of it is."""
    digest = hashlib.sha256(data).hexdigest()
    folder = next(copies.store.glob(f"workspaces/*/repositories/{repository}~*"))
    (folder / "files" / digest[:2]).mkdir(parents=True, exist_ok=True)
    (folder / "files" / digest[:2] / digest).write_bytes(data)


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_folders_share_a_blob_that_came_with_the_first(
    copies: Copies, tmp_path: Path, is_encrypted: bool
) -> None:
    """Encrypted twice, the same bytes have another size: the second must not take the place of the first."""
    if is_encrypted:
        copies.encrypt(tmp_path)
    data = random.Random(2).randbytes(300_000)
    for repository in ("website", "api"):
        add_file(copies, repository, data)
        assert (await copies.make()).exit_code == 0
        copies.there().check_whole()


async def test_what_was_lost_there_is_noticed_within_days(copies: Copies, tmp_path: Path) -> None:
    await copies.make()
    client, objects = copies.server.client(), objects_of(copies.server, copies.bucket)
    records = [key for key in objects if key.startswith("runs/")]
    blobs = [key for key in objects if key.startswith("blobs/")]
    for key in (records[0], *blobs[::2]):
        client.delete_object(Bucket=copies.bucket, Key=f"{PREFIX}/{key}")
    assert (await copies.make()).facts["folders"]["copied"] == 0, "nothing is listed in every run"
    copies.clock.elapsed += LISTED_TRUSTED.total_seconds()
    run = await copies.make()
    assert run.exit_code == 3
    assert run.facts["lost"]["objects"] >= 1 + len(blobs[::2]) and run.facts["lost"]["records"] == 1
    assert run.problems[0].text.endswith("it was sent again") and records[0] in run.problems[0].text
    told = " ".join(one.text for one in run.all_problems)
    assert all(key in told for key in blobs[::2])
    assert {str(one.outcome) for one in run.entries} == {"saved"}
    assert objects.keys() <= objects_of(copies.server, copies.bucket).keys()
    await copies.sound(tmp_path / "a")
    assert (await copies.make()).facts["requests"] == 2


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_what_was_overwritten_there_is_sent_again(
    copies: Copies, tmp_path: Path, is_encrypted: bool
) -> None:
    """With another size, which with encryption it could have: it is not what was sent."""
    if is_encrypted:
        copies.encrypt(tmp_path)
    await copies.make()
    blob, data = max(
        (one for one in objects_of(copies.server, copies.bucket).items() if one[0].startswith("blobs/")),
        key=lambda one: len(one[1]),
    )
    copies.server.client().put_object(Bucket=copies.bucket, Key=f"{PREFIX}/{blob}", Body=data + b"noise")
    copies.clock.elapsed += LISTED_TRUSTED.total_seconds()
    run = await copies.make()
    assert run.exit_code == 3 and any(blob in one.text for one in run.all_problems)
    assert copies.there().rebuild(tmp_path / "a"), "encrypted again it has another size, in a new manifest"
    assert (await copies.make()).exit_code == 0


async def test_what_only_older_manifests_name_is_no_loss(
    copies: Copies, stores: Stores, tmp_path: Path
) -> None:
    """Another host writes there, too, or somebody forges a number: what this host sent may be pruned."""
    await copies.make()
    shutil.copytree(copies.store, tmp_path / "other")
    other = Copies(tmp_path / "other", copies.server, copies.bucket)
    stores.put(stores.later, other.store)
    assert (await other.make()).exit_code == 0
    first, second = next(
        found for found in (copies.there().manifests(one) for one in folders_of(copies)) if len(found) == 2
    )
    client = copies.server.client()
    client.delete_object(Bucket=copies.bucket, Key=f"{PREFIX}/manifests/{first.folder}/{1:012}.json")
    for name in first.blobs.keys() - second.blobs.keys():
        client.delete_object(Bucket=copies.bucket, Key=f"{PREFIX}/blobs/{name[:2]}/{name}")
    forged = next(one for one in folders_of(copies) if "repositories" in one and one != first.folder)
    key = f"{PREFIX}/manifests/{forged}/{9:012}.json"
    client.put_object(Bucket=copies.bucket, Key=key, Body=b"forged")
    copies.clock.elapsed += LISTED_TRUSTED.total_seconds()
    run = await copies.make()
    assert run.exit_code == 0 and "lost" not in run.facts


def folders_of(copies: Copies) -> list[str]:
    """The folders of manifests in a plain copy."""
    keys = objects_of(copies.server, copies.bucket)
    return sorted({key[10:].rpartition("/")[0] for key in keys if key.startswith("manifests/")})


def test_a_manifest_may_be_larger_than_a_document() -> None:
    facts = {"more": "x" * (65 << 20)}
    one = Manifest("store", 1, None, datetime.now(UTC).replace(microsecond=0), "mirror", {}, {}, (), facts)
    assert Manifest.from_bytes(one.to_bytes()) == one


async def test_a_folder_that_no_reader_would_take_fails_alone(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = next(copies.store.glob("workspaces/*/repositories/website~*"))
    (folder / "code.git" / "objects" / "info").mkdir(exist_ok=True)
    (folder / "code.git" / "objects" / "info" / "alternates").write_text("/elsewhere\n")
    run = await copies.make()
    assert run.exit_code == 1 and run.facts["folders"]["failed"] == 1
    assert [one.full_name for one in run.entries] == ["acme/website"] and "alternates" in run.all_problems[
        0
    ].text
    (folder / "code.git" / "objects" / "info" / "alternates").unlink()
    # A setting that makes git run something, and a manifest that is too large, the same.
    config = folder / "code.git" / "config"
    before = config.read_bytes()
    config.write_bytes(before + b"[core]\n\tfsmonitor = /tmp/evil\n")
    run = await copies.make()
    assert run.exit_code == 1 and "core.fsmonitor" in run.all_problems[0].text
    config.write_bytes(before)
    large = max(
        len(data) for key, data in objects_of(copies.server, copies.bucket).items() if "manifests" in key
    )
    for name in range(200):
        add_file(copies, "website", os.urandom(20) + bytes(name))
    monkeypatch.setattr(copy_format, "MANIFEST_MAX", large)
    run = await copies.make()
    assert run.exit_code == 1 and "larger than" in run.all_problems[0].text
    monkeypatch.undo()
    assert (await copies.make()).exit_code == 0
    copies.there().check_whole()


async def test_a_stopped_copy_reads_no_large_file_to_its_end(copies: Copies) -> None:
    folder = next(copies.store.glob("workspaces/*/repositories/website~*"))
    size = 8 << 30
    with (folder / "code.git" / "objects" / "pack" / "large.pack").open("wb") as stream:
        stream.truncate(size)  # of which the disk holds nothing
    loop, tasks = asyncio.get_running_loop(), list[asyncio.Task[Any]]()

    class Stopping(NoProgress):
        def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
            if (subject, stage) == ("acme/website", "reading"):
                loop.call_soon_threadsafe(tasks[0].cancel)

    before = bytes_read()
    tasks.append(asyncio.create_task(copies.make(progress=Stopping())))
    with pytest.raises(sending.CopyCancelled):
        await tasks[0]
    await loop.shutdown_default_executor()  # as a command does before it ends
    assert bytes_read() - before < size


def bytes_read() -> int:
    """How many bytes this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


async def test_what_a_killed_copy_set_aside_is_removed_by_the_next_writer(copies: Copies) -> None:
    """Its hard links would keep on the disk what is erased."""
    memory = memory_of(copies.store, copies.config.address)
    memory.prepare()
    aside = copies.store / "tmp" / f"copying-{memory.key}" / "1"
    aside.mkdir(parents=True)
    (aside / "1").write_bytes(b"erased")
    async with hold(memory.lock_path, what="it", command="test", wait=0, clock=copies.clock):
        open_store(copies.store, command="test").close()
        assert aside.exists(), "the copy is under way"
    open_store(copies.store, command="test").close()
    assert not aside.parent.exists()


async def test_a_forged_number_does_not_end_the_copy_in_silence(
    copies: Copies, stores: Stores, tmp_path: Path
) -> None:
    """A manifest after the highest number would have a key that no reader takes for one."""
    await copies.make()
    objects = objects_of(copies.server, copies.bucket)
    key = next(one for one in objects if one.startswith("manifests/") and "website" in one)
    folder = f"{PREFIX}/{key.rpartition('/')[0]}"
    client = copies.server.client()
    for number in ("9" * 20, "9" * 12):
        client.put_object(Bucket=copies.bucket, Key=f"{folder}/{number}.json", Body=b"forged")
        stores.put(stores.later if len(number) == 20 else stores.now, copies.store)
        run = await copies.make()
        assert [one.full_name for one in run.entries] == ([] if len(number) == 20 else ["acme/website"])
    assert run.exit_code == 1 and "highest number" in run.all_problems[0].text
    client.delete_object(Bucket=copies.bucket, Key=f"{folder}/{'9' * 12}.json")
    assert (await copies.make()).exit_code == 0
    client.delete_object(Bucket=copies.bucket, Key=f"{folder}/{'9' * 20}.json")
    await copies.sound(tmp_path / "a")


async def test_a_strangers_encrypted_objects_are_not_of_a_plain_copy(
    copies: Copies, stores: Stores, tmp_path: Path
) -> None:
    await copies.make()
    objects = objects_of(copies.server, copies.bucket)
    client = copies.server.client()
    for key in [key for key in objects if key.startswith(("manifests/", "blobs/"))]:
        forged = key.replace(f"{1:012}.json", f"{7:012}.json") + ".age"
        client.put_object(Bucket=copies.bucket, Key=f"{PREFIX}/{forged}", Body=b"forged")
    stores.put(stores.later, copies.store)
    run = await copies.make()
    assert run.exit_code == 0
    assert f"manifests/{run_place(copies)}/{2:012}.json" in objects_of(copies.server, copies.bucket)
    copies.clock.elapsed += LISTED_TRUSTED.total_seconds()
    assert (await copies.make()).exit_code == 0


def run_place(copies: Copies) -> str:
    """The place of the repository that has a push."""
    folder = next(copies.store.glob("workspaces/*/repositories/website~*"))
    return folder.relative_to(copies.store).as_posix()


async def test_a_copy_that_none_of_the_recipients_reads_is_refused(copies: Copies, tmp_path: Path) -> None:
    """What went up for a key that is lost is never encrypted again: with a new one, nobody reads it all."""
    copies.encrypt(tmp_path)
    [first] = copies.more["recipients"]
    assert (await copies.make()).exit_code == 0
    copies.encrypt(tmp_path)
    [second] = copies.more["recipients"]
    for _ in range(2):
        run = await copies.make()
        assert run.exit_code == 2 and "no recipient" in run.all_problems[0].text
        copies.more["recipients"] = [first, second]
        assert (await copies.make()).exit_code == 0
        copies.more["recipients"] = [second]
