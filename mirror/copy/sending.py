"""One copy run: the store's folders, then the run records that vouch for them, then the store's own
manifest.

Whenever it ends, what stands in the bucket is a valid store: a manifest goes up after all blobs that it
names, a record after all folders that it speaks of. What this host remembers says what is unchanged: it costs
no request. A folder is copied as it is on the disk; what its small files, LFS objects and plain stored files
say of their own bytes is checked on the way, the rest is for `mirror verify`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from mirror import __version__
from mirror.bucket.bucket import Bucket
from mirror.config.copies import CopyConfig
from mirror.config.settings import Config
from mirror.connect.copies import open_bucket
from mirror.copy import aside
from mirror.copy.introduction import coding_of, introduce
from mirror.copy.memory import About, memory_of
from mirror.copy.passing import Pass
from mirror.copy.protect import protect
from mirror.copy.session import Doubt, Session, read_listing
from mirror.errors import Cancelled, MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, NoProgress, Problem, Progress, Run
from mirror.store.writing.locks import hold
from mirror.store.writing.writer import StoreWriter, open_store

LOCK_WAIT = 600.0
_COMMAND = "mirror copy"
_log = get_logger("copy")


class CopyCancelled(Cancelled):
    """The run was stopped; `run` is its record."""

    def __init__(self, run: Run) -> None:
        super().__init__("interrupted; the next run sends what is missing")
        self.run = run


async def run(
    config: Config,
    copy: CopyConfig,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    progress: Progress | None = None,
    dry_run: bool = False,
    lock_wait: float = LOCK_WAIT,
) -> Run:
    """Bring the copy `copy` of the configured store up to date, and record it.

    A folder whose lock another process holds is tried again at the end, for up to `lock_wait` seconds.
    `dry_run` says what would be sent, without sending, change or record. What goes wrong is a problem of the
    run. Raises NoStore, as `open_store` does, and CopyCancelled.
    """
    with open_store(config.store, command=_COMMAND) as store:
        one = _CopyRun(config, copy, store, clock, environment, progress or NoProgress(), lock_wait, dry_run)
        return await one.run()


@dataclass
class _CopyRun:
    """One run; `run` does it."""

    config: Config
    copy: CopyConfig
    store: StoreWriter
    clock: Clock
    environment: Mapping[str, str]
    progress: Progress
    lock_wait: float
    dry_run: bool
    problems: list[Problem] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    last: Pass | None = None
    bucket: Bucket | None = None

    async def run(self) -> Run:
        """Do it and record it."""
        begun = self.clock.now()
        identifier = self.store.new_run_id(begun)
        _log.info("copy.started", run=identifier, to=self.copy.to)
        try:
            await self._work()
        except asyncio.CancelledError:
            self.problems.append(Problem(130, "the run was interrupted"))
            raise CopyCancelled(self._end(identifier, begun)) from None
        except MirrorError as error:
            self.problems.append(Problem(error.exit_code, error.message, hint=error.hint))
        except OSError as error:
            self.problems.append(Problem(1, f"{error.strerror or type(error).__name__}: {error.filename}"))
        return self._end(identifier, begun)

    async def _work(self) -> None:
        coding = await coding_of(self.copy, self.environment)
        memory = memory_of(self.config.store, self.copy.address)
        await asyncio.to_thread(memory.prepare)
        what = f"the copy to {self.copy.to}"
        async with (
            hold(memory.lock_path, what=what, command=_COMMAND, wait=0.0, clock=self.clock),
            open_bucket(self.copy, self.config, self.environment, self.clock) as bucket,
        ):
            self.bucket = bucket
            session = Session(bucket, coding, memory, self.store, self.clock, self.progress, self.lock_wait)
            aside.sweep(session.root, memory.key)
            try:
                await self._passes(session)
            finally:
                aside.sweep(session.root, memory.key)

    async def _passes(self, session: Session) -> None:
        """One pass; where the copy is not what is remembered of it, another one that asks for all of it."""
        try:
            await self._pass(session)
        except Doubt as doubt:
            _log.warning("copy.doubted", to=self.copy.to, reason=doubt.message)
            session.memory.doubt()
            await self._pass(session)

    async def _pass(self, session: Session) -> None:
        """Send everything that is not there, once."""
        memory = session.memory
        about = await self._about(session)
        session.listing = None
        now = self.clock.now()
        runs = lost_runs = about.runs if about is not None else frozenset()
        if about is None or not about.is_trusted(now):
            session.listing = await read_listing(session.bucket, session.coding.suffix)
            runs = frozenset(session.listing.runs)
            if about is not None and not self.dry_run:
                # What went up is remembered until what of it is lost was sent again, and told.
                about = About(about.id, about.runs, listed=now)
                memory.keep_about(about)
        session.sent = dict(memory.sent(self.clock.now()))
        if session.listing is not None:
            there = session.listing.blobs
            session.sent = {name: size for name, size in session.sent.items() if there.get(name) == size}
        self.last = Pass(session, runs, lost_runs - runs)
        if self.dry_run:
            await self.last.estimate()
            return
        assert about is not None
        session.ended = threading.Event()
        try:
            runs = await self.last.send()
        finally:
            session.ended.set()
        # In a pass without a listing, memory was whole before, and is so though a folder failed.
        is_whole = self.last.is_whole or about.is_whole
        memory.keep_about(replace(about, runs=runs, is_whole=is_whole))
        if self.last.is_whole:
            memory.forget_sent()
            if self.copy.protect is not None:
                self._note_protected(await protect(session, self.copy.protect, runs))

    def _note_protected(self, found: dict[str, Any]) -> None:
        self.facts |= found
        if lost := found["protected"].get("lost"):
            text = f"what the copy needs cannot be protected, because it is not there: {', '.join(lost[:5])}"
            self.problems.append(Problem(3, text, hint="run mirror copy --check, then mirror copy"))
            # The next run compares everything with a listing, and sends it again.
            memory_of(self.config.store, self.copy.address).doubt()

    async def _about(self, session: Session) -> About | None:
        """What is remembered of this very copy; with `dry_run` None where there is nothing."""
        memory = session.memory
        identity = await introduce(
            session.bucket, session.coding, self.store.reader.id, self.clock, dry_run=self.dry_run
        )
        about = memory.about()
        if about is not None and about.id == identity:
            return about
        if self.dry_run or identity is None:
            return None
        if about is not None:
            _log.warning("copy.begun_anew", to=self.copy.to, reason="what stood there is gone")
            text = f"what was sent to {self.copy.to} is gone, or another copy stands there: it was begun anew"
            hint = "find out who removed it; docs/offsite.md says how to read its older versions"
            self.problems.append(Problem(3, text, hint=hint))
        memory.forget()
        memory.keep_about(About(identity))
        return memory.about()

    def _end(self, identifier: str, begun: datetime) -> Run:
        """The run; recorded unless it only tried."""
        problems, facts = list(self.problems), {"to": self.copy.to, **self.facts}
        entries = self.last.entries if self.last is not None else []
        if self.last is not None:
            problems += self.last.losses.summary(self.copy.to, is_tried=self.dry_run)
            problems += self.last.problems
            facts |= self.last.facts()
        facts["requests"] = self.bucket.requests if self.bucket is not None else 0
        if self.dry_run:
            facts["dry_run"] = True
        run = Run(
            identifier, "copy", begun, self.clock.now(), __version__, tuple(entries), tuple(problems), facts
        )
        if not self.dry_run:
            self.store.write_run(run)
            self.store.rebuild_index(self.clock.now())
        _log.info("copy.finished", run=run.id, exit_code=run.exit_code, to=self.copy.to)
        return run
