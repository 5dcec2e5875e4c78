"""`mirror copy --prune`: taking out of the bucket what no kept manifest needs.

It runs elsewhere, with a credential that may delete. The host that sends learns nothing of it: it trusts only
what the newest manifest of each folder names, and what it sent itself a moment ago. So these stay, and
everything young does: a copy may be on its way.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.bucket.bucket import Bucket
from mirror.bucket.failures import Absent, Denied
from mirror.copy.format import BLOBS, manifest_key
from mirror.copy.objects import Objects
from mirror.copy.reading import WIDTH, CopiedFolder, Copy, checked_manifest
from mirror.errors import DamageFound, MirrorError, Result, UsageError
from mirror.logs import get_logger
from mirror.model import JsonObject, NoProgress, Progress, time_text

# Nothing younger is touched: a copy that is under way has blobs that no manifest names yet.
LEAST_AGE = timedelta(days=7)
# Manifests younger than this are kept, and so are the states that they hold.
KEEP = timedelta(days=30)
# What is young is judged by times of the server: this machine's clock may differ by so much.
CLOCKS_DIFFER = timedelta(days=1)
_BLOB = re.compile(rf"{BLOBS}/([0-9a-f]{{2}})/([0-9a-f]{{64}})")
_log = get_logger("copy")


@dataclass(frozen=True)
class Victim:
    """An object that is not needed: its size as stored, with all its versions, and why it goes."""

    key: str
    size: int
    reason: str

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {"key": self.key, "bytes": self.size, "reason": self.reason}


@dataclass(frozen=True)
class Plan:
    """What may go, and how much stays."""

    manifests: tuple[Victim, ...]
    blobs: tuple[Victim, ...]
    kept_manifests: int
    kept_blobs: int
    kept_bytes: int

    @property
    def bytes(self) -> int:
        """What would be freed, where nothing forbids it."""
        return sum(one.size for one in (*self.manifests, *self.blobs))


@dataclass
class Pruned(Result):
    """What was deleted. `marked` objects got a delete marker, and their bytes stay as versions; `refused`
    could not be deleted, for the reason `why`; `is_locked` where the bucket retains objects by itself."""

    address: str
    plan: Plan
    manifests: int = 0
    blobs: int = 0
    bytes: int = 0
    marked: int = 0
    refused: int = 0
    why: str = ""
    is_locked: bool = False

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """3 where something was refused that no Object Lock explains."""
        return (3,) if self.refused and not self.is_locked else ()

    def to_json(self) -> JsonObject:
        """The result as `--json` prints it."""
        plan = self.plan
        return {
            "schema": 1,
            "copy": self.address,
            "kept": {"manifests": plan.kept_manifests, "blobs": plan.kept_blobs, "bytes": plan.kept_bytes},
            "manifests": [one.to_json() for one in plan.manifests],
            "blobs": [one.to_json() for one in plan.blobs],
            "deleted": {"manifests": self.manifests, "blobs": self.blobs, "bytes": self.bytes},
            "marked": self.marked,
            "refused": self.refused,
            "refused_because": self.why,
            "object_lock": self.is_locked,
            **self.codes_to_json(),
        }


async def check_clock(bucket: Bucket, now: datetime) -> None:
    """Raise MirrorError where this machine's clock and the server's differ so much that what is young here is
    not young there. Raises as asking for the server's time does, too."""
    theirs = await bucket.server_time()
    if abs(now - theirs) > CLOCKS_DIFFER:
        raise MirrorError(
            f"nothing is removed from {bucket.address}: this machine's clock says {time_text(now)}, and the"
            f" server's {time_text(theirs)}",
            hint="set the clock (NTP): what is younger than some days must stay",
        )


async def plan(copy: Copy, *, now: datetime, keep: timedelta = KEEP) -> Plan:
    """What may go: manifests that are neither the newest of their folder nor younger than `keep`, and blobs
    that none of the others names; nothing that is younger than LEAST_AGE.

    Raises DamageFound where anything of the copy is not as it was sent: what such a copy needs is not known.
    UsageError where the copy was opened as of a time.
    """
    if copy.as_of is not None:
        raise UsageError("--as-of is for reading", hint="prune sees what there is now")
    doubt = [*copy.notes, *copy.broken.values(), *(one.fault for one in copy.folders.values() if one.fault)]
    if doubt:
        raise DamageFound(
            f"nothing is removed from {copy.bucket.address}, because it is not as it was sent: {doubt[0]}",
            hint="see mirror copy --check; after an attack, make a copy at another address",
        )
    keep = max(keep, LEAST_AGE)
    kept: list[tuple[CopiedFolder, int]] = []
    manifests: list[Victim] = []
    for folder in copy.folders.values():
        for number in copy.numbers(folder.name):
            key = manifest_key(folder.name, number, copy.coding.suffix)
            if number >= folder.number or _newest(copy.objects, key) > now - keep:
                kept.append((folder, number))
            else:
                reason = f"number {folder.number} is newer, and it is older than {keep.days} days"
                manifests.append(Victim(key, _size(copy.objects, key), reason))
    named = await _named(copy, kept)
    return _with_blobs(copy, named, manifests, len(kept), now)


