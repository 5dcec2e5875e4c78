"""Heads of pull requests that a repository's own refs do not have: fetched from other places."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from mirror.collect.context import Context
from mirror.collect.kinds.heads import Place, note_answer, note_trouble, places_to_ask
from mirror.errors import MirrorError, TryLater
from mirror.git.mirrors.pull_request_heads import HeadsResult
from mirror.logs import get_logger
from mirror.model import Part, PartState

_log = get_logger("backup")
# After so many places that could not be reached, the others are left for the next run, which asks them
# first.
TROUBLE_MAX = 2

Ask = Callable[[Place], Awaitable[HeadsResult]]


@dataclass
class Heads:
    """The heads that are pinned, by number, and the pull requests whose head is not. `error` is why some
    place could not be asked, `unasked` the pull requests that it may have."""

    pins: dict[int, str]
    unpinned: set[int]
    error: MirrorError | None = None
    unasked: set[int] = field(default_factory=set)

    def judged(self, code: Part) -> tuple[Part, MirrorError | None]:
        """The part of the code, incomplete where a place could not be asked; and why, where that alone is
        the reason. No later run mends what else it lacks."""
        missed = len(self.unasked & self.unpinned)
        if self.error is None or not missed:
            return code, None
        text = f"heads of {missed} pull requests could not be asked for: {self.error.message}"
        if code.state is PartState.COMPLETE:
            return replace(code, state=PartState.PARTIAL, reason=text), self.error
        return replace(code, reason=f"{code.reason}; {text}"), None


async def fetch_from_elsewhere(context: Context, found: Heads, ask: Ask, *, own_only: bool = False) -> None:
    """Fetch the heads that are not pinned from every possible source, and add them to `found`.

    With `own_only` no fork is asked. The next run asks what cannot be asked now.
    """
    trouble = 0
    for place in places_to_ask(context, found.unpinned, own_only=own_only):
        if trouble >= TROUBLE_MAX:
            found.unasked.update(place.wants)
            continue
        name = context.repository.full_name
        about = {"repository": name, "source": place.name or name}
        try:
            result = await ask(place)
        except MirrorError as error:
            if isinstance(error, TryLater):
                trouble += 1
                note_trouble(context, place)
            found.error = found.error or error
            found.unasked.update(place.wants)
            _log.warning("backup.heads_not_asked", **about, reason=error.message)
            continue
        note_answer(context, place, result.lacking, refused=result.refused is not None)
        found.pins.update(result.pins)
        found.unpinned -= result.pins.keys()
        _log.info(
            "backup.heads_asked",
            **about,
            pinned=len(result.pins),
            lacking=len(result.lacking),
            refused=result.refused,
        )
