"""Erasing something from every snapshot. See `erase`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirror.bitbucket.people import names_of, person_digest, without_people
from mirror.errors import UsageError
from mirror.git.workers.pool import WorkerPool
from mirror.model import DONE, Clock, NoProgress, Outcome, Problem, Progress, Run, RunEntry, Selector
from mirror.prune.common import Started, entry_of, finish, guarded, start, with_ledger
from mirror.reclaim import erasing
from mirror.reclaim.freeing import Freed
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Erasure, WorkspaceFolder, is_own_document
from mirror.store.writing.folder_writer import AnyWriter
from mirror.store.writing.writer import StoreWriter, open_store


@dataclass(frozen=True)
class ErasureTarget:
    """The target of an erasure: a document (path), a ref, or a person (uuid or account id).

    With none of them, the whole repository.
    """

    document: str | None = None
    ref: str | None = None
    person: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether the target is the whole repository."""
        return self.document is None and self.ref is None and self.person is None

    def __str__(self) -> str:
        return self.document or self.ref or self.person or "anything"

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.document, self.ref, self.person)) > 1:
            raise UsageError("erase one thing at a time: a document, a ref or a person")
        if self.document is not None and is_own_document(self.document):
            raise UsageError(
                f"{self.document} is the store's own document and describes the snapshot",
                hint="erase a document, a --ref, or the whole repository",
            )


async def erase(
    store_path: Path,
    selector: Selector,
    what: ErasureTarget,
    *,
    reason: str,
    by: str,
    clock: Clock,
    environment: Mapping[str, str],
    lock_wait: float = 0.0,
    progress: Progress | None = None,
) -> Run:
    """Remove `what` from every snapshot of the selected folders, and keep it out of later ones.

    A tombstone with `reason` and `by` replaces a document. After a kill the next run of any kind finishes the
    erasure. Copies of the store are not changed. Raises NoStore, and UsageError where `selector` matches
    nothing or no snapshot has `what`.
    """
    if not reason.strip():
        raise UsageError(
            "an erasure needs a reason", hint="give --reason TEXT; it is stored with the tombstone"
        )
    with open_store(store_path, command="mirror erase") as store:
        folders = _selected(store, selector, what)
        begun = start(store, "erase", clock.now())
        async with WorkerPool(1, environment=environment) as workers:
            context = _EraseContext(store, clock, workers, lock_wait, progress or NoProgress())
            entries = await _folders(context, folders, what, _erasure(what, begun, by, reason))
        if not any(entry.outcome is Outcome.ERASED or entry.problems for entry in entries):
            raise UsageError(f"no snapshot of {selector} holds {what}; nothing was changed")
        return finish(store, begun, clock, entries, facts={"by": by, "reason": reason.strip()})


@dataclass(frozen=True)
class _EraseContext:
    store: StoreWriter
    clock: Clock
    workers: WorkerPool
    lock_wait: float
    progress: Progress


def _selected(store: StoreWriter, selector: Selector, what: ErasureTarget) -> list[AnyFolder]:
    if selector.repository is not None:
        return [*store.reader.repositories([selector])]
    workspaces = store.reader.workspaces([selector])
    if what.document is not None:
        return [*workspaces]  # the workspace's own documents
    if what.person is not None:
        return [*workspaces, *store.reader.repositories([selector])]
    raise UsageError(
        f"{selector} is a workspace, and refs and whole repositories are erased by repository",
        hint=f"name a repository, or '{selector}/*' for all of them",
    )


def _erasure(what: ErasureTarget, begun: Started, by: str, reason: str) -> Erasure:
    ref = None if what.ref is None else what.ref.encode("utf-8", "surrogateescape")
    return Erasure(begun.id, begun.at, by, reason.strip(), document=what.document, ref=ref)


async def _folders(
    context: _EraseContext, folders: Sequence[AnyFolder], what: ErasureTarget, erasure: Erasure
) -> list[RunEntry]:
    names: set[str] = set()
    for folder in folders if what.person is not None else ():
        context.progress.report(folder.full_name, "looking for the person")
        names |= erasing.people_in(folder, lambda value: names_of(value, str(what.person)))
    if what.person is not None:
        names.add(what.person)
        erasure = replace(erasure, people=frozenset(person_digest(name) for name in names))
    entries = []
    context.progress.expect({folder.full_name: 1.0 for folder in folders})
    for folder in folders:
        context.progress.report(folder.full_name, "erasing")
        # An erased person must stay out of repositories that the workspace gets later.
        always = isinstance(folder, WorkspaceFolder) and len(names) > 1
        one = _FolderErasure(context, context.store.writer_of(folder), erasure, always)
        entries.append(await guarded(folder, one.erase))
        context.progress.report(folder.full_name, DONE)
    return entries


@dataclass(frozen=True)
class _FolderErasure:
    """The erasure in one folder; `always`: even if the folder does not have the target."""

    context: _EraseContext
    writer: AnyWriter
    erasure: Erasure
    always: bool

    async def erase(self) -> RunEntry:
        """Erase, under the folder's lock; returns its entry."""
        context, writer, folder = self.context, self.writer, self.writer.folder
        async with writer.lock(context.lock_wait, context.clock) as lock:
            known = next((one for one in folder.erasures() if one.covers(self.erasure)), None)
            if known is None and not self.always and not erasing.holds(writer, self.erasure, without_people):
                return with_ledger(entry_of(folder, Outcome.KEPT), folder)
            result = await erasing.erase(
                writer,
                known or self.erasure,
                workers=context.workers,
                lock=lock.fileno,
                without_people=without_people,
            )
            done = result.erasure
            entry = entry_of(
                folder, Outcome.ERASED, *_problems(result.freed),
                trees=done.trees, refs=done.refs,
                facts={"what": done.to_json()["what"], "freed": result.freed.to_json()},
            )  # fmt: skip
            return with_ledger(entry, folder)


def _problems(freed: Freed) -> list[Problem]:
    found = []
    if freed.code is None:
        text = "its objects are still on the disk: install git and run mirror erase again"
        found.append(Problem(3, text, "code"))
    if freed.still_held:
        names = ", ".join(freed.still_held[:5])
        more = f" and {len(freed.still_held) - 5} more" if len(freed.still_held) > 5 else ""
        found.append(Problem(3, f"its objects are still reached by {names}{more}: erase these too", "code"))
    return found
