"""What stands in a bucket, read with boto3 alone: as somebody would who has only its description."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.copy.coding import Coding, plain
from mirror.copy.format import Manifest
from mirror.model import loads
from mirror.store.format.seal import seal_fault
from tests.bucket.servers import ObjectServer

PREFIX = "p"


def objects_of(server: ObjectServer, bucket: str, prefix: str = PREFIX) -> dict[str, bytes]:
    """Everything below the prefix, by key."""
    client, found = server.client(), {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        for one in page.get("Contents", ()):
            body = client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
            found[one["Key"].removeprefix(f"{prefix}/")] = body
    return found


@dataclass(frozen=True)
class Remote:
    """A copy as it stands in `objects`. Each method fails where something does not hold."""

    objects: Mapping[str, bytes]
    coding: Coding

    def decoded(self, key: str) -> bytes:
        """The plain bytes of an object."""
        target = io.BytesIO()
        self.coding.decode(io.BytesIO(self.objects[key]), target)
        return target.getvalue()

    def manifests(self, folder: str) -> list[Manifest]:
        """All manifests in a folder of manifests, in their order, each following the one before."""
        prefix = f"manifests/{folder}/"
        keys = [
            key for key in sorted(self.objects) if key.startswith(prefix) and "/" not in key[len(prefix) :]
        ]
        found = [Manifest.from_bytes(self.decoded(key)) for key in keys]
        assert [one.number for one in found] == list(range(1, len(found) + 1))
        for before, after, key in zip(found, found[1:], keys, strict=False):
            assert after.before in (hashlib.sha256(self.decoded(key)).hexdigest(), None), before.number
        return found

    def store_manifest(self) -> Manifest | None:
        """The newest of the store; None before the first copy was whole."""
        folders = {key.split("/")[1] for key in self.objects if key.startswith("manifests/")}
        for folder in folders:
            found = self.manifests(folder)
            if found and found[-1].folder == "store":
                return found[-1]
        return None

    def files(self, manifest: Manifest) -> dict[str, bytes]:
        """The files of a manifest, each held against its size and hash."""
        bundles: dict[str, dict[str, bytes]] = {}
        found = {}
        for path, file in manifest.files.items():
            key = f"blobs/{file.blob[:2]}/{file.blob}{self.coding.suffix}"
            assert len(self.objects[key]) == manifest.blobs[file.blob]
            if file.is_bundled and file.blob not in bundles:
                with tarfile.open(fileobj=io.BytesIO(self.decoded(key)), mode="r:") as archive:
                    bundles[file.blob] = {
                        one.name: stream.read()
                        for one in archive
                        if (stream := archive.extractfile(one)) is not None
                    }
            data = bundles[file.blob][path] if file.is_bundled else self.decoded(key)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256), path
            found[path] = data
        return found

    def rebuild(self, target: Path) -> bool:
        """Make the store again at `target`; False where there is none yet."""
        newest = self.store_manifest()
        if newest is None:
            return False
        write(target, self.files(newest), newest.empty_folders)
        for place, folder in newest.facts["folders"].items():
            manifest = self.manifests(folder)[-1]
            assert manifest.folder == place
            write(target / place, self.files(manifest), manifest.empty_folders)
        lists = {}
        for key in self.objects:
            if key.startswith("runs/lists/"):
                data = self.decoded(key)
                lists[f"{hashlib.sha256(data).hexdigest()}.json"] = data
            elif key.startswith("runs/"):
                data = self.decoded(key)
                assert seal_fault(data) is None
                write(target / "runs", {key.removeprefix("runs/").removesuffix(".age"): data})
        write(target / "runs" / "lists", lists)
        return True

    def check_whole(self) -> None:
        """Every manifest, old ones too, holds with its blobs; every list that a record names is there."""
        for folder in {key.removeprefix("manifests/").rpartition("/")[0] for key in self._keys("manifests/")}:
            for manifest in self.manifests(folder):
                self.files(manifest)
        lists = {hashlib.sha256(self.decoded(key)).hexdigest() for key in self._keys("runs/lists/")}
        for key in self._keys("runs/"):
            if not key.startswith("runs/lists/"):
                record = loads(self.decoded(key))
                assert {record["looked_at"], record["checkpoint"]} - {None} <= lists

    def _keys(self, prefix: str) -> list[str]:
        return [key for key in self.objects if key.startswith(prefix)]


def write(folder: Path, files: Mapping[str, bytes], empty: tuple[str, ...] = ()) -> None:
    """Write files and empty folders."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in empty:
        (folder / path).mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def remote(server: ObjectServer, bucket: str, coding: Coding | None = None) -> Remote:
    """The copy in a bucket."""
    return Remote(objects_of(server, bucket), coding or plain())


def tree(folder: Path) -> dict[str, bytes]:
    """All that a copy of a store must hold."""
    left_out = {"lock", "index.json", "INDEX.md", "looked"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in left_out
        and path.relative_to(folder).parts[0] not in ("tmp", "cache", "quarantine")
        and not (path.name == "unfinished" and not path.stat().st_size)
    }
