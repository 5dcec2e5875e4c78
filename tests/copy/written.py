"""A copy of a store as DESIGN describes it, written plainly, object by object, and what somebody who has the
uploader's keys can write: the reading side is tested with what its twin would never send, too."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mirror.copy.coding import Coding, plain
from mirror.copy.format import STORE, File, Manifest, blob_key, manifest_key
from mirror.store.format.seal import sealed
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Store
from tests.bucket.servers import ADMIN, Keys, ObjectServer

SMALL = 4096
NOT_COPIED = {"cache", "tmp", "quarantine", "lock", "state.json", "index.json", "INDEX.md"}
WHEN = datetime.fromisoformat("2026-11-23T06:00:00+00:00")


def places_of(store: Path) -> list[str]:
    """The folders of a store that have manifests."""
    found = [STORE]
    for workspace in sorted((store / "workspaces").iterdir()):
        found.append(f"workspaces/{workspace.name}")
        inner = workspace / "repositories"
        found += [f"workspaces/{workspace.name}/repositories/{one.name}" for one in sorted(inner.iterdir())]
    return found


def files_of(store: Path, place: str) -> Iterator[tuple[str, Path]]:
    """The files of one folder that belong into a copy, by path in it."""
    base = store if place == STORE else store / place
    for path in sorted(base.rglob("*")):
        relative = path.relative_to(base).as_posix()
        first = relative.split("/")[0]
        others = (
            {"runs", "workspaces"} if place == STORE else {"repositories"} if place.count("/") == 1 else set()
        )
        if path.is_file() and first not in others | NOT_COPIED and path.name != "lock":
            yield relative, path


def empty_folders_of(store: Path, place: str) -> list[str]:
    """The empty folders of a folder's git repositories."""
    if place == STORE:
        return []
    base = store / place
    return [
        path.relative_to(base).as_posix()
        for path in sorted(base.rglob("*.git/**"))
        if path.is_dir() and not any(path.iterdir()) and "repositories" not in path.relative_to(base).parts
    ]


@dataclass
class WrittenCopy:
    """A copy below the prefix `p` of a bucket, which boto3 writes."""

    server: ObjectServer
    bucket: str
    coding: Coding = field(default_factory=plain)
    keys: Keys = ADMIN
    manifests: dict[str, Manifest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client = self.server.client(self.keys)

    def put(self, key: str, data: bytes, *, encoded: bool = True) -> int:
        """Write one object; returns its size as stored."""
        target = io.BytesIO()
        if encoded:
            self.coding.encode(io.BytesIO(data), target)
        stored = target.getvalue() if encoded else data
        self.client.put_object(Bucket=self.bucket, Key=f"p/{key}", Body=stored, ChecksumAlgorithm="SHA256")
        return len(stored)

    def blob(self, data: bytes) -> tuple[str, int]:
        """Write a blob; returns its name and stored size."""
        name = self.coding.blob_name(hashlib.sha256(data).hexdigest())
        return name, self.put(blob_key(name, self.coding.suffix), data)

    def write(self, store: Path, places: list[str] | None = None) -> WrittenCopy:
        """Write the whole copy of a store, or one more manifest of some folders."""
        if places is None:
            identity = {"format": 1, "store": store_id(store), "created": "2026-11-23T02:00:00Z"}
            more = {"encrypted": self.coding.is_encrypted, "recipients": list(self.coding.recipients)}
            self.put("store.json", sealed({**identity, **more}), encoded=False)
        for place in places or [one for one in places_of(store) if one != STORE]:
            self.write_folder(store, place)
        for path in sorted((store / "runs").rglob("*.json")):
            self.put(f"{path.relative_to(store).as_posix()}{self.coding.suffix}", path.read_bytes())
        folders = {one: self.coding.folder_name(one) for one in places_of(store) if one != STORE}
        self.write_folder(store, STORE, {"folders": folders})
        return self

    def write_folder(self, store: Path, place: str, facts: Mapping[str, Any] | None = None) -> Manifest:
        """Write the blobs and the next manifest of one folder."""
        files: dict[str, File] = {}
        blobs: dict[str, int] = {}
        small: list[tuple[str, bytes]] = []
        for relative, path in files_of(store, place):
            data = path.read_bytes()
            if len(data) <= SMALL:
                small.append((relative, data))
                continue
            name, size = self.blob(data)
            blobs[name] = size
            files[relative] = File(name, len(data), hashlib.sha256(data).hexdigest())
        if small:
            name, size = self.blob(bundle(small))
            blobs[name] = size
            for relative, data in small:
                files[relative] = File(name, len(data), hashlib.sha256(data).hexdigest(), is_bundled=True)
        before = self.manifests.get(place)
        manifest = Manifest(
            place, 1 if before is None else before.number + 1,
            None if before is None else hashlib.sha256(before.to_bytes()).hexdigest(), WHEN, "test",
            files, blobs, tuple(empty_folders_of(store, place)), facts or facts_of(store, place),
        )  # fmt: skip
        self.put_manifest(manifest)
        return manifest

    def put_manifest(self, manifest: Manifest) -> None:
        """Write a manifest."""
        key = manifest_key(self.coding.folder_name(manifest.folder), manifest.number, self.coding.suffix)
        self.put(key, manifest.to_bytes())
        self.manifests[manifest.folder] = manifest

    def stored(self, prefix: str = "") -> list[str]:
        """The keys that stand there now."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"p/{prefix}"
        )
        return [one["Key"].removeprefix("p/") for page in pages for one in page.get("Contents", ())]

    def overwrite(self, key: str, data: bytes) -> None:
        """What somebody does who has the keys."""
        self.client.put_object(Bucket=self.bucket, Key=f"p/{key}", Body=data, ChecksumAlgorithm="SHA256")

    def delete(self, key: str) -> None:
        """Delete an object; with versions, that makes a delete marker."""
        self.client.delete_object(Bucket=self.bucket, Key=f"p/{key}")

    def read(self, key: str) -> bytes:
        """What stands at a key now, as stored."""
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=f"p/{key}")["Body"].read()
        return data


def bundle(members: list[tuple[str, bytes]]) -> bytes:
    """A tar of files."""
    stream = io.BytesIO()
    with tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def store_id(store: Path) -> str:
    """The id of a store."""
    with Store.open(store) as opened:
        return opened.id


def facts_of(store: Path, place: str) -> dict[str, Any]:
    """What manifests tell of a repository or workspace."""
    with Store.open(store) as opened:
        folders: list[AnyFolder] = [*opened.repositories()]
        for one in [*folders, *opened.workspaces()]:
            if one.place == place:
                return {
                    "uuid": one.uuid,
                    "full_name": one.full_name,
                    "snapshots": sorted(one.metadata.tags()),
                }
    return {}
