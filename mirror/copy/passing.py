"""One pass over the store: which folders have changed, and sending these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from mirror.bucket.failures import Denied
from mirror.copy.folder import Sending
from mirror.copy.format import STORE, blob_key, manifest_key
from mirror.copy.losses import Losses
from mirror.copy.memory import Remembered
from mirror.copy.records import Listed, list_records, relevant, send_records
from mirror.copy.session import FOLDERS, Doubt, Session, do_all
from mirror.errors import CredentialRefused, Locked, MirrorError, NoStore, TryLater, UsageError
from mirror.logs import get_logger
from mirror.model import DONE, LATER, Outcome, Problem, RunEntry
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.reading.contents import Contents, Stat, contents, places
from mirror.store.reading.folders import AnyFolder, RepositoryFolder

# After so many folders one after the other that the bucket did not take, the rest is not tried.
_LATER_MAX = 3
# What ends the run: it would meet every folder.
_FATAL = (Doubt, NoStore, CredentialRefused, Denied, UsageError)
_log = get_logger("copy")


@dataclass(frozen=True)
class _Found:
    """A folder as it was found: what is in it, and whether that is what was sent last."""

    place: str
    contents: Contents
    is_unchanged: bool


@dataclass
class Pass:
    """One pass: `send`, or `estimate`. `runs` are the keys of the run records that stand there, `lost_runs`
    those that went up and do not."""

    session: Session
    runs: frozenset[str]
    lost_runs: frozenset[str] = frozenset()
    entries: list[RunEntry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    copied: int = 0
    unchanged: int = 0
    failed: int = 0
    untried: int = 0
    # What a dry run would send.
    estimated: dict[str, int] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)
    losses: Losses = field(default_factory=Losses)
    listed: Listed | None = None
    _covers: bool = False
    _has_looked: bool = False
    _folders: Mapping[str, AnyFolder] = field(default_factory=dict)
    _later: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the copy has everything now, as far as this pass saw."""
        return not self.failed and not self.untried and self._covers

    def facts(self) -> dict[str, Any]:
        """What the record says."""
        folders = {"copied": self.copied, "unchanged": self.unchanged, "failed": self.failed}
        if self.untried:
            folders["untried"] = self.untried
        facts: dict[str, Any] = {"objects": self.session.objects, "bytes": self.session.moved}
        if self._has_looked:
            facts["folders"] = folders
        if self.estimated:
            facts |= self.estimated
        if self.listed is not None and self.listed.newest is not None:
            facts["covers_number"] = self.listed.newest_number
            if self._covers:
                facts["covers"] = self.listed.newest
        if self.vanished:
            facts["vanished"] = len(self.vanished)
        return facts | self.losses.facts()

    async def send(self) -> frozenset[str]:
        """Send what has changed; returns the keys of the run records that stand there then. Raises Doubt, and
        what would meet every folder."""
        session = self.session
        self.listed = await asyncio.to_thread(list_records, session)
        self.losses.records = sorted(relevant(session, self.listed, self.lost_runs))
        there = await asyncio.to_thread(places, session.root)
        changed = await self._changed(there)
        await self._send_folders(changed)
        await self._check_relied()  # before a record vouches for what they hold
        runs = self.runs
        if not self.failed and not self.untried:
            runs = await send_records(session, self.listed, self.runs)
            self._covers = self.losses.are_records_back = True
        await self._send_store(there)
        await self._check_relied()
        return runs

    async def estimate(self) -> None:
        """Say what `send` would send: at most so many bytes, as nothing is read."""
        session = self.session
        there = await asyncio.to_thread(places, session.root)
        self.listed = await asyncio.to_thread(list_records, session)
        changed = await self._changed(there)
        files = size = 0
        for one in changed:
            known = await asyncio.to_thread(session.memory.folder, one.place)
            hashes = known.hashes if known is not None else {}
            new = [stat for path, stat in one.contents.files.items() if (path, *stat) not in hashes]
            count, much = len(new), sum(stat.size for stat in new)
            files, size = files + count, size + much
            self._entry(
                one.place, Outcome.PENDING, *self.losses.problem_of(one.place),
                facts={"files": count, "bytes": much},
            )  # fmt: skip
        self.estimated = {"files_to_send": files, "bytes_to_send": size}

    async def _changed(self, there: list[str]) -> list[_Found]:
        """The folders that are not as they were sent last."""

        def look() -> list[_Found]:
            return [found for place in there if not (found := self._look(place)).is_unchanged]

        changed = await asyncio.to_thread(look)
        self._has_looked, self.untried = True, len(changed)
        if changed:
            self._folders = await asyncio.to_thread(self._read_folders)
        self.session.progress.expect(
            {self._name(one.place): 1.0 + one.contents.size / 1e6 for one in changed}
        )
        return changed

    def _look(self, place: str) -> _Found:
        memory, stands = self.session.memory, self._stands(place)
        try:
            found = contents(self.session.root / place)
        except OSError:
            return _Found(place, Contents(), is_unchanged=False)  # sending it reports why
        is_same = stands and memory.fingerprint(place) == found.fingerprint()
        if is_same:
            self.unchanged += 1
            if found.foreign:
                self._note_foreign(place, found)
        return _Found(place, found, is_same)

    def _stands(self, place: str) -> bool:
        """Whether all that was sent of a folder is listed; true where nothing was listed. What is lost there
        is noted."""
        session, listing = self.session, self.session.listing
        if listing is None:
            return True
        known = session.memory.folder(place)
        if known is None:
            return False
        folder, suffix = session.coding.folder_name(place), session.coding.suffix
        is_gone, blobs = listing.lost(folder, known.manifest)
        # What a pass that ended early found there, and relied on, was not sent by this host.
        blobs = [name for name in blobs if name not in session.relied]
        session.gone.update(blobs)
        keys = [manifest_key(folder, known.manifest.number, suffix)] if is_gone else []
        keys += [blob_key(name, suffix) for name in blobs]
        if keys:
            self.losses.folders[place] = keys
            _log.warning("copy.lost_there", folder=place, to=str(session.bucket.address), objects=len(keys))
        return listing.has(folder, known.manifest)

    def _read_folders(self) -> dict[str, AnyFolder]:
        """Every folder by its place; damaged ones are left out."""
        reader = self.session.store.reader

        def ignore(_: StoreDamaged) -> None:
            """Sending it reports it."""

        found: list[AnyFolder] = [*reader.workspaces((), ignore), *reader.repositories((), ignore)]
        return {one.place: one for one in found}

    async def _send_folders(self, changed: list[_Found]) -> None:
        """Send folders, a few at once; those whose lock another process holds at the end."""
        busy: list[_Found] = []
        await do_all([partial(self._send_one, one, 0.0, busy) for one in changed], FOLDERS)
        await do_all([partial(self._send_one, one, self.session.lock_wait, None) for one in busy], FOLDERS)

    async def _send_one(self, one: _Found, wait: float, busy: list[_Found] | None) -> None:
        """Send a folder; its failure is an entry. Raises what would meet every folder."""
        name = self._name(one.place)
        try:
            is_copied = await self._sending(one.place, name, wait).send()
        except _FATAL:
            raise
        except Locked as error:
            if busy is not None:
                busy.append(one)
                self.session.progress.report(name, LATER)
                return
            self._fail(one.place, error.exit_code, error.message, error.hint)
        except TryLater as error:
            self._later += 1
            self._fail(one.place, error.exit_code, error.message, error.hint)
            if self._later >= _LATER_MAX:
                raise
        except MirrorError as error:
            self._fail(one.place, error.exit_code, error.message, error.hint)
        except OSError as error:
            text = f"{error.strerror or type(error).__name__}: {error.filename or one.place}"
            self._fail(one.place, 1, text, None)
        else:
            self._later = 0
            self._note_sent_again(one.place)
            self.copied, self.unchanged = self.copied + is_copied, self.unchanged + (not is_copied)
            if one.contents.foreign:
                self._note_foreign(one.place, one.contents)
        self.untried -= 1
        self.session.progress.report(name, DONE)

    def _note_sent_again(self, place: str) -> None:
        if place in self.losses.folders:
            self.losses.back.add(place)
            self._entry(place, Outcome.SAVED, *self.losses.problem_of(place))

    def _sending(self, place: str, name: str, wait: float) -> Sending:
        session, folder = self.session, self._folders.get(place)
        if folder is None:
            raise StoreDamaged(place, "what it belongs to cannot be read")
        writer = session.store.writer_of(folder)
        return Sending(
            session, place, place, name, next(session.numbers),
            look=partial(contents, session.root / place),
            lock=lambda: writer.lock(wait, session.clock),
            facts=partial(_facts, folder),
        )  # fmt: skip

    async def _send_store(self, there: list[str]) -> None:
        """Send the store's own manifest where it says something else than the last."""
        session = self.session
        last = await asyncio.to_thread(session.memory.folder, STORE)
        before = dict(last.manifest.facts.get("folders", {})) if last is not None else {}
        numbers = session.listing.numbers if session.listing is not None else {}
        folders = {place: session.coding.folder_name(place) for place in there}
        sent = {
            place: name
            for place, name in folders.items()
            if place in before or name in numbers or session.memory.fingerprint(place) is not None
        }
        # What is no more in the store stays in the copy, until somebody prunes it there.
        self.vanished = sorted(before.keys() - folders.keys())
        if self.vanished:
            _log.warning("copy.folders_vanished", count=len(self.vanished), first=self.vanished[0])
        folders = {**before, **sent}
        names = await self._names(last, folders.keys())
        facts = {"id": session.store.reader.id, "folders": folders, "names": names}
        found = _own_contents(session)
        is_same = (
            last is not None and last.fingerprint == found.fingerprint() and last.manifest.facts == facts
        )
        if await asyncio.to_thread(self._stands, STORE) and is_same:
            return
        await Sending(
            session, STORE, "", "the store", next(session.numbers),
            look=partial(_own_contents, session), lock=_no_lock, facts=lambda: facts,
        ).send()  # fmt: skip
        self._note_sent_again(STORE)

    async def _names(self, last: Remembered | None, folders: Set[str]) -> dict[str, list[str]]:
        """Full name and uuid of each of `folders`, as they are now, or as the `last` manifest of the store
        says: where nothing has changed, nothing is renamed."""
        before = last.manifest.facts.get("names", {}) if last is not None else {}
        if not self._folders and not folders <= before.keys():
            self._folders = await asyncio.to_thread(self._read_folders)
        now = {place: [one.full_name, one.uuid] for place, one in self._folders.items()}
        return {place: now.get(place) or before.get(place) or ["", ""] for place in folders}

    async def _check_relied(self) -> None:
        """Where blobs were taken for sent because they were there: whether they still stand, now that
        manifests name them. Raises TryLater."""
        session = self.session
        if not session.relied:
            return
        gone = await session.lacking()
        session.relied.clear()
        if gone:
            # Whoever pruned them did not know that they would be needed: the next run tells of no loss.
            await asyncio.to_thread(self._forget, gone)
            session.memory.doubt()
            raise TryLater(
                f"{len(gone)} blobs were removed from {session.bucket.address} meanwhile",
                hint="the next run sends them again",
            )

    def _forget(self, blobs: set[str]) -> None:
        """Forget the folders of which the last manifest names any of `blobs`."""
        memory = self.session.memory
        for place in (STORE, *places(self.session.root)):
            known = memory.folder(place)
            if known is not None and known.manifest.blobs.keys() & blobs:
                memory.forget_folder(place)

    def _name(self, place: str) -> str:
        folder = self._folders.get(place)
        return folder.full_name if folder is not None else place

    def _fail(self, place: str, code: int, text: str, hint: str | None) -> None:
        self.failed += 1
        _log.warning("copy.folder_failed", folder=place, problem=text)
        self._entry(place, Outcome.FAILED, Problem(code, text, hint=hint), *self.losses.problem_of(place))

    def _note_foreign(self, place: str, found: Contents) -> None:
        names = ", ".join(ascii(name) for name in found.foreign[:5])
        more = f" and {len(found.foreign) - 5} more" if len(found.foreign) > 5 else ""
        text = f"not copied, because no store has such files: {place}: {names}{more}"
        self.problems.append(Problem(3, text, hint="move them out of the store"))

    def _entry(self, place: str, outcome: Outcome, *problems: Problem, **more: Any) -> None:
        folder = self._folders.get(place)
        if folder is None:
            self.problems += problems
            return
        kind: Literal["repository", "workspace"] = (
            "repository" if isinstance(folder, RepositoryFolder) else "workspace"
        )
        self.entries.append(
            RunEntry(kind, folder.full_name, folder.uuid, place, outcome, problems=problems, **more)
        )


def _facts(folder: AnyFolder) -> dict[str, Any]:
    """What a manifest says of a folder for people. Raises StoreDamaged."""
    ledger = folder.ledger()
    kept = list(ledger.kept) if ledger is not None else []
    return {"uuid": folder.uuid, "full_name": folder.full_name, "snapshots": kept}


def _own_contents(session: Session) -> Contents:
    """The file of the store that belongs to no folder."""
    found = (session.root / layout.STORE_FILE).stat(follow_symlinks=False)
    return Contents({layout.STORE_FILE: Stat(found.st_size, found.st_mtime_ns, found.st_ino)})


@asynccontextmanager
async def _no_lock() -> AsyncIterator[None]:
    """store.json is written once."""
    yield
