"""What this host remembers of a copy that it sends: in `cache/`, and nothing is lost with it but time.

    cache/copies/<16 hex of the address's sha256>/
      lock                       held by the one run that sends to this address
      about.json                 of which copy everything else here is; run records that went up
      sent                       blobs that went up and are in no manifest yet, a line each
      protected.json, protecting the last pass that extended retentions, and the keys that it has done
      folders/<32 hex>           of each folder of the store: its last manifest, and how its files looked then

Only the last manifest of a folder counts as what the copy holds: what no manifest names may be pruned
there at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from mirror.bucket.address import Address
from mirror.copy.format import Manifest
from mirror.fs.durable import make_folders, sweep, write_file
from mirror.logs import get_logger
from mirror.model import dumps, loads, time_from_text, time_text
from mirror.store.format import layout
from mirror.store.reading.contents import Contents

# A blob that is in no manifest yet is trusted to be there for so long: whoever prunes leaves young ones.
SENT_TRUSTED = timedelta(days=1)
# What stands in the bucket is compared with a listing of all of it at least so often: what was lost there is
# noticed, and sent again.
LISTED_TRUSTED = timedelta(days=7)
_ABOUT, _SENT, _FOLDERS = "about.json", "sent", "folders"

_log = get_logger("copy")


@dataclass(frozen=True)
class About:
    """Of which copy the memory is: `id` is that of its store.json. `runs` are the keys of the run records
    and lists that went up, as far as this store still has them. `is_whole`: every folder that has a manifest
    there is remembered, and nothing is known to be missing there; else the next run asks for a listing.
    `listed` is when one was asked for last."""

    id: str
    runs: frozenset[str] = frozenset()
    is_whole: bool = False
    listed: datetime | None = None

    def is_trusted(self, now: datetime) -> bool:
        """Whether it needs no listing."""
        return (
            self.is_whole and self.listed is not None and timedelta(0) <= now - self.listed < LISTED_TRUSTED
        )


@dataclass(frozen=True)
class Remembered:
    """The last manifest of a folder that went up, and its sha256. `fingerprint` is that of the folder then;
    `hashes` are the sha256 of its files by path, size, time and inode."""

    manifest: Manifest
    sha256: str
    fingerprint: str = ""
    hashes: Mapping[tuple[str, int, int, int], str] = field(default_factory=dict)


def memory_of(store: Path, address: Address) -> Memory:
    """The memory of the copy at `address` in the store at `store`, which can be written."""
    digest = hashlib.sha256(str(address).encode()).hexdigest()
    return Memory(store, store / layout.COPIES / digest[:16])


class Memory:
    """What is remembered of one copy. Whoever writes it holds `lock_path`. What is missing or damaged counts
    as forgotten."""

    def __init__(self, store: Path, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._sent: dict[str, int] = {}

    @property
    def key(self) -> str:
        """What tells this copy from others of the store."""
        return self._folder.name

    @property
    def lock_path(self) -> Path:
        """The lock of the run that sends."""
        return self._folder / layout.COPYING_LOCK

    @property
    def protected_path(self) -> Path:
        """When retention was extended last; see `protect`."""
        return self._folder / "protected.json"

    @property
    def protecting_path(self) -> Path:
        """The keys that an unfinished pass over all retentions has done."""
        return self._folder / "protecting"

    def prepare(self) -> None:
        """Make the folders, and remove what killed writers left."""
        make_folders(self._folder / _FOLDERS, self._store)
        sweep(self._folder)
        sweep(self._folder / _FOLDERS)

    def about(self) -> About | None:
        """Of which copy the rest is; None where nothing is remembered."""
        try:
            match loads((self._folder / _ABOUT).read_bytes()):
                case {
                    "id": str() as identity,
                    "runs": list() as runs,
                    "whole": bool() as whole,
                    "listed": (str() | None) as listed,
                }:
                    when = time_from_text(listed) if listed is not None else None
                    return About(identity, frozenset(str(one) for one in runs), whole, when)
        except (OSError, ValueError):
            pass
        return None

    def keep_about(self, about: About) -> None:
        """Remember of which copy the rest is."""
        plain = {
            "id": about.id,
            "runs": sorted(about.runs),
            "whole": about.is_whole,
            "listed": None if about.listed is None else time_text(about.listed),
        }
        write_file(self._folder / _ABOUT, dumps({"schema": 1, **plain}))

    def doubt(self) -> None:
        """Something that was sent is not there any more: the next run compares everything with a listing."""
        about = self.about()
        if about is not None and about.is_whole:
            self.keep_about(replace(about, is_whole=False))

    def forget(self) -> None:
        """Forget everything: the next run asks for a listing. `about.json` goes first, as all else is nothing
        without it."""
        (self._folder / _ABOUT).unlink(missing_ok=True)
        (self._folder / _SENT).unlink(missing_ok=True)
        shutil.rmtree(self._folder / _FOLDERS, ignore_errors=True)
        self._sent = {}
        if self._folder.is_dir():
            make_folders(self._folder / _FOLDERS, self._store)

    def fingerprint(self, place: str) -> str | None:
        """The fingerprint of a folder when it was sent last, without reading more; None where that is not
        known."""
        try:
            with self._file(place).open("rb") as stream:
                head = json.loads(stream.readline(10_000))
            found = head["fingerprint"] if head["place"] == place else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def folder(self, place: str) -> Remembered | None:
        """What is remembered of a folder, or None."""
        try:
            head, _, body = self._file(place).read_bytes().partition(b"\n")
            about = json.loads(head)
            if about["place"] != place or hashlib.sha256(body).hexdigest() != about["sum"]:
                return None
            kept = json.loads(body)
            text = kept["manifest"].encode()
            manifest = Manifest.from_bytes(text)
            hashes = {
                (path, size, mtime_ns, inode): manifest.files[path].sha256
                for path, (size, mtime_ns, inode) in kept["stats"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Remembered(manifest, hashlib.sha256(text).hexdigest(), about["fingerprint"], hashes)

    def keep_folder(self, place: str, manifest: Manifest, found: Contents) -> None:
        """Remember that `manifest`, of the folder as `found`, went up."""
        stats = {path: list(found.files[path]) for path in manifest.files if path in found.files}
        body = json.dumps({"manifest": manifest.to_bytes().decode(), "stats": stats}).encode()
        head = {
            "place": place,
            "fingerprint": found.fingerprint(),
            "sum": hashlib.sha256(body).hexdigest(),
        }
        write_file(self._file(place), json.dumps(head).encode() + b"\n" + body)

    def forget_folder(self, place: str) -> None:
        """Forget what went up of a folder: the next run compares it with a listing."""
        self._file(place).unlink(missing_ok=True)

    def sent(self, now: datetime) -> Mapping[str, int]:
        """The blobs that went up lately and are in no manifest yet, with their sizes."""
        self._sent = {}
        with contextlib.suppress(OSError):
            for line in (self._folder / _SENT).read_bytes().splitlines():
                name, *numbers = line.decode("ascii", "replace").split()
                # A line that a kill cut, and what was written behind it, is of another form or too old.
                if not layout.is_sha256(name) or [one.isdecimal() for one in numbers] != [True, True]:
                    continue
                if 0 <= now.timestamp() - int(numbers[1]) < SENT_TRUSTED.total_seconds():
                    self._sent[name] = int(numbers[0])
        return self._sent

    def note_sent(self, name: str, size: int, now: datetime) -> None:
        """Remember that a blob went up, as `size` bytes."""
        self._sent[name] = size
        line = f"{name} {size} {int(now.timestamp())}\n".encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(self._folder / _SENT, flags, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def forget_sent(self) -> None:
        """Every blob that went up is in a manifest now."""
        (self._folder / _SENT).unlink(missing_ok=True)
        self._sent = {}

    def _file(self, place: str) -> Path:
        return self._folder / _FOLDERS / hashlib.sha256(place.encode()).hexdigest()[:32]
