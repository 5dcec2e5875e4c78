"""Which points the tests try, and the report of the results."""

from __future__ import annotations

import os
import random
import shutil
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import pytest

from tests.counts import told

_T = TypeVar("_T")
SOAK = os.environ.get("MIRROR_SOAK") == "1"
SEED = int(os.environ.get("MIRROR_SEED", "20261123"))
ONLY = os.environ.get("MIRROR_CRASH_ONLY", "")
LOSSES_MAX = 5


def chosen(name: str, all_: Sequence[_T], short: int, kind: Callable[[_T], Hashable]) -> list[_T]:
    """All points in a soak; otherwise `short` of them (or MIRROR_POINTS), selected by the seed: one of each
    kind, then a second one, and so on. With MIRROR_CRASH_ONLY, that one."""
    short = int(os.environ.get("MIRROR_POINTS", short))
    if ONLY:
        return [one for one in all_ if f"{name}/{one}" == ONLY]
    if SOAK or len(all_) <= short:
        return list(all_)
    rng = random.Random(f"{SEED} {name}")
    of_kind: dict[Hashable, list[int]] = {}
    for place in rng.sample(range(len(all_)), len(all_)):
        of_kind.setdefault(kind(all_[place]), []).append(place)
    turns = zip_longest(*rng.sample(list(of_kind.values()), len(of_kind)))
    places = [place for turn in turns for place in turn if place is not None]
    return [all_[place] for place in sorted(places[:short])]


class Tally:
    """The results of the points of one test."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.tried = 0
        self.losses: list[str] = []

    @contextmanager
    def point(self, order: object, *places: Path) -> Iterator[list[str]]:
        """Try one point: a failure inside is a loss. The report includes what the caller adds to the list.
        Removes the folders if the point passed."""
        facts: list[str] = []
        self.tried += 1
        try:
            yield facts
        except AssertionError as error:
            at = traceback.extract_tb(error.__traceback__)[-1].name
            self.losses.append(
                f"{self.name}/{order} (seed {SEED}; {'; '.join(facts)}): {at}: {error}\n"
                f"  again: MIRROR_CRASH_ONLY='{self.name}/{order}' pytest tests/crash -k {self.kind}"
            )
            if len(self.losses) >= LOSSES_MAX:
                self.end()
        else:
            for place in places:
                shutil.rmtree(place)

    def end(self) -> None:
        """Report the results; fail if anything was lost."""
        told(f"crash {self.name}, {self.kind}", points=self.tried, losses=len(self.losses), seed=SEED)
        if self.losses:
            pytest.fail("\n".join(self.losses), pytrace=False)
        if not self.tried:
            pytest.skip(f"{ONLY} is another point")
