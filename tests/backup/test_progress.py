"""What a backup, a verification, a restore and a drill say about how far they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mirror import backup, drill, restore, verify
from mirror.model import DONE, LATER, Selector
from mirror.model.live import Picture
from mirror.model.progress import Gatherer
from tests.place import Place

NAMES = {"acme/api", "acme/billing", "acme/handbook", "acme/website"}


class Watching(Gatherer):
    """Remembers what was expected and ended."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.expected: dict[str, float] = {}
        self.ended: list[str] = []

    def expect(self, costs: Mapping[str, float], *, more: bool = False) -> None:
        """See Progress."""
        self.expected.update(costs)
        super().expect(costs, more=more)

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """See Progress."""
        if stage in (DONE, LATER):
            self.ended.append(subject)
        super().report(subject, stage, done, total)


def whole(progress: Gatherer) -> Picture:
    """The last picture, which has everything done and nobody at work."""
    seen = progress.picture()
    assert seen.done == seen.total
    assert (seen.activities, seen.seconds_left, seen.waiting) == ((), 0.0, None)
    return seen


async def test_each_run_says_what_there_is_to_do_and_what_came(place: Place, tmp_path: Path) -> None:
    first, second = Watching(), Watching()
    for progress in (first, second):
        place.clock.elapsed += 3600
        done = await backup.run(place.config, clock=place.clock, environment=os.environ, progress=progress)
        assert whole(progress).requests == done.facts["requests"]
        assert set(progress.expected) == NAMES <= set(progress.ended)
    assert first.picture().objects > 20 and first.picture().bytes > 5_000
    assert second.picture().objects == 0
    assert min(first.expected.values()) > max(second.expected.values())  # new ones cost more

    checked = Watching()
    run = await verify.run(place.config.store, clock=place.clock, environment=os.environ, progress=checked)
    assert whole(checked).objects == run.facts["checked"]["objects"]
    assert set(checked.expected) == {"acme", *NAMES}

    back = Watching()
    target = str(tmp_path / "back")
    await restore.run(
        place.config.store, Selector("acme"), target=target, progress=back, environment=os.environ
    )
    assert whole(back).objects > 20
    assert set(back.expected) > NAMES

    rehearsed = Watching()
    await drill.run(
        place.config.store, [Selector("acme", "api")], clock=place.clock, environment=os.environ,
        progress=rehearsed,
    )  # fmt: skip
    assert (whole(rehearsed).total or 0) > 5  # its steps
    assert "api" in rehearsed.ended
