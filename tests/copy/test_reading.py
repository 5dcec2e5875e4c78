"""Reading a copy: what comes back is what was sent, whatever somebody did to it in between."""

from __future__ import annotations

import dataclasses
import os
import tarfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyrage
import pytest
from structlog.testing import capture_logs

from mirror import verify
from mirror.auth.secrets import Secret
from mirror.copy.bringing import UNFINISHED, Brought, bring
from mirror.copy.checking import check
from mirror.copy.coding import Coding, WrongIdentity, encrypting, plain
from mirror.copy.format import STORE, Manifest, manifest_key
from mirror.copy.reading import Copy, CopyDamaged
from mirror.errors import NoStore, UsageError
from mirror.store.writing.writer import open_store
from tests.bucket.servers import UPLOADER, ObjectServer
from tests.clock import FakeClock
from tests.copy.written import NOT_COPIED, WHEN, WrittenCopy, bundle, places_of

KEPT = Path(__file__).parents[1] / "stores"
VERSIONS = sorted(path.name.removesuffix(".tar.gz") for path in KEPT.glob("*.tar.gz"))


def unpack(version: str, target: Path) -> Path:
    """A store of an earlier version."""
    with tarfile.open(KEPT / f"{version}.tar.gz") as archive:
        archive.extractall(target, filter="data")
    return target / "store"


def content(store: Path) -> dict[str, bytes]:
    """Every file of a store that a copy has, by path."""
    found = {}
    for path in store.rglob("*"):
        parts = path.relative_to(store).parts
        if path.is_file() and parts[0] not in NOT_COPIED and path.name not in ("lock", "state.json"):
            found[path.relative_to(store).as_posix()] = path.read_bytes()
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return unpack(VERSIONS[-1], tmp_path)


class Age:
    """A key of age, and the coding to it."""

    def __init__(self) -> None:
        self.identity = pyrage.x25519.Identity.generate()
        self.coding = encrypting(
            [str(self.identity.to_public())], Secret("the key of the names, long enough")
        )


@pytest.fixture(params=["plain", "encrypted"])
def coded(request: pytest.FixtureRequest) -> tuple[Coding, list[object]]:
    """How a copy is written, and the identities that read it."""
    if request.param == "plain":
        return plain(), []
    age = Age()
    return age.coding, [age.identity]


async def brought(
    server: ObjectServer,
    bucket: str,
    target: Path,
    identities: Sequence[object] = (),
    as_of: datetime | None = None,
) -> tuple[Brought, Copy]:
    """Make the store again at `target`."""
    async with server.open(bucket) as opened:
        copy = await Copy.open(opened, identities, as_of=as_of)
        return await bring(copy, target, now=WHEN), copy


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_store_of_any_version_comes_back_byte_for_byte(
    version: str, seaweed: ObjectServer, tmp_path: Path
) -> None:
    store, bucket = unpack(version, tmp_path), seaweed.make_bucket()
    with open_store(store, command="test"):
        pass  # the first writer seals what version 0.1 wrote without a seal
    WrittenCopy(seaweed, bucket).write(store)
    done, copy = await brought(seaweed, bucket, tmp_path / "back")
    assert (done.lost, copy.notes) == ({}, [])
    assert content(tmp_path / "back") == content(store)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "back").rglob("*"))
    assert (await verify.run(tmp_path / "back", clock=FakeClock(), environment=os.environ)).exit_code == 0


async def test_an_encrypted_copy_from_the_other_server(
    store: Path, moto_server: ObjectServer, tmp_path: Path
) -> None:
    age, other, bucket = Age(), Age(), moto_server.make_bucket()
    WrittenCopy(moto_server, bucket, age.coding).write(store)
    with pytest.raises(UsageError, match="encrypted"):
        await brought(moto_server, bucket, tmp_path / "back")
    with (
        capture_logs() as logs,
        pytest.raises(WrongIdentity, match=f"s3://{bucket}/p: none of the given keys"),
    ):
        await brought(moto_server, bucket, tmp_path / "back", [other.identity])
    assert not [one for one in logs if one["event"] == "copy.note"]  # or each manifest would be one
    assert not (tmp_path / "back").exists()
    await brought(moto_server, bucket, tmp_path / "back", [other.identity, age.identity])
    assert content(tmp_path / "back") == content(store)


