"""A copy run in a process of its own that kills itself (SIGKILL) at a given step: before or after any
request, or before anything that it remembers is written."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirror.bucket.bucket import Bucket
from mirror.copy import memory
from mirror.copy.memory import Memory
from tests.copy.copies import Copies


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
