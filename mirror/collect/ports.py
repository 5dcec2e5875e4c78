"""What collecting needs from elsewhere: a place for documents, and a way to keep cursors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mirror.bitbucket.client import Client
from mirror.errors import MirrorError
from mirror.model import Clock, Json, JsonObject, Progress, Repository


class Draft(Protocol):
    """Documents on their way to a snapshot; `store` has the real one."""

    def get(self, path: str) -> Json | None:
        """The document at `path`, or None."""
        ...

    def put(self, path: str, value: Json) -> bool:
        """Set a document; returns whether that changed it."""
        ...

    def paths(self, prefix: str = "") -> Iterator[str]:
        """The documents below a folder."""
        ...

    async def put_file(
        self, chunks: AsyncIterable[bytes] | Iterable[bytes], name: str, *, text: bool = False
    ) -> JsonObject:
        """Keep a file; returns what a document says of it."""
        ...

    def has_file(self, sha256: str) -> bool:
        """Whether the file of these bytes is held."""
        ...

    def is_erased(self, path: str) -> bool:
        """Whether a document was erased on purpose, and is not to be asked for."""
        ...

    def checkpoint(self) -> bool:
        """Make everything put so far durable."""
        ...


@dataclass
class Work:
    """One repository's collecting: who to ask, where to put it, and how to remember how far.

    `state` is changed as cursors move; `save` keeps it, and is called only after a checkpoint that
    covers it. `full` ignores cursors.
    """

    client: Client
    repository: Repository
    draft: Draft
    state: JsonObject
    save: Callable[[JsonObject], None]
    clock: Clock
    progress: Progress
    full: bool = False
    uncommitted: int = 0
    last_checkpoint: float = 0.0

    def part_state(self, part: str) -> JsonObject:
        """What is remembered for a part, empty at first."""
        value = self.state.setdefault(part, {})
        if not isinstance(value, dict):
            value = self.state[part] = {}
        return value

    def put(self, path: str, value: Json) -> bool:
        """Set a document, with a checkpoint where one is due."""
        changed = self.draft.put(path, value)
        self.uncommitted += changed
        # At most this much is asked again after a kill.
        due = self.clock.monotonic() - self.last_checkpoint >= 30.0 or self.uncommitted >= 500
        if changed and due:
            self.checkpoint()
        return changed

    def checkpoint(self) -> None:
        """Make documents durable, then the cursors that may now move."""
        self.draft.checkpoint()
        self.save(self.state)
        self.uncommitted = 0
        self.last_checkpoint = self.clock.monotonic()


async def together(tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run `tasks` side by side; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except* MirrorError as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
