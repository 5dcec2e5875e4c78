"""Finding the tips that no other tip of a mirror reaches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mirror.git.pack.limits import PackLimits
from mirror.git.refs import closed_after, open_objects
from mirror.git.walk import history_links, raw, walk
from mirror.git.workers.job import Clock, OnProgress


@dataclass(frozen=True)
class UnreachedJob:
    """Find which of the hashes `candidates` are reached neither by `tips` nor by an earlier candidate, in the
    repository at `path`. Only parents and tag targets are followed. Nothing is written."""

    path: str
    tips: tuple[str, ...]
    candidates: tuple[str, ...]

    def do(self, _progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> tuple[str, ...]:
        """The hashes, in the order of `candidates`. An object that cannot be read is passed over: whoever
        sends it says so."""
        found: list[str] = []
        seen: set[bytes] = set()
        with closed_after(open_objects(Path(self.path))) as store:

            def follow(tips: list[bytes]) -> None:
                for _ in walk(store, tips, history_links, seen=seen, on_error=lambda *_: None):
                    pass

            follow(raw(self.tips))
            for candidate in self.candidates:
                if bytes.fromhex(candidate) not in seen:
                    found.append(candidate)
                    follow(raw([candidate]))
        return tuple(found)