async def test_where_there_is_nothing_there_is_no_copy(seaweed: ObjectServer) -> None:
    bucket = seaweed.make_bucket()
    for name in (bucket, f"{bucket}-not"):
        with pytest.raises(NoStore):
            async with seaweed.open(name) as opened:
                await Copy.open(opened)


async def test_everything_is_deleted_and_overwritten_and_comes_back(
    store: Path, seaweed: ObjectServer, tmp_path: Path, coded: tuple[Coding, list[object]]
) -> None:
    """Somebody with the uploader's keys overwrites all; somebody with more deletes every second thing."""
    coding, identities = coded
    bucket = seaweed.make_bucket(locked=True, days=1)
    written = WrittenCopy(seaweed, bucket, coding, UPLOADER).write(store)
    thief, admin = WrittenCopy(seaweed, bucket, keys=UPLOADER), WrittenCopy(seaweed, bucket)
    for number, key in enumerate(written.stored()):
        thief.overwrite(key, b"x" * (len(written.read(key)) if number % 3 else 5))
        if number % 2:
            admin.delete(key)
    done, copy = await brought(seaweed, bucket, tmp_path / "back", identities)
    assert done.lost == {}
    assert content(tmp_path / "back") == content(store)
    assert any("overwritten" in note for note in copy.notes)
    assert any("deleted" in note for note in copy.notes)


async def test_what_a_thief_forges_counts_for_nothing_as_of_the_time_before(
    store: Path, seaweed: ObjectServer, tmp_path: Path, coded: tuple[Coding, list[object]]
) -> None:
    coding, identities = coded
    bucket = seaweed.make_bucket(locked=True)
    written = WrittenCopy(seaweed, bucket, coding, UPLOADER).write(store)
    before = max(
        one["LastModified"]
        for page in written.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for one in page["Contents"]
    )
    while True:  # until the bucket's clock has gone on
        written.overwrite("elsewhere", b"")
        if written.client.head_object(Bucket=bucket, Key="p/elsewhere")["LastModified"] > before:
            break
    for manifest in list(written.manifests.values()):
        name, size = written.blob(bundle([("evil.txt", b"paid?")]))
        one = dataclasses.replace(
            next(file for file in manifest.files.values() if file.is_bundled), blob=name, size=5
        )
        written.put_manifest(
            dataclasses.replace(
                manifest, number=manifest.number + 7, files={"evil.txt": one}, blobs={name: size}
            )
        )
    for key in [one for one in written.stored() if "runs/" in one]:
        written.overwrite(key, b"forged")
    done, copy = await brought(seaweed, bucket, tmp_path / "back", identities, as_of=before)
    assert (done.lost, copy.notes) == ({}, [])
    assert content(tmp_path / "back") == content(store)


async def test_an_encrypted_manifest_in_a_plain_copy_is_a_strangers(
    store: Path, seaweed: ObjectServer, tmp_path: Path
) -> None:
    bucket = seaweed.make_bucket()
    written = WrittenCopy(seaweed, bucket).write(store)
    place = places_of(store)[-1]
    key = f"{manifest_key(place, 9, '')}.age"
    written.overwrite(key, b"age-encryption.org/v1\nnoise")
    done, copy = await brought(seaweed, bucket, tmp_path / "back")
    assert done.lost == {} and content(tmp_path / "back") == content(store)
    assert [note for note in copy.notes if key in note and "somebody else" in note]
    async with seaweed.open(bucket) as opened:
        found = await check(await Copy.open(opened), read=False)
    assert [fault.key for fault in found.faults] == [key]
    # An encrypted copy is none the less one for a forged store.json and plain manifests.
    age, bucket = Age(), seaweed.make_bucket()
    WrittenCopy(seaweed, bucket, age.coding).write(store)
    WrittenCopy(seaweed, bucket, keys=UPLOADER).write(store)
    with pytest.raises(UsageError, match="is encrypted"):
        await brought(seaweed, bucket, tmp_path / "forged")


