"""Stored files in an archive: attachments, downloads, logs, patches. Each is hashed while it is copied."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.archive.text import log_text
from mirror.bitbucket.readable.values import Pointer
from mirror.errors import DamageFound
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import StoredFile

FILES = "files"
# Longer logs and files are shown in part; all of them stands beside.
SHOWN_BYTES_MAX = 256 * 1024
_END_BYTES = 64 * 1024
_CHUNK = 1 << 20
_NAME_MAX = 80
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]+")
# Files that a browser shows or saves, and does not run. All others get an ending that has this effect.
_PICTURES = frozenset({"png", "jpg", "jpeg", "gif", "webp"})
_INERT = _PICTURES | {"txt", "csv", "pdf", "zip", "gz", "tgz", "xz", "bz2", "tar"}
_TEXTS = frozenset({"log", "md", "patch", "diff", "json", "py", "yml", "yaml", "toml", "ini", "sh"})


@dataclass(frozen=True)
class Copy:
    """A stored file as the archive has it. `href` leads to it from the repository's folder; None: it is not
    here, and `reason` says why."""

    name: str
    size: int = 0
    href: str | None = None
    reason: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether a page can show it."""
        return self.href is not None and self.href.rpartition(".")[2] in _PICTURES


@dataclass(frozen=True)
class Log:
    """A text file: all of it, or its end; then `copy` has all."""

    name: str
    text: str = ""
    is_cut: bool = False
    copy: Copy | None = None
    reason: str = ""


class ShownFiles(ABC):
    """The stored files of `folder` as pages show them. Where they lead to is up to the subclass."""

    def __init__(self, folder: AnyFolder) -> None:
        self.folder = folder
        self.problems: list[tuple[int, str]] = []
        self._dropped: Mapping[str, str] | None = None

    def copy(self, pointer: Pointer) -> Copy:
        """What a page links to for a stored file."""
        stored, reason = self._find(pointer)
        return (
            Copy(pointer.name, pointer.size, reason=reason) if stored is None else self.place(stored, pointer)
        )

    @abstractmethod
    def place(self, stored: StoredFile, pointer: Pointer) -> Copy:
        """What a page links to for a file that the store has."""

    def log(self, name: str, pointer: Pointer) -> Log:
        """A log's text; a long one's end, and then a copy of all."""
        stored, reason = self._find(pointer)
        if stored is None:
            return Log(name, reason=reason)
        try:
            with stored.open() as stream:
                data = stream.read(SHOWN_BYTES_MAX + 1)
                if len(data) <= SHOWN_BYTES_MAX:
                    return Log(name, log_text(data))
                while chunk := stream.read(_CHUNK):
                    data = data[-_END_BYTES:] + chunk
        except (DamageFound, FileNotFoundError) as error:
            return Log(name, reason=self.damage(stored, error))
        end = data[-_END_BYTES:].partition(b"\n")[2] or data[-_END_BYTES:]
        return Log(name, log_text(end), is_cut=True, copy=self.copy(pointer))

    def _find(self, pointer: Pointer) -> tuple[StoredFile | None, str]:
        if pointer.sha256 is None:
            return None, "the backup does not have it"
        found = self.folder.find_file(pointer.sha256)
        if found is not None:
            return found, ""
        if self._dropped is None:
            self._dropped = self.folder.dropped()
        if pointer.sha256 in self._dropped:
            return None, "retention has let it go"
        self.problems.append((4, f"{self.folder.full_name}: the file {pointer.sha256} is missing"))
        return None, "missing from the store"

    def damage(self, stored: StoredFile, error: DamageFound | FileNotFoundError) -> str:
        """Note the damage of a file; returns the reason to show."""
        text = error.message if isinstance(error, DamageFound) else f"{stored.file} is missing"
        self.problems.append((4, f"{self.folder.full_name}: {text}"))
        return "damaged in the store"


class Files(ShownFiles):
    """Copies what `folder` stores to `target`, the folder of a repository's pages."""

    def __init__(self, folder: AnyFolder, target: Path) -> None:
        super().__init__(folder)
        self.target = target
        self.count = 0

    def place(self, stored: StoredFile, pointer: Pointer) -> Copy:
        """The file's copy, made if it is not there. Raises OSError where the target's disk fails."""
        name = file_name(stored.sha256, pointer.name)
        place = self.target / FILES / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with place.open("wb") as out, stored.open() as stream:
                    while chunk := stream.read(_CHUNK):
                        out.write(chunk)
            except (DamageFound, FileNotFoundError) as error:
                place.unlink()
                return Copy(pointer.name, pointer.size, reason=self.damage(stored, error))
            self.count += 1
        return Copy(pointer.name, place.stat().st_size, f"{FILES}/{name}")


def file_name(sha256: str, name: str) -> str:
    """A name that every disk takes and that leaves no folder, with an ending that no browser runs."""
    plain = _FOREIGN.sub("_", name).strip("._-") or "file"
    stem, dot, ending = plain.rpartition(".")
    if not dot or ending.lower() not in _INERT:
        stem, ending = plain, "txt" if ending.lower() in _TEXTS else "bin"
    return f"{sha256[:16]}-{stem[-_NAME_MAX:]}.{ending.lower()}"
