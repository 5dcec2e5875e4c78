"""Extending how long the bucket keeps what is still in use.

The bucket's default retention runs from when an object went up, and a pack of years ago may still be needed.
So all that the newest manifests name, they themselves and the run records are retained anew, in a pass of its
own at most every third of the time: one request for each object. A pass that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from mirror.copy.format import COPY_FILE, STORE, blob_key, manifest_key
from mirror.copy.session import UPLOADS, Session, do_all
from mirror.fs.durable import write_file
from mirror.logs import get_logger
from mirror.model import DONE, NotCanonical, dumps, loads, time_from_text, time_text
from mirror.store.reading.contents import places

# A pass is due once this part of the time is over since the last one.
_PART = 3
_SUBJECT = "retention"
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
    keys = await asyncio.to_thread(lambda: sorted(set(_keys(session, runs))))
    done = _lines(session.memory.protecting_path)
    left = [key for key in keys if key not in done]
    session.progress.report(_SUBJECT, "retaining", len(done), len(keys))
    await _extend(session, journal, left, len(keys))
    _Journal(journal.path, journal.begun, journal.until, is_done=True).write()
    session.memory.protecting_path.unlink(missing_ok=True)
    session.progress.report(_SUBJECT, DONE)
    _log.info("copy.protected", objects=len(left), until=time_text(journal.until))
    return {"protected": {"until": time_text(journal.until), "objects": len(left)}}


async def _extend(session: Session, journal: _Journal, keys: list[str], total: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    descriptor = os.open(session.memory.protecting_path, flags, 0o600)

    async def extend(key: str) -> None:
        await session.bucket.extend(key, None, journal.until)
        os.write(descriptor, f"{key}\n".encode())

    def told(done: int) -> None:
        session.progress.report(_SUBJECT, "retaining", total - len(keys) + done, total)

    try:
        await do_all([partial(extend, key) for key in keys], UPLOADS, told)
    finally:
        os.close(descriptor)


def _keys(session: Session, runs: Iterable[str]) -> Iterator[str]:
    """Everything that the newest manifests need, and they themselves."""
    suffix = session.coding.suffix
    yield COPY_FILE
    yield from runs
    for place in (STORE, *places(session.root)):
        known = session.memory.folder(place)
        if known is not None:
            yield manifest_key(session.coding.folder_name(place), known.manifest.number, suffix)
            yield from (blob_key(name, suffix) for name in known.manifest.blobs)


def _lines(path: Path) -> set[str]:
    """The whole lines of a file; a kill may have cut the last one."""
    with contextlib.suppress(FileNotFoundError):
        *whole, _ = path.read_text("ascii").split("\n")
        return set(whole)
    return set()
