"""Which files go up in which blob: small ones together, in a tar; large ones alone; and what is there already
not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mirror.copy.format import File, Manifest

# Larger files are blobs of their own.
SMALL = 256 << 10
# A bundle is closed once it has so many bytes, so that one file costs a reader no more than that.
BUNDLE_SIZE = 32 << 20
# More bundles than this of less than half that size are packed anew as fewer.
LIGHT_MAX = 16
# What a tar adds to each member, at most.
_MEMBER = 2 * tarfile.BLOCKSIZE


class Hashed(NamedTuple):
    """The size and sha256 of a file."""

    size: int
    sha256: str


def reusable(files: Mapping[str, Hashed], before: Manifest | None) -> dict[str, File]:
    """The files that stand in the blobs of the manifest `before` as they are now."""
    if before is None:
        return {}
    same = {}
    for path, now in files.items():
        file = before.files.get(path)
        if file is not None and (file.size, file.sha256) == now:
            same[path] = file
    return same


def to_repack(kept: Mapping[str, File], before: Manifest | None) -> set[str]:
    """Of the files that are `kept` in the bundles of `before`, those that go into new bundles: where at least
    half of a bundle is dead, and where there are many light ones."""
    if before is None:
        return set()
    members: dict[str, list[str]] = defaultdict(list)
    for path, file in kept.items():
        if file.is_bundled:
            members[file.blob].append(path)
    sparse = {
        blob
        for blob, paths in members.items()
        if 2 * _size_of_bundle(kept[path].size for path in paths) <= before.blobs[blob]
    }
    light = {blob for blob in members if before.blobs[blob] < BUNDLE_SIZE // 2} - sparse
    chosen = sparse | (light if len(light) >= LIGHT_MAX else set())
    return {path for blob in chosen for path in members[blob]}


def grouped(files: Mapping[str, Hashed]) -> tuple[list[list[str]], list[str]]:
    """How to send `files`: the paths for each new bundle, and those to send alone. The same files are always
    grouped in the same way."""
    bundles: list[list[str]] = []
    alone = []
    filled = 0
    for path in sorted(files):
        size = files[path].size
        if size > SMALL or not _fits(path, size):
            alone.append(path)
            continue
        if not bundles or filled + size > BUNDLE_SIZE:
            bundles.append([])
            filled = 0
        bundles[-1].append(path)
        filled += size + _MEMBER
    return bundles, alone


def write_bundle(target: Path, paths: Iterable[str], read: Callable[[str], bytes]) -> Hashed:
    """Write a bundle of `paths`, in their order, to the new file `target`. The same contents always give the
    same bytes."""
    with (
        target.open("xb") as stream,
        tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in paths:
            data = read(path)
            archive.addfile(_member(path, len(data)), io.BytesIO(data))
    with target.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return Hashed(target.stat().st_size, digest)


def _size_of_bundle(sizes: Iterable[int]) -> int:
    """The bytes of a bundle of files of these sizes."""
    blocks = sum(1 + -(-size // tarfile.BLOCKSIZE) for size in sizes) + 2
    return -(-blocks * tarfile.BLOCKSIZE // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _member(path: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size, member.mode, member.mtime = size, 0o600, 0
    return member


def _fits(path: str, size: int) -> bool:
    """Whether a plain tar can name the file."""
    try:
        _member(path, size).tobuf(tarfile.USTAR_FORMAT)
    except ValueError:
        return False
    return True