@pytest.mark.parametrize("case", ["missing", "changed", "cut"])
async def test_a_damaged_blob_without_versions_is_told_and_the_rest_comes(
    case: str, store: Path, seaweed: ObjectServer, tmp_path: Path
) -> None:
    bucket = seaweed.make_bucket()
    written = WrittenCopy(seaweed, bucket).write(store)
    place = places_of(store)[-1]
    manifest = written.manifests[place]
    others = {blob for one, other in written.manifests.items() if one != place for blob in other.blobs}
    name = next(one for one in manifest.blobs if one not in others)
    key = f"blobs/{name[:2]}/{name}"
    data = written.read(key)
    if case == "missing":
        written.delete(key)
    else:
        written.overwrite(key, data[:-1] if case == "cut" else bytes([data[0] ^ 1]) + data[1:])
    done, copy = await brought(seaweed, bucket, tmp_path / "back")
    assert list(done.lost) == [place]
    assert any(key in note for note in copy.notes)
    whole = {path: data for path, data in content(store).items() if not path.startswith(f"{place}/")}
    assert content(tmp_path / "back") == whole


async def test_a_damaged_manifest_makes_way_for_the_one_before(
    store: Path, seaweed: ObjectServer, tmp_path: Path
) -> None:
    bucket = seaweed.make_bucket()
    written = WrittenCopy(seaweed, bucket).write(store)
    before, place = content(store), places_of(store)[-1]
    (store / place / "brake.json").write_bytes(b"{}")
    manifest = written.write_folder(store, place)
    written.overwrite(manifest_key(place, manifest.number, ""), manifest.to_bytes().replace(b"test", b"tost"))
    done, copy = await brought(seaweed, bucket, tmp_path / "back")
    assert done.lost == {}
    assert any("does not match its own checksum" in note for note in copy.notes)
    assert content(tmp_path / "back") == before


async def test_a_blob_that_hashes_wrong_makes_way_for_the_manifest_before(
    store: Path, seaweed: ObjectServer, tmp_path: Path
) -> None:
    bucket = seaweed.make_bucket()
    written = WrittenCopy(seaweed, bucket).write(store)
    before, place = content(store), places_of(store)[-1]
    (store / place / "brake.json").write_bytes(os.urandom(9000))
    newer = written.write_folder(store, place)
    name = newer.files["brake.json"].blob
    written.overwrite(f"blobs/{name[:2]}/{name}", os.urandom(9000))
    done, copy = await brought(seaweed, bucket, tmp_path / "back")
    assert done.lost == {}
    assert any("newer of it is damaged" in note for note in copy.notes)
    assert content(tmp_path / "back") == before


def changed(manifest: Manifest, case: str) -> Manifest:
    """A manifest that only somebody else writes."""
    first = next(one for one in manifest.files.values() if not one.is_bundled)
    odd = {
        "another folder's file": "repositories/x~00000000/repository.json",
        "objects from elsewhere": "metadata.git/objects/info/alternates",
        "settings from elsewhere": "metadata.git/commondir",
        "a file that is a folder": next(iter(manifest.files)) + "/more",
    }
    if case == "another place":
        return dataclasses.replace(manifest, folder="workspaces/../../etc")
    if case == "the wrong number":
        return dataclasses.replace(manifest, number=99)
    return dataclasses.replace(manifest, files={**manifest.files, odd[case]: first})


@pytest.mark.parametrize(
    "case",
    ["another folder's file", "objects from elsewhere", "settings from elsewhere", "a file that is a folder",
     "another place", "the wrong number"],
)  # fmt: skip
async def test_a_manifest_that_nobody_sends_is_not_believed(
    case: str, store: Path, seaweed: ObjectServer, tmp_path: Path
) -> None:
    bucket = seaweed.make_bucket()
    written = WrittenCopy(seaweed, bucket).write(store)
    place = places_of(store)[1]
    manifest = dataclasses.replace(written.manifests[place], number=2)
    written.put(manifest_key(place, 2, ""), changed(manifest, case).to_bytes())
    done, copy = await brought(seaweed, bucket, tmp_path / "back")
    assert done.lost == {}
    assert any("does not hold" in note for note in copy.notes)
    assert content(tmp_path / "back") == content(store)


