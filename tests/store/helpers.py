"""A clock that tests move, a store to write to, and small content for it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirror.model import Json, Part, PartState, Refs, Repository, Workspace
from mirror.store.writing.writer import (
    RepositoryWriter,
    SnapshotResult,
    StoreWriter,
    WorkspaceWriter,
    create_or_open,
)

START = datetime(2026, 11, 23, 2, 0, 0, tzinfo=UTC)
PROGRAM = "mirror 0.1.0"
PARTS = {"profile": Part(PartState.COMPLETE)}
A = "a" * 40
B = "b" * 40


class MovedClock:
    """A clock that stands still until a test moves it or somebody sleeps."""

    def __init__(self, start: datetime = START) -> None:
        self.time = start
        self.ticks = 0.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.ticks

    async def sleep(self, seconds: float) -> None:
        self.ticks += seconds
        self.time += timedelta(seconds=seconds)

    def move(self, **by: float) -> None:
        self.time += timedelta(**by)


def uuid(number: int) -> str:
    return f"{{{number:08x}-0000-4000-8000-000000000000}}"


ACME = Workspace(uuid(0xACE), "acme", "Acme")


def website(slug: str = "website", *, number: int = 1, workspace: str = "acme") -> Repository:
    return Repository(uuid(number), workspace, slug)


def open_store(path: Path) -> StoreWriter:
    return create_or_open(path, now=START, new_id="store-1", command="mirror backup")


def adopt(store: StoreWriter, repository: Repository | None = None) -> RepositoryWriter:
    workspace = store.adopt_workspace(ACME, START)
    return store.adopt_repository(workspace, repository or website(), START)


async def take(
    writer: RepositoryWriter | WorkspaceWriter,
    documents: Mapping[str, Json],
    clock: MovedClock,
    *,
    refs: Refs | None = None,
    pins: Mapping[int, str] | None = None,
    parts: Mapping[str, Part] = PARTS,
) -> SnapshotResult:
    """Take one snapshot with these documents."""
    async with writer.lock(0, clock):
        draft = writer.draft()
        for path, value in documents.items():
            draft.put(path, value)
        return writer.snapshot(draft, begun=clock.now(), program=PROGRAM, parts=parts, refs=refs, pins=pins)


REFS_5001 = Refs({b"refs/heads/%05d" % number: f"{number:040x}" for number in range(5001)})
