"""`mirror copy --check`: whether what stands in the bucket now is what the manifests say.

By listing, sizes are compared; with `read` every byte is downloaded and hashed. What a reader would do about
a fault (take an older version, or an older manifest) is told, and makes the fault no smaller.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mirror import __version__
from mirror.bucket.failures import Absent
from mirror.bucket.stored import Stored
from mirror.copy.coding import Undecodable, WrongIdentity
from mirror.copy.fetching import Mismatch, fetch_version
from mirror.copy.format import COPY_FILE, MANIFESTS, STORE, File, Manifest, manifest_key
from mirror.copy.materializing import list_fault, lists_of, record_fault, run_keys
from mirror.copy.reading import WIDTH, CopiedFolder, Copy, checked_manifest, record_store_id
from mirror.errors import DamageFound, NoStore, Result, UsageError
from mirror.logs import get_logger
from mirror.model import DONE, JsonObject, NoProgress, Problem, Progress, Run, loads
from mirror.store.format.layout import run_record
from mirror.store.reading.copy_history import CHECK
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Store, StoreDamaged
from mirror.store.writing.writer import open_store

# The number of faults that the record of a check lists one by one.
RECORDED_MAX = 50
_log = get_logger("copy")


@dataclass(frozen=True)
class Fault:
    """What is wrong with an object that should stand at `key`. `instead` says what a reader takes instead;
    None: nothing that was found, `folder` cannot be had whole."""

    key: str
    problem: str
    instead: str | None = None
    folder: str | None = None

    def to_json(self) -> JsonObject:
        """The fault as `--json` prints it."""
        return {"key": self.key, "problem": self.problem, "instead": self.instead, "folder": self.folder}


@dataclass
class Checked(Result):
    """What a check found. `behind` has, by full name, what of the store the copy does not have yet; None
    where there is no store to compare with. `versions_unread` is why older versions were not looked for."""

    address: str
    read: bool
    folders: int = 0
    objects: int = 0
    bytes: int = 0
    faults: list[Fault] = field(default_factory=list)
    behind: Mapping[str, str] | None = None
    versions_unread: str | None = None

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """4 where anything is not what the manifests say. A copy that is behind is none the worse for it."""
        return (4,) if self.faults else ()

    @property
    def counts(self) -> JsonObject:
        """How much was checked."""
        return {"folders": self.folders, "objects": self.objects, "bytes": self.bytes}

    def to_json(self) -> JsonObject:
        """The result as `--json` prints it."""
        return {
            "schema": 1,
            "copy": self.address,
            "read": self.read,
            "checked": self.counts,
            "faults": [one.to_json() for one in self.faults],
            "behind": None if self.behind is None else dict(self.behind),
            "versions_unread": self.versions_unread,
            **self.codes_to_json(),
        }


async def check(
    copy: Copy, *, read: bool, store: Path | None = None, progress: Progress | None = None
) -> Checked:
    """Compare what stands in the bucket with the newest manifests, and those with the store at `store`.

    Raises UsageError where the store is not that of the copy; damage is in the result.
    """
    behind = None if store is None else await asyncio.to_thread(behind_of, copy, store)
    unread = None if copy.objects.with_versions else copy.objects.why_not
    result = Checked(str(copy.bucket.address), read, behind=behind, versions_unread=unread)
    checking = _Checking(copy, result, progress or NoProgress())
    await checking.record()
    for key in copy.foreign:
        result.faults.append(Fault(key, "it is not of this copy: somebody else put it there"))
    for name, why in sorted(copy.broken.items()):
        result.faults.append(Fault(f"{MANIFESTS}/{name}", why))
    if STORE not in copy.folders and not copy.broken:
        text = "there is no manifest of the store: the first copy did not end, or it was deleted"
        result.faults.append(Fault(f"{MANIFESTS}/{STORE}", text))
    checking.progress.expect({one.full_name or one.place: 1.0 + one.size for one in copy.folders.values()})
    slots = asyncio.Semaphore(WIDTH if not read else 2)

    async def one(folder: CopiedFolder) -> None:
        async with slots:
            await checking.folder(folder)

    async with asyncio.TaskGroup() as group:
        for folder in copy.folders.values():
            group.create_task(one(folder))
    if read:
        await checking.runs()
    result.faults.sort(key=lambda fault: fault.key)
    return result


class _Checking:
    def __init__(self, copy: Copy, result: Checked, progress: Progress) -> None:
        self._copy = copy
        self._result = result
        self.progress = progress
        self._slots = asyncio.Semaphore(WIDTH)

    def _fault(self, key: str, problem: str, instead: str | None = None, folder: str | None = None) -> None:
        self._result.faults.append(Fault(key, problem, instead, folder))
        _log.error("copy.fault", key=key, problem=problem, instead=instead, folder=folder)

    async def record(self) -> None:
        """Check store.json."""
        now = self._copy.objects.now(COPY_FILE)
        problem = _absence(self._copy, COPY_FILE)
        if now is not None:
            self._result.objects += 1
            try:
                record_store_id(await self._copy.bucket.get(COPY_FILE, version=now.version, limit=1 << 20))
            except (ValueError, Absent) as error:
                problem = str(error)
            else:
                return
        instead = None if self._copy.store_id is None else "an older version of it holds"
        self._fault(COPY_FILE, problem, instead)

    async def folder(self, folder: CopiedFolder) -> None:
        """Check the newest manifest of a folder, and every blob that it names."""
        self._result.folders += 1
        self._manifests(folder)
        if folder.read_from is None:
            return
        if folder.fault is not None:
            manifest = checked_manifest(await self._copy.read(folder.read_from))
        else:
            manifest = await self._copy.manifest(folder)
        wanted: dict[str, dict[str, File]] = {}
        for path, file in manifest.files.items():
            wanted.setdefault(file.blob, {})[path] = file
        if self._result.read:
            await self._chain(folder, manifest)
        async with asyncio.TaskGroup() as group:
            for name, size in manifest.blobs.items():
                group.create_task(self._blob(folder, name, size, wanted.get(name, {})))
        self.progress.report(folder.full_name or folder.place, DONE)

    def _manifests(self, folder: CopiedFolder) -> None:
        """Whether the newest manifest is the one that stands there now."""
        copy, one = self._copy, folder.read_from
        numbers = copy.numbers(folder.name)
        newest = f"{MANIFESTS}/{folder.name}"
        if numbers:
            newest = manifest_key(folder.name, numbers[0], copy.coding.suffix)
        if one is None:
            self._fault(newest, folder.fault or "it is missing", None, folder.place)
            return
        self._result.objects += 1
        since = copy.objects.in_the_way(one)
        if one.key != newest:
            text = f"number {folder.number}, an older manifest, is read instead"
            self._fault(newest, "no version of it holds", text, folder.place)
        elif since is not None:
            self._fault(
                newest, since, f"its version of {one.modified:%Y-%m-%d %H:%M} UTC holds", folder.place
            )

    async def _chain(self, folder: CopiedFolder, manifest: Manifest) -> None:
        """Whether a manifest was made after the one before it. Where that one is gone, or its hash was not
        known to the sender, nothing is said."""
        key = manifest_key(folder.name, manifest.number - 1, self._copy.coding.suffix)
        before = self._copy.objects.of(key)
        if manifest.before is None or not before:
            return
        digests = set()
        for one in before:
            try:
                digests.add(hashlib.sha256(await self._copy.read(one)).hexdigest())
            except (ValueError, DamageFound, WrongIdentity, Absent):
                continue
        if digests and manifest.before not in digests:
            newest = manifest_key(folder.name, manifest.number, self._copy.coding.suffix)
            text = f"it was not made after {key}, as it should be: somebody else wrote one of them"
            self._fault(newest, text, None, folder.place)

    async def _blob(self, folder: CopiedFolder, name: str, size: int, wanted: Mapping[str, File]) -> None:
        copy, key = self._copy, self._copy.blob_key(name)
        now = copy.objects.now(key)
        async with self._slots:
            if now is None:
                problem: str | None = _absence(copy, key)
            elif now.size != size:
                problem = f"it has {now.size} bytes, and the manifest says {size}"
            else:
                self._result.objects += 1
                self._result.bytes += now.size
                problem = await self._content(folder, now, wanted) if self._result.read else None
            if problem is None:
                return
            older = await self._older(folder, key, size, now, wanted)
        self._fault(key, problem, older, folder.place)

    async def _older(
        self,
        folder: CopiedFolder,
        key: str,
        size: int,
        now: Stored | None,
        wanted: Mapping[str, File],
    ) -> str | None:
        """The older version of a blob that is right, or None."""
        for one in self._copy.objects.sized(key, size):
            if now is not None and one.version == now.version:
                continue
            if not self._result.read:
                return f"its version of {one.modified:%Y-%m-%d %H:%M} UTC has the right size"
            if await self._content(folder, one, wanted) is None:
                return f"its version of {one.modified:%Y-%m-%d %H:%M} UTC is right"
        return None

    async def _content(self, folder: CopiedFolder, one: Stored, wanted: Mapping[str, File]) -> str | None:
        """What is wrong with the content of a blob, or None."""
        subject = folder.full_name or folder.place
        self.progress.report(subject, "reading the copy")
        for is_bundled in (True, False):
            several = {path: file for path, file in wanted.items() if file.is_bundled == is_bundled}
            if not several:
                continue
            try:
                await fetch_version(
                    self._copy, one, several, None,
                    received=lambda size: self.progress.received(0, size),
                )  # fmt: skip
            except (Mismatch, Undecodable, WrongIdentity, Absent) as error:
                return str(error)
        return None

    async def runs(self) -> None:
        """Read every run record and list, and check that none is missing in their chain."""
        records, lists = run_keys(self._copy)
        found: dict[str, bytes] = {}
        for key, identifier in records.items():
            data = await self._current(key, record_fault(identifier))
            if data is not None:
                found[identifier] = data
        named = {one for data in found.values() for one in lists_of(data)}
        held = set()
        for key, name in lists.items():
            fault = list_fault(named, None if self._copy.coding.is_encrypted else name)
            data = await self._current(key, fault)
            held.add("" if data is None else hashlib.sha256(data).hexdigest())
        for sha256 in sorted(named - held):
            self._fault(f"runs/lists/{sha256}", "run records name this list, and it is missing")
        self._records(found)

    def _records(self, found: Mapping[str, bytes]) -> None:
        for data in found.values():
            value = loads(data)
            before, digest = value.get("previous_run"), value.get("previous")
            if not isinstance(before, str):
                continue
            key = self._copy.key(run_record(before))
            if before not in found:
                # Records before a checkpoint may be let go.
                if value.get("checkpoint") is None and not self._copy.objects.of(key):
                    self._fault(key, "the run record after it names it, and it is missing")
            elif hashlib.sha256(found[before]).hexdigest() != digest:
                self._fault(key, "it is not the one that the run record after it names")

    async def _current(self, key: str, fault: Callable[[bytes], str | None]) -> bytes | None:
        """The content of a small object as it stands now, or None, and what is wrong with it is noted."""
        now = self._copy.objects.now(key)
        problem: str | None = _absence(self._copy, key)
        if now is not None:
            try:
                data = await self._copy.read(now)
                problem = fault(data)
            except (ValueError, DamageFound, WrongIdentity, Absent) as error:
                problem = str(error)
            else:
                if problem is None:
                    self._result.objects += 1
                    self._result.bytes += now.size
                    return data
        whole = await self._copy.first_intact(key, fault)
        self._fault(key, str(problem), None if whole is None else "an older version of it is right")
        return whole


def _absence(copy: Copy, key: str) -> str:
    """Why there is nothing at a key now."""
    return "it was deleted" if copy.objects.of(key) else "it is missing"


def behind_of(copy: Copy, store: Path) -> dict[str, str]:
    """By full name, what of the store at `store` the copy does not have. Raises UsageError where the store is
    not that of the copy, and as opening the store does."""
    found: dict[str, str] = {}
    with Store.open(store) as opened:
        if copy.store_id is not None and copy.store_id != opened.id:
            raise UsageError(
                f"{copy.bucket.address} is the copy of another store than {store}",
                hint="name its own store with --store, or none",
            )
        folders: list[AnyFolder] = [*opened.workspaces(on_damage=lambda _: None)]
        folders += opened.repositories(on_damage=lambda _: None)
        for one in folders:
            copied = copy.folders.get(one.place)
            if copied is None or copied.read_from is None:
                found[one.full_name] = "it is not in the copy"
                continue
            try:
                lacking = sorted(set(one.metadata.tags()) - set(copied.snapshots))
            except (StoreDamaged, OSError):
                continue  # verify tells that
            if lacking:
                found[one.full_name] = f"{len(lacking)} snapshots are not in the copy, the last {lacking[-1]}"
    return found


@dataclass(frozen=True)
class Answer:
    """What a check of the copy at `address` had to say: what it found, or that no copy is there any more."""

    address: str
    begun: datetime
    ended: datetime
    found: Checked | NoStore
    requests: int = 0

    def _problems(self) -> list[Problem]:
        if isinstance(self.found, NoStore):
            return [Problem(self.found.exit_code, self.found.message, hint=self.found.hint)]
        faults = self.found.faults
        problems = [
            Problem(4, f"{one.key}: {one.problem}" + (f"; {one.instead}" if one.instead else ""))
            for one in faults[:RECORDED_MAX]
        ]
        if len(faults) > RECORDED_MAX:
            problems.append(Problem(4, f"and {len(faults) - RECORDED_MAX} more faults"))
        return problems

    def run(self, identifier: str) -> Run:
        """The run that the store remembers."""
        facts: JsonObject = {"to": self.address, "action": CHECK, "requests": self.requests}
        if isinstance(self.found, Checked):
            facts |= {"read": self.found.read, "checked": self.found.counts, "faults": len(self.found.faults)}
        else:
            facts["faults"] = 1
        return Run(
            identifier, "copy", self.begun, self.ended, __version__, problems=tuple(self._problems()),
            facts=facts,
        )  # fmt: skip


def remember(store: Path, answers: list[Answer]) -> None:
    """Record in the store what checks of its copies said. Raises as `open_store` does, and OSError."""
    with open_store(store, command="mirror copy --check") as writer:
        for one in answers:
            writer.write_run(one.run(writer.new_run_id(one.begun)))
