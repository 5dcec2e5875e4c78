"""Salvaging a damaged mirror: what its whole tips reach goes to a new pack, and the others are named.

Each object is read once in any pack or loose file that has it undamaged, and hashed. The new pack has no
deltas, so it is larger than those of the mirror; `git gc` makes it small.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from mirror.git.mirrors.intact import IntactObjects
from mirror.git.objects import read
from mirror.git.pack.writer import PackWriter
from mirror.git.walk import all_links
from mirror.git.workers.job import OnProgress, no_progress

# How many objects are written between two reports of progress.
_REPORT_EVERY = 1000


def salvage(
    mirror: Path, target: Path, tips: Iterable[str], *, progress: OnProgress = no_progress
) -> dict[str, str]:
    """Write to the repository `target` all objects that the whole ones of `tips` reach in `mirror`.

    A tip is whole where every object that it reaches can be read and has the right hash. Returns the others,
    each with what it lacks. Raises OSError where the target's disk fails.
    """
    writer = PackWriter(target / "objects")
    try:
        with closing(IntactObjects(mirror)) as objects:
            salvaging = _Salvage(objects, writer, progress)
            lacks = {tip: lack for tip in tips if (lack := salvaging.follow(tip)) is not None}
        writer.publish()
    finally:
        writer.discard()
    return lacks


class _Salvage:
    """Writes whole objects, and remembers of every object that it met what it lacks (None: nothing)."""

    def __init__(self, objects: IntactObjects, writer: PackWriter, progress: OnProgress) -> None:
        self._objects, self._writer, self._progress = objects, writer, progress
        self._lacks: dict[bytes, str | None] = {}

    def follow(self, tip: str) -> str | None:
        """Write what `tip` reaches, as far as it is whole; returns what `tip` lacks."""
        todo = [bytes.fromhex(tip)]
        open_: dict[bytes, list[bytes]] = {}  # objects whose links are followed first
        while todo:
            name = todo[-1]
            if name in self._lacks:
                todo.pop()
            elif name in open_:
                found = (self._lacks[link] for link in open_.pop(name))
                self._settle(name, next((lack for lack in found if lack is not None), None))
            else:
                links = self._links(name)
                if links:
                    open_[name] = links
                    todo += links
        return self._lacks[bytes.fromhex(tip)]

    def _links(self, name: bytes) -> list[bytes]:
        """What an object names. One that names nothing or cannot be read is settled at once."""
        try:
            kind, content = read(self._objects, name.hex())
            files, others = all_links(kind, content)
        except KeyError:
            self._lacks[name] = f"{name.hex()} is missing"
        except Exception:  # noqa: BLE001 - damage raises anything
            self._lacks[name] = f"{name.hex()} is damaged"
        else:
            if files or others:
                return [*files, *others]
            self._settle(name, None, (kind, content))
        return []

    def _settle(self, name: bytes, lack: str | None, found: tuple[int, bytes] | None = None) -> None:
        self._lacks[name] = lack
        if lack is None:
            self._writer.add(*(found or read(self._objects, name.hex())))
            if len(self._writer) % _REPORT_EVERY == 0:
                self._progress(f"salvaged {len(self._writer)} objects")
