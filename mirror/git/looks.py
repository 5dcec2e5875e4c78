"""What a look at a server came to, so that the same answer need not be read again.

Most looks find what the last one found. Kept is one digest of everything that a look came from: what the
server answered, the mirror's refs as they stand, and what was asked for. Where a byte of that differs, or
the file is gone or damaged, the answer is read as ever.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from mirror.git.durable import sweep_files, write_file
from mirror.git.refs import WORK, pins_in

FILE = "looked"


@dataclass(frozen=True)
class Found:
    """What a look found where nothing is new: the heads of pull requests that are pinned, and those that
    are wanted and not held."""

    pins: dict[int, str]
    unpinned: tuple[int, ...]


class Look:
    """One look at a server for the mirror at `path`. `asked` is all that its outcome depends on beside the
    answer and the mirror's refs."""

    def __init__(self, path: Path, *asked: str) -> None:
        self._path = path
        self._asked = "\n".join(asked).encode()
        self.found: Found | None = None

    def is_known(self, answer: bytes) -> bool:
        """Whether the last look came from the same; then `found` is what it found."""
        try:
            digest, *numbers = (self._path / FILE).read_text("ascii").split()
            unpinned = tuple(map(int, numbers))
        except (OSError, ValueError):
            return False
        refs = self._standing()
        if refs is None or digest != self._digest(answer, refs, unpinned):
            return False
        self.found = Found(pins_in(refs), unpinned)
        return True

    def keep(self, answer: bytes, unpinned: tuple[int, ...]) -> None:
        """Keep that a look found the mirror to be what `answer` says, but for these heads. The caller holds
        the writer's lock."""
        refs = self._standing()
        if refs is not None:
            sweep_files(self._path)  # one that was killed here is followed by one that comes here
            words = [self._digest(answer, refs, unpinned), *map(str, unpinned)]
            write_file(self._path / FILE, " ".join(words).encode("ascii") + b"\n")

    def _standing(self) -> bytes | None:
        """The mirror's refs as they are on the disk; None where they are not as we write them."""
        if any(files for _, _, files in os.walk(self._path / "refs")):
            return None
        try:
            refs = (self._path / "packed-refs").read_bytes()
        except OSError:
            return None
        return None if b" " + WORK in refs else refs

    def _digest(self, answer: bytes, refs: bytes, unpinned: tuple[int, ...]) -> str:
        digest = hashlib.sha256()
        head = (self._path / "HEAD").read_bytes()
        for part in (self._asked, repr(unpinned).encode(), answer, head, refs):
            digest.update(b"%d " % len(part))
            digest.update(part)
        return digest.hexdigest()
