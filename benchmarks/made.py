"""Generate a git repository from a number, for machines without one. The same number gives the same
repository."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

FOLDERS, FILES = 40, 25


def make(
    path: Path, commits: int, *, folders: int = FOLDERS, files: int = FILES, seed: int | None = None
) -> None:
    """Create a bare repository at `path`: a thousand files in forty folders, a few lines changed by each
    commit."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
    rng = random.Random(commits if seed is None else seed)
    texts = {
        f"src/{folder:02}/{file:02}.txt": [f"{rng.random()}\n" for _ in range(rng.randint(20, 800))]
        for folder in range(folders)
        for file in range(files)
    }
    names = sorted(texts)
    with subprocess.Popen(
        ["git", "-C", str(path), "fast-import", "--quiet", "--done"], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        for number in range(commits):
            changed = names if number == 0 else rng.sample(names, 4)
            out = [f"commit refs/heads/main\ncommitter A <a@example.org> {1_700_000_000 + number} +0000\n"]
            out.append("data 5\nWork\n\n")
            for name in changed:
                texts[name][rng.randrange(len(texts[name]))] = f"{rng.random()}\n"
                text = "".join(texts[name])
                out.append(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
            process.stdin.write("".join(out).encode())
        process.stdin.write(b"done\n")
    # Pack it as a server would send it.
    subprocess.run(["git", "-C", str(path), "repack", "-a", "-d", "-q", "-f"], check=True)
