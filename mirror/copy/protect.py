"""Extending how long the bucket keeps what is still in use.

The bucket's default retention runs from when an object went up, and a pack of years ago may still be needed.
So all that the newest manifests name, they themselves and the run records are retained anew, in a pass of its
own at most every third of the time: one request for each object. A pass that was killed goes on where it was.

Who reads takes what stands at a key, and where that is not what was sent, an older version. So the version
that stands there is retained, and where somebody wrote over it the oldest one of the right size, too: nothing
is ever written over by who sends. Those in between are noise, of which a thief can make any number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from mirror.copy.format import COPY_FILE, STORE, blob_key, manifest_key
from mirror.copy.objects import Objects
from mirror.copy.session import UPLOADS, Session, do_all
from mirror.fs.durable import write_file
from mirror.logs import get_logger
from mirror.model import DONE, NotCanonical, dumps, loads, time_from_text, time_text
from mirror.store.reading.contents import places

# A pass is due once this part of the time is over since the last one.
_PART = 3
_SUBJECT = "retention"
# The number of keys that a record names of what cannot be retained, because it is not there.
LOST_MAX = 50
_log = get_logger("copy")


@dataclass(frozen=True)
class _Journal:
    """The last pass, and how far it is: `until` is the time up to which it retains."""

    path: Path
    begun: datetime
    until: datetime
    is_done: bool

    @classmethod
    def read(cls, path: Path) -> _Journal | None:
        """The last pass, or None."""
        try:
            match loads(path.read_bytes()):
                case {"begun": str() as begun, "until": str() as until, "done": bool() as done}:
                    return cls(path, time_from_text(begun), time_from_text(until), done)
        except (OSError, NotCanonical, ValueError):
            pass
        return None

    def write(self) -> None:
        """Remember it."""
        plain = {"begun": time_text(self.begun), "until": time_text(self.until), "done": self.is_done}
        write_file(self.path, dumps({"schema": 1, **plain}))


async def protect(session: Session, time: timedelta, runs: Iterable[str]) -> dict[str, Any]:
    """Retain for `time` from now on all that the copy needs, where that is due; `runs` are the keys of run
    records. Returns what the run record says of it. Raises what the bucket raises, and UsageError without
    boto3."""
    now = session.now()
    journal = _Journal.read(session.memory.protected_path)
    if journal is not None and journal.is_done and now - journal.begun < time / _PART:
        return {"protected": {"until": time_text(journal.until), "objects": 0}}
    if journal is None or journal.is_done or now - journal.begun >= time / _PART:
        session.memory.protecting_path.unlink(missing_ok=True)
        journal = _Journal(session.memory.protected_path, now, now + time, is_done=False)
        journal.write()
    sizes = await asyncio.to_thread(lambda: dict(_needed(session, runs)))
    objects = await Objects.listed(session.bucket)
    targets, lost = _targets(objects, sizes)
    done = _lines(session.memory.protecting_path)
    left = [one for one in targets if str(one) not in done]
    session.progress.report(_SUBJECT, "retaining", len(done), len(targets))
    await _extend(session, journal, left, len(targets))
    _Journal(journal.path, journal.begun, journal.until, is_done=True).write()
    session.memory.protecting_path.unlink(missing_ok=True)
    session.progress.report(_SUBJECT, DONE)
    _log.info("copy.protected", objects=len(left), until=time_text(journal.until), lost=len(lost))
    told: dict[str, Any] = {"until": time_text(journal.until), "objects": len(left)}
    if not objects.with_versions:
        told["newest_only"] = objects.why_not
    if lost:
        told["lost"] = lost[:LOST_MAX]
    return {"protected": told}


@dataclass(frozen=True)
class _Target:
    """A version of an object; of one without versions, what stands there."""

    key: str
    version: str | None

    def __str__(self) -> str:
        return self.key if self.version is None else f"{self.key} {self.version}"


def _targets(objects: Objects, sizes: Mapping[str, int | None]) -> tuple[list[_Target], list[str]]:
    """What is to be retained, and the keys of what is needed and not there in any version."""
    found: list[_Target] = []
    lost = []
    for key, size in sorted(sizes.items()):
        now = objects.now(key)
        right = objects.of(key) if size is None else objects.sized(key, size)
        if not right:
            lost.append(key)
        if not objects.with_versions:
            found += [_Target(key, None)] if now is not None else []
            continue
        versions = [one.version for one in (now, *right[-1:]) if one is not None]
        found += [_Target(key, version) for version in dict.fromkeys(versions)]
    return found, lost


async def _extend(session: Session, journal: _Journal, left: list[_Target], total: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    descriptor = os.open(session.memory.protecting_path, flags, 0o600)

    async def extend(one: _Target) -> None:
        await session.bucket.extend(one.key, one.version, journal.until)
        os.write(descriptor, f"{one}\n".encode())

    def told(done: int) -> None:
        session.progress.report(_SUBJECT, "retaining", total - len(left) + done, total)

    try:
        await do_all([partial(extend, one) for one in left], UPLOADS, told)
    finally:
        os.close(descriptor)


def _needed(session: Session, runs: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    """The keys of everything that the newest manifests need, and of they themselves, each with its size as
    it was sent, where that is known."""
    suffix = session.coding.suffix
    yield COPY_FILE, None
    yield from ((key, None) for key in runs)
    for place in (STORE, *places(session.root)):
        known = session.memory.folder(place)
        if known is not None:
            yield manifest_key(session.coding.folder_name(place), known.manifest.number, suffix), None
            yield from ((blob_key(name, suffix), size) for name, size in known.manifest.blobs.items())


def _lines(path: Path) -> set[str]:
    """The whole lines of a file; a kill may have cut the last one."""
    with contextlib.suppress(FileNotFoundError):
        *whole, _ = path.read_text("ascii").split("\n")
        return set(whole)
    return set()
