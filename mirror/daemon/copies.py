"""The job that brings every copy in object storage up to date, one after the other."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.config import Config
from mirror.copy.together import together
from mirror.errors import Cancelled
from mirror.model import Clock, Progress, Run


async def run(config: Config, *, clock: Clock, environment: Mapping[str, str], progress: Progress) -> Run:
    """Bring all copies up to date. Each writes a run record of its own; the result is all of them in one.
    One that fails keeps none of the others back: what it raises is raised at the end. Raises what
    `sending.run` raises, and what stops it at once."""
    from mirror.copy import sending  # with obstore, which nothing else here needs

    started = clock.now()
    done: list[Run] = []
    failure: Exception | None = None
    for copy in config.copies:
        try:
            done.append(
                await sending.run(config, copy, clock=clock, environment=environment, progress=progress)
            )
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - raised below
            failure = failure or error
    if failure is not None:
        raise failure
    return together(done, started, clock.now())
