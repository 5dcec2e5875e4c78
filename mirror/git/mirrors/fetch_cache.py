"""Cache of the last ls-refs response: if the response, the refs and the request are byte-identical, skip
the fetch.

One digest covers the server's response, the mirror's HEAD and packed-refs, and the request. Where any byte
differs, or the file is missing or damaged, the response is parsed as usual.
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
    """The result of a fetch that found nothing new: the pull request heads that are pinned, and the pull
    requests whose head is wanted and not in the mirror."""

    pins: dict[int, str]
    unpinned: tuple[int, ...]


class FetchCache:
    """The cache of the mirror at `path`. `request` is what the result depends on besides the response and
    the mirror's refs."""

    def __init__(self, path: Path, *request: str) -> None:
        self._path = path
        self._request = "\n".join(request).encode()
        self.found: CachedFetch | None = None

    def matches(self, response: bytes) -> bool:
        """Whether the last fetch had the same response, refs and request; if so, `found` is its result."""
        try:
            digest, *numbers = (self._path / FILE).read_text("ascii").split()
            unpinned = tuple(map(int, numbers))
        except (OSError, ValueError):
            return False
        refs = self._refs()
        if refs is None or digest != self._digest(response, refs, unpinned):
            return False
        self.found = CachedFetch(pins_in(refs[1]), unpinned)
        return True

    def store(self, response: bytes, unpinned: tuple[int, ...]) -> None:
        """Record that the mirror has all that `response` advertises, except for the heads of `unpinned`.
        The caller holds the writer's lock."""
        refs = self._refs()
        if refs is None:
            return
        words = [self._digest(response, refs, unpinned), *map(str, unpinned)]
        with contextlib.suppress(OSError):  # without the cache the next fetch is only slower
            sweep(self._path)  # remove what a killed writer left
            write_file(self._path / FILE, " ".join(words).encode("ascii") + b"\n")

    def _refs(self) -> tuple[bytes, bytes] | None:
        """The content of HEAD and packed-refs; None where another program made loose refs."""
        if any(files for _, _, files in os.walk(self._path / "refs")):
            return None
        try:
            return (self._path / "HEAD").read_bytes(), (self._path / "packed-refs").read_bytes()
        except OSError:
            return None

    def _digest(self, response: bytes, refs: tuple[bytes, bytes], unpinned: tuple[int, ...]) -> str:
        digest = hashlib.sha256()
        for part in (self._request, repr(unpinned).encode(), response, *refs):
            digest.update(b"%d " % len(part))
            digest.update(part)
        return digest.hexdigest()