def _with_blobs(
    copy: Copy, named: set[str], manifests: Sequence[Victim], kept_manifests: int, now: datetime
) -> Plan:
    blobs: list[Victim] = []
    kept_blobs = kept_bytes = 0
    for key in copy.objects.keys(f"{BLOBS}/"):
        found = _BLOB.fullmatch(key.removesuffix(copy.coding.suffix))
        if found is None or copy.key(key.removesuffix(copy.coding.suffix)) != key:
            continue
        if found[1] != found[2][:2] or found[2] in named or _newest(copy.objects, key) > now - LEAST_AGE:
            kept_blobs += 1
            kept_bytes += _size(copy.objects, key)
        else:
            blobs.append(Victim(key, _size(copy.objects, key), "no kept manifest names it"))
    return Plan(tuple(manifests), tuple(blobs), kept_manifests, kept_blobs, kept_bytes)


def _newest(objects: Objects, key: str) -> datetime:
    """When the youngest version of an object came."""
    return max(one.modified for one in objects.of(key))


def _size(objects: Objects, key: str) -> int:
    """The bytes of an object, with all its versions."""
    return sum(one.size for one in objects.of(key))


async def _named(copy: Copy, kept: Sequence[tuple[CopiedFolder, int]]) -> set[str]:
    """The names of all blobs that some manifests name. Raises DamageFound where one cannot be read, or was
    not made after the one before it."""
    named: set[str] = set()
    slots = asyncio.Semaphore(WIDTH)

    async def one(folder: CopiedFolder, number: int) -> None:
        key = manifest_key(folder.name, number, copy.coding.suffix)
        async with slots:
            for version in copy.objects.of(key):
                try:
                    manifest = checked_manifest(await copy.read(version))
                    before = await _digest_before(copy, folder, number)
                except (ValueError, DamageFound, Absent) as error:
                    raise _unknown(copy, key, str(error)) from None
                if before is not None and manifest.before not in (None, before):
                    text = "it was not made after the one before it: somebody else wrote one of them"
                    raise _unknown(copy, key, text)
                named.update(manifest.blobs)

    try:
        async with asyncio.TaskGroup() as group:
            for folder, number in kept:
                group.create_task(one(folder, number))
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return named


async def _digest_before(copy: Copy, folder: CopiedFolder, number: int) -> str | None:
    """The sha256 of the manifest before, where it is still there."""
    now = copy.objects.now(manifest_key(folder.name, number - 1, copy.coding.suffix))
    return None if now is None else hashlib.sha256(await copy.read(now)).hexdigest()


def _unknown(copy: Copy, key: str, why: str) -> DamageFound:
    return DamageFound(
        f"nothing is removed from {copy.bucket.address}: {key}: {why}, so what it needs is not known",
        hint="see mirror copy --check --read",
    )


async def prune(
    copy: Copy,
    planned: Plan,
    identities: Sequence[object],
    *,
    now: datetime,
    keep: timedelta = KEEP,
    progress: Progress | None = None,
) -> Pruned:
    """Delete what was planned: manifests first, then, after another look at everything that stands there, the
    blobs that still nothing needs. What the bucket refuses is counted. Raises as `plan` does."""
    result = Pruned(str(copy.bucket.address), planned)
    with_versions = copy.objects.with_versions
    try:
        state = await copy.bucket.lock_state()
        result.is_locked = bool(state.has_default)
        is_versioned = state.versioning is not False
    except UsageError:  # boto3 is not installed: nothing is known
        is_versioned = True
    deleting = _Deleting(copy.bucket, result, with_versions, is_versioned, progress or NoProgress())
    result.manifests = await deleting.delete_all(copy.objects, planned.manifests)
    again = await Copy.open(copy.bucket, identities)
    still = {one.key for one in (await plan(again, now=now, keep=keep)).blobs}
    result.blobs = await deleting.delete_all(
        again.objects, [one for one in planned.blobs if one.key in still]
    )
    _log.info(
        "copy.pruned", copy=result.address, manifests=result.manifests, blobs=result.blobs,
        bytes=result.bytes, marked=result.marked, refused=result.refused,
    )  # fmt: skip
    return result


@dataclass(frozen=True)
class _Deleting:
    bucket: Bucket
    result: Pruned
    with_versions: bool
    is_versioned: bool
    progress: Progress

    async def delete_all(self, objects: Objects, victims: Sequence[Victim]) -> int:
        """Delete objects, some at a time; returns of how many nothing is left."""
        slots, gone = asyncio.Semaphore(WIDTH), 0

        async def one(victim: Victim) -> None:
            nonlocal gone
            async with slots:
                is_gone = await self._delete(objects, victim)
            gone += is_gone

        async with asyncio.TaskGroup() as group:
            for victim in victims:
                group.create_task(one(victim))
        return gone

    async def _delete(self, objects: Objects, one: Victim) -> bool:
        """Delete an object, with its versions where they are known; returns whether nothing of it is left."""
        self.progress.report(one.key, "deleting")
        try:
            if self.with_versions and self.is_versioned:
                for version in objects.of(one.key):
                    await self.bucket.delete(one.key, version=version.version)
            else:
                await self.bucket.delete(one.key)
        except Denied as error:
            self.result.refused += 1
            self.result.why = error.message
            _log.info("copy.delete_refused", key=one.key, reason=error.message)
            return False
        if self.is_versioned and not self.with_versions:
            self.result.marked += 1
            return False
        self.result.bytes += one.size
        return True
