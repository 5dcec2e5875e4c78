"""Heads of pull requests that a repository's own refs do not have: asked for elsewhere, and counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from mirror.collect.kinds import heads
from mirror.collect.kinds.heads import Elsewhere
from mirror.collect.ports import Work
from mirror.errors import MirrorError, TryLater
from mirror.git.mirrors.pull_request_heads import HeadsResult
from mirror.logs import get_logger
from mirror.model import Part, PartState

_log = get_logger("backup")
# After so many places that could not be reached the others are left for the next run, which asks them
# before these.
TROUBLE_MAX = 2

Ask = Callable[[Elsewhere], Awaitable[HeadsResult]]


@dataclass
class Heads:
    """What is pinned, in full, and what git was not found to have yet. `problem` is why some place
    could not be asked; what a place answered is none."""

    pins: dict[int, str]
    unpinned: set[int]
    problem: MirrorError | None = None
    unasked: set[int] = field(default_factory=set)

    def judged(self, code: Part) -> tuple[Part, MirrorError | None]:
        """The part of the code: incomplete where somebody could not be asked; and why it is incomplete, where
        that alone is the reason. What else is missing of it no later run may mend."""
        missed = len(self.unasked & self.unpinned)
        if self.problem is None or not missed:
            return code, None
        text = f"heads of {missed} pull requests could not be asked for: {self.problem.message}"
        if code.state is PartState.COMPLETE:
            return replace(code, state=PartState.PARTIAL, reason=text), self.problem
        return replace(code, reason=f"{code.reason}; {text}"), None


async def look_elsewhere(work: Work, found: Heads, ask: Ask, *, own_only: bool = False) -> None:
    """Ask for the heads that are not pinned wherever they may be, and take up in `found` what came.

    With `own_only` no fork is asked. What cannot be asked now is asked by the next run.
    """
    trouble = 0
    for place in heads.elsewhere(work, found.unpinned, own_only=own_only):
        if trouble >= TROUBLE_MAX:
            found.unasked.update(place.wants)
            continue
        try:
            result = await ask(place)
        except MirrorError as error:
            if isinstance(error, TryLater):
                trouble += 1
                heads.note_trouble(work, place)
            found.problem = found.problem or error
            found.unasked.update(place.wants)
            _log.warning("backup.heads_not_asked", **_about(work, place), reason=error.message)
            continue
        heads.note_asked(work, place, result.lacking, refused=result.refused is not None)
        found.pins.update(result.pins)
        found.unpinned -= result.pins.keys()
        _log.info(
            "backup.heads_asked",
            **_about(work, place),
            pinned=len(result.pins),
            lacking=len(result.lacking),
            refused=result.refused,
        )


def _about(work: Work, place: Elsewhere) -> dict[str, str]:
    name = work.repository.full_name
    return {"repository": name, "source": place.name or name}
