"""A copy run in a process of its own that kills itself (SIGKILL) at a given step: before or after any
request, or before anything that it remembers is written; and the same of a store that is made from a copy."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirror.bucket.bucket import Bucket
from mirror.copy import bringing, materializing, memory
from mirror.copy.memory import Memory
from mirror.copy.reading import Copy
from tests.bucket.servers import ObjectServer
from tests.copy.copies import Copies
from tests.copy.written import WHEN


def run_until(copies: Copies, step: int, report: str) -> None:
    """Make the copy; at the step with this number (from 1), die. Otherwise write the number of steps into the
    file `report`."""
    count = 0

    def pass_step() -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepped(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            pass_step()
            return function(*args, **more)

        return run

    put = Bucket.put

    async def put_stepped(self: Bucket, key: str, source: Any, **more: Any) -> None:
        pass_step()
        await put(self, key, source, **more)
        pass_step()

    Bucket.put = put_stepped  # type: ignore[method-assign]
    Memory.note_sent = stepped(Memory.note_sent)  # type: ignore[method-assign]
    memory.write_file = stepped(memory.write_file)  # type: ignore[attr-defined]
    run = asyncio.run(copies.make())
    assert run.exit_code == 0, run.all_problems
    Path(report).write_text(str(count))


def bring_until(server: ObjectServer, bucket: str, target: Path, event: str) -> None:
    """Make a store from a copy; when `event` is about to happen, die: to `lay` the folder of a number, to
    `publish` or `take back` what has a name, or to `end`."""

    def about_to(happen: str) -> None:
        if happen == event:
            os.kill(os.getpid(), signal.SIGKILL)

    laid = 0
    lay, rename, rmdir = materializing.lay, Path.rename, Path.rmdir

    async def laying(*args: Any, **more: Any) -> Any:
        nonlocal laid
        laid += 1
        about_to(f"lay {laid}")
        return await lay(*args, **more)

    def renaming(self: Path, to: Path) -> Path:
        if to.parent == target:
            about_to(f"publish {to.name}")
        if to.parent == target / bringing.UNFINISHED:
            about_to(f"take back {to.name}")
        return rename(self, to)

    def removing(self: Path) -> None:
        if self == target / bringing.UNFINISHED:
            about_to("end")
        rmdir(self)

    async def bring() -> None:
        async with server.open(bucket) as opened:
            done = await bringing.bring(await Copy.open(opened), target, now=WHEN)
        assert done.lost == {} and done.folders > 3

    bringing.lay = laying  # type: ignore[attr-defined]
    Path.rename, Path.rmdir = renaming, removing  # type: ignore[method-assign, assignment]
    asyncio.run(bring())
