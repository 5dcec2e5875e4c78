"""The target of an extraction: a temporary folder, moved to its place by one rename when it is complete."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from mirror.errors import UsageError
from mirror.fs.folders import LOST_AND_FOUND, is_empty

RESTORING, EXPORTING = "restoring", "exporting"
_REPLACED = "replaced"
_NAME_MAX = 200


def check_place(place: Path, *, overwrite: bool = False, hint: str) -> None:
    """Raise UsageError where nothing may be written to `place`: it is a file, the root of the file system,
    or, without `overwrite`, not empty. `lost+found` does not count."""
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file; nothing was written", hint="name a new or an empty folder")
    if place.resolve() == Path(place.anchor):
        raise UsageError("nothing is restored to the root of the file system", hint="name a folder below it")
    if not overwrite and place.is_dir() and not is_empty(place):
        raise UsageError(not_empty(place), hint=hint)


def not_empty(place: Path) -> str:
    """The error text for a target that is not empty, perhaps after an interrupted restore."""
    left = sorted(
        path.name for word in (RESTORING, EXPORTING) for path in place.glob(f".{word}-*") if path.is_dir()
    )
    if not left:
        return f"{place} is not empty; nothing was written"
    names = ", ".join(left)
    return f"{place} is not empty: an interrupted restore or export left {names} there; nothing was written"


class Destination:
    """The target of one extraction. Write to the folder `unfinished`; `publish` moves it to `place`.

    `unfinished` is beside `place`, on the same disk, and moved by one rename. An existing folder keeps its
    owner and mode, and may be a mount point, which cannot be replaced: then `unfinished` is inside it, and
    its entries are moved one by one. With `overwrite` a folder that is not empty is replaced: the entries in
    `ours` are removed, all others are kept.
    """

    def __init__(
        self, place: Path, word: str, *, overwrite: bool = False, ours: Collection[str] = ()
    ) -> None:
        self.place = place.resolve() if place.is_symlink() else place
        self._ours = frozenset(ours)
        self._overwrite = overwrite
        self._mark = secrets.token_hex(4)
        beside = self._beside(word)
        self._in_place = self.place.is_dir() and not (overwrite and self._may_be_replaced(beside))
        self.unfinished = self.place / f".{word}-{self._mark}" if self._in_place else beside

    def _beside(self, word: str) -> Path:
        return self.place.with_name(f".{self.place.name[:_NAME_MAX]}.{word}-{self._mark}")

    def _may_be_replaced(self, beside: Path) -> bool:
        """Whether `place` can be replaced by a rename: it is not empty, and renaming a probe folder into it
        shows that it is no mount point and its parent is writable."""
        if (self.place / LOST_AND_FOUND).exists() or is_empty(self.place):
            return False
        inside = self.place / beside.name
        try:
            beside.mkdir()
        except OSError:
            return False
        try:
            beside.rename(inside)
            inside.rename(beside)
        except OSError:
            return False
        finally:
            for path in (beside, inside):
                with contextlib.suppress(OSError):
                    path.rmdir()
        return True

    @property
    def replaces(self) -> bool:
        """Whether `place` has an entry of `ours` already."""
        return not self._ours.isdisjoint(_names_in(self.place))

    def begin(self, *, again: bool = False) -> Path:
        """Create the empty folder `unfinished`, and return it; `again` removes its present content."""
        if again and self.unfinished.exists():
            shutil.rmtree(self.unfinished)
        self.unfinished.mkdir(parents=True)
        return self.unfinished

    def publish(self) -> list[tuple[int, str]]:
        """Move `unfinished` to `place`; returns the problems of removing the old content. Raises OSError and
        UsageError; the old content then stays."""
        if self._in_place:
            return self._fill()
        if not self.place.exists():
            self.unfinished.rename(self.place)
            return []
        if not self._overwrite or not self.place.is_dir():
            raise UsageError(f"{self.place} exists already; nothing was written")
        return self._replace()

    def _replace(self) -> list[tuple[int, str]]:
        """Replace the old folder, which is kept aside until the new one is in place."""
        old = self._beside(_REPLACED)
        self.unfinished.chmod(stat.S_IMODE(self.place.stat().st_mode))
        self.place.rename(old)
        try:
            self.unfinished.rename(self.place)
        except BaseException:
            old.rename(self.place)
            raise
        for child in sorted(old.iterdir()):
            if child.name not in self._ours and not (self.place / child.name).exists():
                child.rename(self.place / child.name)
        return _remove(old)

    def _fill(self) -> list[tuple[int, str]]:
        """Move the entries into the existing folder; replaced entries are kept aside until then."""
        old = self.place / f".{_REPLACED}-{self._mark}"
        children = sorted(self.unfinished.iterdir())
        there = [self.place / name for name in _names_in(self.place)]
        replaced = [one for one in there if one.name in self._ours or self.unfinished / one.name in children]
        if replaced and not self._overwrite:
            names = ", ".join(one.name for one in replaced)
            raise UsageError(f"{self.place} already has {names}; nothing was written")
        moved: list[tuple[Path, Path]] = []
        try:
            if replaced:
                old.mkdir()
            for source, target in [
                *((one, old / one.name) for one in replaced),
                *((one, self.place / one.name) for one in children),
            ]:
                source.rename(target)
                moved.append((source, target))
        except BaseException:
            for source, target in reversed(moved):
                target.rename(source)
            with contextlib.suppress(FileNotFoundError):
                old.rmdir()
            raise
        self.unfinished.rmdir()
        return _remove(old)

    def discard(self) -> list[tuple[int, str]]:
        """Remove `unfinished` if it was not moved; returns the problem of what could not be removed."""
        return _remove(self.unfinished)


def _names_in(folder: Path) -> list[str]:
    """The entries of a folder, without `lost+found`; none where it does not exist."""
    names = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if name != LOST_AND_FOUND]


def _remove(folder: Path) -> list[tuple[int, str]]:
    shutil.rmtree(folder, ignore_errors=True)
    return [(1, f"{folder} is no longer needed and could not be removed")] if folder.exists() else []