async def test_a_config_that_runs_a_program_is_not_laid_down(
    store: Path, seaweed: ObjectServer, tmp_path: Path
) -> None:
    bucket = seaweed.make_bucket()
    written = WrittenCopy(seaweed, bucket).write(store)
    before, place = content(store), places_of(store)[-1]
    config = store / place / "metadata.git" / "config"
    config.write_bytes(config.read_bytes() + b"[core]\n\tfsmonitor = touch /tmp/evil\n")
    written.write_folder(store, place)
    _, copy = await brought(seaweed, bucket, tmp_path / "back")
    assert any("core.fsmonitor" in note for note in copy.notes)
    assert content(tmp_path / "back") == before


async def test_a_bundle_of_more_than_files_is_damaged(store: Path, seaweed: ObjectServer) -> None:
    """Headers that ask for memory, links, and members that are longer than the bundle are never followed."""
    from mirror.copy.fetching import fetch_blob
    from mirror.copy.format import File

    bucket = seaweed.make_bucket()
    written = WrittenCopy(seaweed, bucket).write(store)
    good = bundle([("a", b"content")])
    for kind, size in (
        (b"x", b"00000000007"),
        (b"2", b"00000000000"),
        (b"L", b"00000000007"),
        (b"0", b"77777777777"),
    ):
        head = bytearray(good[:512])
        head[124:135], head[156:157], head[148:156] = size, kind, b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        name, stored = written.blob(bytes(head) + good[512:])
        file = File(name, 7, "0" * 64, is_bundled=True)
        async with seaweed.open(bucket) as opened:
            copy = await Copy.open(opened)
            with pytest.raises(CopyDamaged):
                await fetch_blob(copy, name, stored, {"a": file}, None)
            assert "no tar of whole files" in copy.notes[-1]


async def test_an_interrupted_copy_from_is_no_store_and_goes_on(
    store: Path, seaweed: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, target = seaweed.make_bucket(), tmp_path / "back"
    WrittenCopy(seaweed, bucket).write(store)
    async with seaweed.open(bucket) as opened:
        copy = await Copy.open(opened)
        whole, left = type(opened).download, 12

        async def failing(*given: object, **more: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(5, "the disk fails")
            await whole(*given, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(type(opened), "download", failing)
        with pytest.raises(OSError, match="the disk fails"):
            await bring(copy, target, now=WHEN)
        monkeypatch.setattr(type(opened), "download", whole)
        assert [one.name for one in target.iterdir()] == [UNFINISHED]
        there = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
        assert there
        # Killed between two moves at the end: part of it stands in the folder itself.
        (target / UNFINISHED / "workspaces").rename(target / "workspaces")
        await bring(copy, target, now=WHEN)
    assert content(target) == content(store)
    kept = [one for one in there if (now := target / one.relative_to(target / UNFINISHED)).exists()
            and now.stat().st_mtime_ns == there[one]]  # fmt: skip
    assert len(kept) == len(there), "what had arrived is not asked for again"


async def test_a_store_is_made_in_an_empty_folder_only(
    store: Path, seaweed: ObjectServer, tmp_path: Path
) -> None:
    bucket = seaweed.make_bucket()
    WrittenCopy(seaweed, bucket).write(store)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(UsageError, match="letter"):
        await brought(seaweed, bucket, tmp_path / "mine")
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["letter"]


async def test_a_copy_whose_first_run_did_not_end_is_a_store(
    store: Path, seaweed: ObjectServer, tmp_path: Path
) -> None:
    bucket = seaweed.make_bucket()
    written = WrittenCopy(seaweed, bucket).write(store)
    for key in written.stored():
        if key.startswith(("runs/", f"manifests/{STORE}/")):
            written.delete(key)
    await brought(seaweed, bucket, tmp_path / "back")
    assert (await verify.run(tmp_path / "back", clock=FakeClock(), environment=os.environ)).exit_code == 0
