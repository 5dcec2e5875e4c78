"""Where things are taken out to: made apart, and moved to their place by one rename once they are whole."""

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
    or not empty, unless `overwrite`. The `lost+found` of a fresh disk does not count."""
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place} is not a folder; nothing was written")
    if place.resolve() == Path(place.anchor):
        raise UsageError("nothing is restored to the root of the file system", hint="name a folder in it")
    if not overwrite and place.is_dir() and not is_empty(place):
        raise UsageError(not_empty(place), hint=hint)


def not_empty(place: Path) -> str:
    """How to say that something is at `place`, and that it may come from a restore that was stopped."""
    left = sorted(
        path.name for word in (RESTORING, EXPORTING) for path in place.glob(f".{word}-*") if path.is_dir()
    )
    if not left:
        return f"{place} is not empty; nothing was written"
    names = ", ".join(left)
    return (
        f"{place} is not empty: a restore or export that was stopped left {names} there; nothing was written"
    )


class Destination:
    """Where one thing goes. `unfinished` is the folder to make it in; `publish` moves it to `place`.

    It is made beside `place`, on the same disk, and moved by one rename. A folder that is there keeps its
    owner and mode, and may be a mount point, which cannot be replaced: what goes there is made in it, and
    its parts are moved one after the other. Where `overwrite`, a folder that is not empty is replaced
    whole; of what it holds only `ours` go, the rest is carried over.
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
        """Whether another folder can take the place of the one that is there: it holds something, and a
        rename into it shows that it is no mount point and that its parent may be written to."""
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
        """Whether something of `ours` is at the place already."""
        return not self._ours.isdisjoint(_names_in(self.place))

    def begin(self, *, again: bool = False) -> Path:
        """Make the folder `unfinished`, empty, and return it; `again` drops what was made in it before."""
        if again and self.unfinished.exists():
            shutil.rmtree(self.unfinished)
        self.unfinished.mkdir(parents=True)
        return self.unfinished

    def publish(self) -> list[tuple[int, str]]:
        """Move what was made to its place; returns problems of what was there before and could not be
        removed. Raises OSError and UsageError; then what was there before is there still."""
        if self._in_place:
            return self._fill()
        if not self.place.exists():
            self.unfinished.rename(self.place)
            return []
        if not self._overwrite or not self.place.is_dir():
            raise UsageError(f"{self.place} is there already; nothing was written")
        return self._replace()

    def _replace(self) -> list[tuple[int, str]]:
        """The old folder stays aside until the new one stands."""
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
        """Move what was made into the folder that is there; what is replaced stays aside until then."""
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
        """Remove what was not moved to its place; returns the problem of what is left all the same."""
        return _remove(self.unfinished)


def _names_in(folder: Path) -> list[str]:
    """What stands in a folder, without a fresh disk's own; nothing where it is not there."""
    names = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if name != LOST_AND_FOUND]


def _remove(folder: Path) -> list[tuple[int, str]]:
    shutil.rmtree(folder, ignore_errors=True)
    return [(1, f"what is not needed any more is left at {folder}")] if folder.exists() else []
