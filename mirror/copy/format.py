"""What stands in object storage: the names below the prefix, and manifests.

    store.json                          what the copy is of, and whether it is encrypted (itself it never is)
    blobs/<ab>/<name>                   a file, or a bundle (a tar) of small ones; never overwritten
    manifests/<folder>/<number>.json    what one folder of the store contains; never overwritten
    runs/<name>                         run records and the lists they name

The name of a blob is the sha256 of its plain bytes, or with encryption its HMAC. A manifest's folder is the
path in the store of a workspace or repository, or `store` for what belongs to no folder; with encryption its
HMAC. With encryption blobs, manifests and runs are age files, and their keys end with `.age`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mirror.model import Json, loads, time_from_text, time_text
from mirror.store.format import layout
from mirror.store.format.seal import seal_fault, sealed

FORMAT = 1
COPY_FILE, RUNS = layout.STORE_FILE, layout.RUNS
BLOBS, MANIFESTS = "blobs", "manifests"
# The folder of a manifest for the files of the store that belong to no workspace.
STORE = "store"
NUMBER_DIGITS = 12
# The bytes of a manifest: some 600,000 files.
MANIFEST_MAX = 256 << 20
# A file below a folder of the store: names of git and of the store, ASCII alone.
_PATH = re.compile(r"[A-Za-z0-9._~+-]+(/[A-Za-z0-9._~+-]+)*")


@dataclass(frozen=True)
class File:
    """One file of the store. `blob` is the blob that holds it: alone, or in the bundle as the member of its
    path. `size` and `sha256` are those of the plain file."""

    blob: str
    size: int
    sha256: str
    is_bundled: bool = False


@dataclass(frozen=True)
class Manifest:
    """What one folder of the store contained at `time`.

    `number` counts from 1. `before` is the sha256 of the plain bytes of the manifest before, None for the
    first. `files` are by path in the folder; `empty_folders` are those that git needs. `blobs` are the sizes,
    as they are stored, of all blobs named in `files`. `facts` are for people and readers that want more: of a
    repository `uuid`, `full_name` and `snapshots` (the ids of the kept ones); of the store `folders` (by path
    in the store, the name of the folder of its manifests).
    """

    folder: str
    number: int
    before: str | None
    time: datetime
    program: str
    files: Mapping[str, File]
    blobs: Mapping[str, int]
    empty_folders: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The sealed canonical JSON. Raises NotCanonical where that has more than MANIFEST_MAX bytes."""
        return sealed(
            {
                "format": FORMAT,
                "folder": self.folder,
                "number": self.number,
                "before": self.before,
                "time": time_text(self.time),
                "program": self.program,
                "files": {
                    path: {
                        "blob": one.blob,
                        "size": one.size,
                        "sha256": one.sha256,
                        **({"bundled": True} if one.is_bundled else {}),
                    }
                    for path, one in self.files.items()
                },
                "blobs": dict(self.blobs),
                "empty_folders": list(self.empty_folders),
                "facts": dict(self.facts),
            },
            limit=MANIFEST_MAX,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read what `to_bytes` wrote. Raises ValueError where the seal does not hold, or anything is not
        of the form that this version writes."""
        fault = seal_fault(data, limit=MANIFEST_MAX)
        if fault is not None:
            raise ValueError(fault)
        match loads(data, limit=MANIFEST_MAX):
            case {
                "format": int() as version,
                "folder": str() as folder,
                "number": int() as number,
                "before": (str() | None) as before,
                "time": str() as time,
                "program": str() as program,
                "files": dict() as files,
                "blobs": dict() as blobs,
                "empty_folders": list() as empty_folders,
                "facts": dict() as facts,
            }:
                if version != FORMAT:
                    raise ValueError(f"it has format {version}; this version reads format {FORMAT}")
                read = {_safe_path(path): _file(one, blobs) for path, one in files.items()}
                empty = tuple(_safe_path(one) for one in empty_folders)
                return cls(
                    folder, number, before, time_from_text(time), program, read, _sizes(blobs), empty, facts
                )
        raise ValueError("it is not of the form that this version reads")


def _file(value: Json, blobs: Mapping[str, Json]) -> File:
    match value:
        case {"blob": str() as blob, "size": int() as size, "sha256": str() as sha256} if (
            layout.is_sha256(blob) and layout.is_sha256(sha256) and size >= 0 and blob in blobs
        ):
            return File(blob, size, sha256, value.get("bundled") is True)
    raise ValueError("one of its files is malformed")


def _sizes(blobs: Mapping[str, Json]) -> dict[str, int]:
    sizes = {}
    for name, size in blobs.items():
        if not layout.is_sha256(name) or not isinstance(size, int) or size < 0:
            raise ValueError("one of its blobs is malformed")
        sizes[name] = size
    return sizes


def _safe_path(path: Json) -> str:
    """A path of a manifest. Raises ValueError where it leads out of its folder."""
    if not isinstance(path, str) or not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{path!r} is not the path of a file in a store")
    return path


def blob_key(name: str, suffix: str) -> str:
    """The key of a blob; `suffix` is `.age` with encryption, else empty."""
    return f"{BLOBS}/{name[:2]}/{name}{suffix}"


def manifest_key(folder: str, number: int, suffix: str) -> str:
    """The key of a manifest; `folder` is the name of the folder of manifests, `suffix` as of `blob_key`."""
    return f"{MANIFESTS}/{folder}/{number:0{NUMBER_DIGITS}}.json{suffix}"
