"""Installing files without overwriting anybody's work.

A file that was written here begins with the sha256 of its rest. So a file that somebody changed afterwards is
known, and left.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirror.errors import UsageError
from mirror.fs.durable import AtomicFile, make_parents

State = Literal["new", "changed", "unchanged", "packaged", "yours"]
_MARK = re.compile(
    r"# Written by mirror systemd install \(([0-9a-f]{64})\); change it with systemctl edit\.\n"
)


@dataclass(frozen=True)
class Change:
    """What becomes of one file.

    `path` is its place as the service sees it. *packaged*: a package has the same file in /usr/lib, so it is
    not written. *yours*: somebody changed it, or made it, so it is left.
    """

    path: Path
    text: str
    state: State

    @property
    def is_written(self) -> bool:
        """Whether `write` writes it."""
        return self.state in ("new", "changed")


def plan(wanted: Mapping[str, str], root: Path) -> list[Change]:
    """What becomes of each file of `wanted` (its text by its place below /etc) on the system below `root`.
    Raises OSError where a file cannot be read."""
    return [Change(Path("/etc") / place, text, _state(root, place, text)) for place, text in wanted.items()]


def _state(root: Path, place: str, text: str) -> State:
    mine = root / "etc" / place
    if mine.is_symlink() or mine.exists():  # a link: masked, or somebody's own
        if mine.is_symlink():
            return "yours"
        found = mine.read_text("utf-8", "replace")
        if found == marked(text):
            return "unchanged"
        return "changed" if _is_untouched(found) else "yours"
    packages = (root / "usr/lib" / place, root / "lib" / place)
    if any(path.is_file() and path.read_text("utf-8", "replace") == text for path in packages):
        return "packaged"
    return "new"


def write(changes: list[Change], root: Path) -> None:
    """Write what `plan` found to be new or changed. Raises UsageError where a file cannot be written."""
    for change in changes:
        if not change.is_written:
            continue
        path = root / change.path.relative_to("/")
        try:
            make_parents(path)
            with AtomicFile(path.parent, path.name) as new:
                new.path.chmod(0o644)
                new.stream.write(marked(change.text).encode())
                new.publish(path)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {error.strerror}",
                hint="run it as root (sudo), or see with --dry-run what it would write",
            ) from None


def marked(text: str) -> str:
    """A text with the line that says who wrote it, and what."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"# Written by mirror systemd install ({digest}); change it with systemctl edit.\n{text}"


def _is_untouched(found: str) -> bool:
    """Whether a file is as some version of this program wrote it."""
    mark = _MARK.match(found)
    return mark is not None and hashlib.sha256(found[mark.end() :].encode()).hexdigest() == mark[1]
