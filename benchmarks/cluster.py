"""What a cluster costs; and, on paper, how many repositories the real limits of requests feed.

python -m benchmarks.cluster paper [--repositories 100000]
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

# Requests of a run, as benchmarks.unchanged measures them: for each repository, the first time (with its
# settings and a pull request) and when nothing has changed; and for a list of LISTED repositories.
FIRST, UNCHANGED, LISTED, ONCE = 32, 2, 100, 5
# `limits.api_reserve` leaves so many of each hour to a restore.
RESERVE = 100
# Git operations an hour, for each identity: one `ls-refs` for each repository and run.
GIT_LIMIT = 60_000


@dataclass(frozen=True)
class Paper:
    """The time that `repositories` take with `identities` of `limit` requests an hour each."""

    repositories: int
    identities: int
    limit: int

    @property
    def listing(self) -> int:
        """Requests for the list of what exists."""
        return math.ceil(self.repositories / LISTED) + ONCE

    def hours(self, each: float, lists: int = 1) -> float:
        """The hours that `each` requests for each repository and `lists` lists take."""
        return (each * self.repositories + lists * self.listing) / self._an_hour

    @property
    def _an_hour(self) -> int:
        return self.identities * (self.limit - RESERVE)

    def row(self) -> str:
        """A row of the table."""
        git = self.repositories / (self.identities * GIT_LIMIT)
        # With hooks that prove true and `poll_every: 24h`, a run each hour lists, and asks for a day's share.
        lists, polls = self.listing / self._an_hour, UNCHANGED * self.repositories / 24 / self._an_hour
        return (
            f"| {self.repositories:,} | {self.identities} × {self.limit:,} | {_time(self.hours(FIRST))}"
            f" | {_time(self.hours(UNCHANGED))} | {lists + polls:.0%}"
            f" | {'no' if lists + polls > 1 else 'yes'} | {_time(git)} |"
        )


def _time(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def paper(repositories: int) -> None:
    """Print what the real limits make of `repositories`, and of a tenth of them."""
    print("Each identity makes all requests that it may, but for the reserve.\n")
    print(
        "| repositories | identities × requests an hour | first run | nothing changed, all asked"
        " | hooks and poll_every 24h: of each hour's requests | enough | one run by git's own limit |"
    )
    print("|---|---|---|---|---|---|---|")
    for count in (repositories // 10, repositories):
        for identities, limit in ((1, 1000), (4, 1000), (10, 1000), (1, 10_000), (4, 10_000)):
            print(Paper(count, identities, limit).row())


def main() -> None:
    """Run a benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_subparsers(required=True, dest="which")
    on_paper = which.add_parser("paper")
    on_paper.add_argument("--repositories", type=int, default=100_000)
    asked = parser.parse_args()
    paper(asked.repositories)


if __name__ == "__main__":
    main()
