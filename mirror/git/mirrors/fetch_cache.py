"""What a look at a server came to, so that the same answer need not be read again.

Most looks find what the last one found. Kept is one digest of everything that a look came from: what the
server answered, the mirror's refs as they stand, and what was asked for. Where a byte of that differs, or
the file is gone or damaged, the answer is read as ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from mirror.fs.durable import sweep, write_file
from mirror.git.refs import pins_in

FILE = "looked"


@dataclass(frozen=True)
class CachedFetch:
    """What a look found where nothing is new: the heads of pull requests that are pinned, and those that
    are wanted and not held."""

    pins: dict[int, str]
    unpinned: tuple[int, ...]


class FetchCache:
    """One look at a server for the mirror at `path`. `asked` is all that its outcome depends on beside the
    answer and the mirror's refs."""

    def __init__(self, path: Path, *asked: str) -> None:
        self._path = path
        self._asked = "\n".join(asked).encode()
        self.found: CachedFetch | None = None

    def matches(self, answer: bytes) -> bool:
        """Whether the last look came from the same; then `found` is what it found."""
        try:
            digest, *numbers = (self._path / FILE).read_text("ascii").split()
            unpinned = tuple(map(int, numbers))
        except (OSError, ValueError):
            return False
        standing = self._standing()
        if standing is None or digest != self._digest(answer, standing, unpinned):
            return False
        self.found = CachedFetch(pins_in(standing[1]), unpinned)
        return True

    def store(self, answer: bytes, unpinned: tuple[int, ...]) -> None:
        """Keep that a look found the mirror to be what `answer` says, but for these heads. The caller holds
        the writer's lock."""
        standing = self._standing()
        if standing is None:
            return
        words = [self._digest(answer, standing, unpinned), *map(str, unpinned)]
        with contextlib.suppress(OSError):  # without it the next look is slower, and that is all
            sweep(self._path)  # one that was killed here is followed by one that comes here
            write_file(self._path / FILE, " ".join(words).encode("ascii") + b"\n")

    def _standing(self) -> tuple[bytes, bytes] | None:
        """HEAD and the mirror's refs as they are on the disk; None where they are not as we write them."""
        if any(files for _, _, files in os.walk(self._path / "refs")):
            return None
        try:
            return (self._path / "HEAD").read_bytes(), (self._path / "packed-refs").read_bytes()
        except OSError:
            return None

    def _digest(self, answer: bytes, standing: tuple[bytes, bytes], unpinned: tuple[int, ...]) -> str:
        digest = hashlib.sha256()
        for part in (self._asked, repr(unpinned).encode(), answer, *standing):
            digest.update(b"%d " % len(part))
            digest.update(part)
        return digest.hexdigest()
