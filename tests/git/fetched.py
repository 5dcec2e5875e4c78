"""A mirror after many small fetches: packs as C git sends them, thin ones completed by C git."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from mirror.git.mirrors.fetch import create
from tests.git.backend import git


def packs(mirror: Path) -> list[Path]:
    """The packs of a mirror."""
    return sorted((mirror / "objects" / "pack").glob("pack-*.pack"))


def objects(mirror: Path) -> list[str]:
    """Every object of a mirror, reachable or not: id, type and size, by C git."""
    told = git("cat-file", "--batch-all-objects", "--unordered", "--batch-check", cwd=mirror)
    return sorted(set(told.splitlines()))


def send(source: Path, mirror: Path, new: str, old: tuple[str, ...], *words: str) -> None:
    """One fetch: a thin pack of what `new` has and `old` lacks, with these options of C git."""
    asked = f"{new}\n" + "".join(f"^{one}\n" for one in old)
    pack = subprocess.run(
        ["git", "pack-objects", "-q", "--revs", "--stdout", "--thin", *words],
        cwd=source,
        input=asked.encode(),
        capture_output=True,
        check=True,
    ).stdout
    subprocess.run(
        ["git", "index-pack", "--stdin", "--fix-thin"],
        cwd=mirror,
        input=pack,
        capture_output=True,
        check=True,
    )


class History:
    """A source that grows at random, and the mirror that follows it fetch by fetch."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._rng = random.Random(seed)
        self.source, self.mirror = folder / "source.git", folder / "code.git"
        git("init", "-q", "--bare", str(self.source))
        create(self.mirror)
        self._files = {f"d{n % 7}/f{n}.txt": self._text(n) for n in range(40)}
        self._tips: list[str] = []
        self._number = 0

    def _text(self, number: int) -> list[str]:
        return [f"{number} {line} {self._rng.random()}\n" for line in range(self._rng.randint(5, 120))]

    def commit(self) -> str:
        """Add a commit with one parent or two; sometimes on a line that is then forgotten."""
        rng = self._rng
        self._number += 1
        for name in rng.sample(sorted(self._files), 3):
            lines = self._files[name]
            match rng.randrange(4):
                case 0:
                    lines.insert(rng.randrange(len(lines)), f"new {rng.random()}\n")
                case 1:
                    lines.reverse()  # and back again, some time later
                case 2:
                    lines[rng.randrange(len(lines))] = "the same\n"
                case _:
                    self._files[name] = self._text(self._number)
        parents = self._tips[-1:]
        if len(self._tips) > 3 and rng.random() < 0.2:
            parents.append(rng.choice(self._tips[:-1]))
        out = ["blob\nmark :1\ndata 0\n\n"]
        out.append(f"commit refs/heads/main\nmark :2\ncommitter A <a@b.c> {10**9 + self._number} +0000\n")
        out.append("data 5\nWork\n\n")
        out += [f"{word} {one}\n" for word, one in zip(("from", "merge"), parents, strict=False)]
        for name, lines in self._files.items():
            text = "".join(lines)
            out.append(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
        git("fast-import", "--quiet", "--force", cwd=self.source, stdin="".join(out).encode())
        self._tips.append(git("rev-parse", "refs/heads/main", cwd=self.source).strip())
        return self._tips[-1]

    def fetch(self) -> None:
        """A fetch. As servers differ: deltas by offset or by name, and more objects than needed."""
        rng = self._rng
        old = tuple(self._tips[-1:])
        if len(self._tips) > 2 and rng.random() < 0.2:
            old = (self._tips[-3],)  # so that several packs have the same objects
        for _ in range(rng.randint(1, 3)):
            self.commit()
        words = ["--delta-base-offset"] if rng.random() < 0.5 else []
        send(self.source, self.mirror, self._tips[-1], old, *words)
        if rng.random() < 0.8:  # otherwise nothing reaches it
            git("update-ref", f"refs/heads/b{rng.randrange(5)}", self._tips[-1], cwd=self.mirror)

    def fetches(self, number: int) -> None:
        """Several fetches."""
        for _ in range(number):
            self.fetch()
