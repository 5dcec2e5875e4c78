"""The simulator's hooks by chance: lost, doubled, late, reordered and forged ones. No change is missed, and
each that no hook announced is counted, and no other. MIRROR_SOAK=1 tries more seeds."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mirror.backup.announcements import PROOFS
from mirror.simulator import HookFaults
from tests.daemon.hooked import HOURS_OF_TRUST, LATE, NAMES, Hooked, hooked_world

# In these, changes are counted, and a comment waits for a poll while hooks are trusted.
TELLING = (7, 11)
SEEDS = range(16) if os.environ.get("MIRROR_SOAK") == "1" else TELLING
# In these hours things change; in those between, trust comes back.
BUSY = (0, 1, 7, 8)
HOURS = 12


@dataclass
class Oracle:
    """What must be counted and kept, by what was changed and what was answered. It does not know how the
    daemon counts. `polls` are the whole polls since the last change that was counted, or since the first
    poll."""

    hooked: Hooked
    expected: int = 0
    polls: int = 1
    unseen_refs: set[str] = field(default_factory=set)
    is_comment_unseen: bool = False
    was_comment_missed: bool = False
    comments: dict[str, datetime] = field(default_factory=dict)
    answered: dict[int, int] = field(default_factory=dict)

    def note_hooks(self) -> set[str]:
        """Note the visits of the hooks that arrived since; returns which repositories had news."""
        names = {one.uuid: name for name, one in self.hooked.acme.repositories.items()}
        news = set()
        for place, one in enumerate(self.hooked.simulator.deliveries):
            accepted, before = one.statuses.count(204), self.answered.get(place, 0)
            self.answered[place] = accepted
            if accepted > before:
                self.unseen_refs.discard(names[one.repository])  # git is asked, whether it came before or not
            if accepted and not before:
                news.add(names[one.repository])
        self.is_comment_unseen &= "website" not in news
        return news

    def find(self, *, is_polled: bool) -> set[str]:
        """The repositories in which a run of the schedule finds something."""
        found, self.unseen_refs = self.unseen_refs, set()
        if is_polled and self.is_comment_unseen:
            found, self.is_comment_unseen = found | {"website"}, False
        return found

    def count(self, lost: set[str], *, is_polled: bool) -> None:
        """Count what a run found and no hook announced in time."""
        self.expected += len(lost)
        self.polls = 0 if lost else self.polls + is_polled


async def change(hooked: Hooked, oracle: Oracle, chance: random.Random, text: str) -> None:
    """A push, or a comment."""
    name = chance.choice(NAMES)
    if name == "website" and chance.random() < 0.6:
        hooked.comment(text)
        oracle.comments[text], oracle.is_comment_unseen = hooked.clock.now(), True
    else:
        await hooked.push(name, text)
        oracle.unseen_refs.add(name)


async def run_and_compare(hooked: Hooked, oracle: Oracle, *, released: bool) -> None:
    """The next run of the schedule. `released`: hooks that were held come a moment after it, and in time."""
    record = await hooked.run()
    assert record["exit_code"] == 0
    [facts] = record["facts"]["hooks"].values()
    assert facts["polled"] or oracle.polls >= PROOFS
    for name in NAMES:
        assert hooked.tip(name) == hooked.acme.repositories[name].branch("main")
    held, now = hooked.comments(), hooked.clock.now()
    missed = [made for text, made in oracle.comments.items() if text not in held]
    assert all(now - made < timedelta(hours=HOURS_OF_TRUST) for made in missed)
    assert facts["polled"] <= (not missed)
    oracle.was_comment_missed |= bool(missed)
    found = oracle.find(is_polled=facts["polled"])
    if released:
        hooked.simulator.hooks.release()
        await hooked.deliver()
    oracle.count(found - oracle.note_hooks(), is_polled=facts["polled"])
    await hooked.visits()
    await hooked.pass_time(LATE)  # from here on, hooks are too late for what this run found


@pytest.mark.parametrize("seed", SEEDS)
async def test_of_hooks_by_chance_each_lost_one_is_counted_and_nothing_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    faults = HookFaults(lost=0.3, doubled=0.3, late=0.3, reordered=0.3, forged=0.3, seconds=1e6, seed=seed)
    async with hooked_world(tmp_path, monkeypatch, faults=faults) as hooked, hooked.living(monkeypatch):
        await hooked.quiet()
        await hooked.run()
        oracle = Oracle(hooked)
        for hour in range(HOURS):
            for burst in range(2):
                if chance.random() < 0.3:
                    hooked.simulator.hooks.release()
                for number in range(chance.randrange(4) if hour in BUSY else 0):
                    await change(hooked, oracle, chance, f"{hour} {burst} {number}.")
                await hooked.deliver()
                oracle.note_hooks()
                await hooked.visits()
            await run_and_compare(hooked, oracle, released=chance.random() < 0.5)
        # Hooks that come in time again are trusted, however many were lost before.
        is_heard = False
        for number in range(30):
            if is_heard:
                break
            await hooked.push("shop", f"once more {number}")
            oracle.unseen_refs.add("shop")
            await hooked.deliver()
            is_heard = "shop" in oracle.note_hooks()
            await hooked.visits()
            await run_and_compare(hooked, oracle, released=False)
        for _ in range(PROOFS):
            await run_and_compare(hooked, oracle, released=False)
        assert hooked.state().are_trusted
        # While they are trusted, a comment that none announces waits for a poll, and is counted then.
        hooked.acme.settings["hooks"] = []
        hooked.comment("unannounced")
        oracle.comments["unannounced"], oracle.is_comment_unseen = hooked.clock.now(), True
        for _ in range(HOURS_OF_TRUST + 1):
            await run_and_compare(hooked, oracle, released=False)
        assert all(text in hooked.comments() for text in oracle.comments)
        numbers = range(len(hooked.simulator.deliveries))
        assert hooked.state().refused == sum("forged" in faults.fates(one) for one in numbers) > 0
        assert hooked.state().unannounced_changes == oracle.expected
        [facts] = hooked.runs()[-1]["facts"]["hooks"].values()
        assert facts["unannounced_total"] == oracle.expected
        assert seed not in TELLING or (oracle.expected and oracle.was_comment_missed)
