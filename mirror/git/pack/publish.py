"""Files of the pack folder: writing packs beside the others, publishing, removing and sweeping them.

A pack is published when all of it is on the disk: first the pack gets its name, then the index, which is
what makes readers look for the pack, then the folder is synced.
"""

from __future__ import annotations

import secrets
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from mirror.fs.durable import sweep as sweep_files
from mirror.fs.durable import sync_folder
from mirror.git.pack.format import hash_stream

# What may stand beside a pack and its index. All of it can be made again.
SIDE_FILES = (".rev", ".bitmap", ".mtimes")
_LEFTOVERS = ("tmp_pack_", "tmp_obj_", "incoming-", "tmp-")


def new_pack_path(folder: Path) -> Path:
    """A path in the pack folder for a pack that is being written. Its index goes beside it, with `.idx`."""
    return folder / f"tmp_pack_{secrets.token_hex(8)}"


def discard_pack(path: Path) -> None:
    """Remove a pack that was not published, and its index."""
    path.unlink(missing_ok=True)
    path.with_suffix(".idx").unlink(missing_ok=True)


def seal(stream: BinaryIO, count: int, end: int) -> bytes:
    """Write the count of entries and the checksum into a pack whose last entry stops at `end`; returns the
    checksum. The caller syncs the file."""
    stream.seek(8)
    stream.write(struct.pack(">L", count))
    stream.seek(0)
    checksum = hash_stream(stream, end)
    stream.seek(end)
    stream.write(checksum)
    stream.truncate()
    stream.flush()
    return checksum


def publish(path: Path, checksum: bytes) -> str:
    """Give the pack at `path` and its index, both synced, their names; returns the name without suffix."""
    final = path.with_name(f"pack-{checksum.hex()}")
    path.rename(final.with_suffix(".pack"))
    path.with_suffix(".idx").rename(final.with_suffix(".idx"))
    sync_folder(path.parent)
    return final.name


def remove_packs(folder: Path, packs: Iterable[Path]) -> None:
    """Remove packs (paths with the suffix .pack; the files need not all exist) from their folder, durably.

    The multi-pack-index goes first: it would point to packs that are gone, and git works without it. The
    index of a pack goes last: alone it holds nothing, while a pack alone would be indexed again.
    """
    (folder / "multi-pack-index").unlink(missing_ok=True)
    for pack in packs:
        for suffix in (".pack", *SIDE_FILES, ".idx"):
            pack.with_suffix(suffix).unlink(missing_ok=True)
    sync_folder(folder)


def sweep_leftovers(repository: Path) -> None:
    """Remove what an interrupted writer left in a repository; the caller holds the writer's lock."""
    sweep_files(repository)
    for folder in (repository / "objects", repository / "objects" / "pack"):
        if folder.is_dir():
            for path in folder.iterdir():
                if path.name.startswith(_LEFTOVERS):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
