"""The index that the search page reads: a script with a list of what there is, one for each repository."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from mirror.archive.text import one_line

# So much of a thing's text can be searched.
TEXT_MAX = 20_000
FILE = "search-index.js"


class SearchIndex:
    """Writes the index of one repository to `path` as its pages are made; `path` None: there is none."""

    def __init__(self, path: Path | None, name: str) -> None:
        self._file = None
        self._name = name
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="ascii")

    def __enter__(self) -> Self:
        if self._file is not None:
            self._file.write(f"mirrorIndex({_script(self._name)}, [\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.write("]);\n")
            self._file.close()

    def add(self, href: str, kind: str, title: str, texts: Iterable[str]) -> None:
        """Add a page: where it is below the archive's folder, and what can be found in it."""
        if self._file is None:
            return
        found: list[str] = []
        left = TEXT_MAX
        for text in texts:
            if left <= 0:
                break
            found.append(one_line(text, left))
            left -= len(found[-1])
        entry = [href, kind, one_line(title, 300), " · ".join(one for one in found if one)]
        self._file.write(f"{_script(entry)},\n")


def script_of(repositories: Iterable[tuple[str, str]]) -> bytes:
    """The script that lists the indexes: name and place of each."""
    several = [[name, place] for name, place in repositories]
    return f"mirrorRepositories({_script(several)});\n".encode("ascii")


def _script(value: object) -> str:
    """A value as a script has it, whatever stands around it."""
    return json.dumps(value, ensure_ascii=True).replace("<", "\\u003c")
