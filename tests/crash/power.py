"""A model of what a disk has after a power failure: what POSIX promises, and what it does not.

The bytes of a file are durable after its fsync, an entry of a folder after the folder's fsync. A disk may
keep nothing of the rest, all names but no bytes, or any part: the tests try these three outcomes.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """What happens to everything that was not durable."""

    NOTHING = "nothing"  # all of it is lost
    NAMES = "names"  # every name survives, but files have only their durable bytes
    SOME = "some"  # each change of a name at random


@dataclass
class _File:
    safe: Path | None = None  # where its last durable bytes are; None: it is empty


@dataclass
class _Folder:
    now: dict[str, _Node] = field(default_factory=dict)
    safe: dict[str, _Node] = field(default_factory=dict)
    # Changes since the folder's last fsync: number of the change, name, new entry.
    unsafe: list[tuple[int, str, _Node | None]] = field(default_factory=list)

    def set(self, number: int, name: str, node: _Node | None) -> None:
        """Change an entry."""
        if node is None:
            self.now.pop(name, None)
        else:
            self.now[name] = node
        self.unsafe.append((number, name, node))

    def sync(self) -> None:
        """Make the entries durable."""
        self.safe = dict(self.now)
        self.unsafe.clear()

    def left(self, outcome: Outcome, coins: dict[int, bool]) -> dict[str, _Node]:
        """The entries that survive."""
        if outcome is Outcome.NOTHING:
            return self.safe
        if outcome is Outcome.NAMES:
            return self.now
        found = dict(self.safe)
        for number, name, node in self.unsafe:
            if coins[number] and node is not None:
                found[name] = node
            elif coins[number]:
                found.pop(name, None)
        return found


_Node = _File | _Folder


class Disk:
    """The disk of a folder: begins as the copy `base` of `root`, all of it durable, then applies effects."""

    def __init__(self, root: Path, base: Path, blobs: Path) -> None:
        self._root = root
        self._blobs = blobs
        self._top = _Folder({one.name: _load(one) for one in base.iterdir()})
        self._top.sync()
        self._changes = 0

    def take(self, row: list[str]) -> None:
        """Apply one effect of the shim's record: kind, path, other path, number."""
        kind, path, other, number = row[0], Path(row[1]), row[2], int(row[3])
        self._changes += 1
        if kind in "CM":
            self._set(path, _Folder() if kind == "M" else _File())
        elif kind in "UX":
            self._set(path, None)
        elif kind in "RL":
            node = self._find(path)
            assert node is not None, path
            self._set(Path(other), node)
            if kind == "R":
                self._set(path, None)
        elif kind == "S" and isinstance(file := self._find(path), _File):
            file.safe = self._blobs / str(number)
        elif kind == "D" and isinstance(folder := self._find(path), _Folder):
            folder.sync()

    def _find(self, path: Path) -> _Node | None:
        node: _Node | None = self._top
        for name in path.relative_to(self._root).parts:
            node = node.now.get(name) if isinstance(node, _Folder) else None
        return node

    def _set(self, path: Path, node: _Node | None) -> None:
        folder = self._find(path.parent)
        assert isinstance(folder, _Folder), path
        folder.set(self._changes, path.name, node)

    def write(self, target: Path, outcome: Outcome, seed: str) -> None:
        """Write what survives into the folder `target`."""
        coin = random.Random(seed)
        coins = {number: coin.random() < 0.5 for number in range(self._changes + 1)}
        _write(self._top, target, outcome, coins)


def _load(path: Path) -> _Node:
    if not path.is_dir():
        return _File(path)
    folder = _Folder({one.name: _load(one) for one in path.iterdir()})
    folder.sync()
    return folder


def _write(folder: _Folder, target: Path, outcome: Outcome, coins: dict[int, bool]) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    for name, node in folder.left(outcome, coins).items():
        if isinstance(node, _Folder):
            _write(node, target / name, outcome, coins)
        elif node.safe is None:
            (target / name).touch(mode=0o600)
        else:
            shutil.copyfile(node.safe, target / name)
            (target / name).chmod(0o600)


def effects(log: Path) -> Iterator[list[str]]:
    """The effects of a record, in order."""
    for line in log.read_text().splitlines():
        kind, *row = line.split("\t")
        if kind == "effect":
            yield row
