"""A store for as long as a command reads it: made in a temporary folder of what it needs from a copy."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from mirror.copy.format import MANIFESTS, STORE
from mirror.copy.materializing import check_room, chosen, lay, make_store, room_for
from mirror.copy.reading import WIDTH, CopiedFolder, Copy, CopyDamaged
from mirror.errors import DamageFound
from mirror.fs import temporary
from mirror.fs.durable import make_folder
from mirror.model import Finding, Progress, Selector
from mirror.store.format import layout
from mirror.store.reading.reader import Store

_PREFIX = "mirror-copy-"
_HINT = "set TMPDIR to a folder on a larger disk, or name fewer repositories"


def is_small(path: str) -> bool:
    """Whether a file of a folder is one of its small files, which say what it is and what it had."""
    return path in layout.SMALL_FILES


def is_about_refs(path: str) -> bool:
    """Whether a file is needed to read the snapshots and the refs of a folder, and no more."""
    return path.startswith(f"{layout.METADATA}/") or not (
        "/objects/" in path or path.startswith((f"{layout.FILES}/", f"{layout.LFS}/"))
    )


@contextmanager
def _temporary_store(environment: Mapping[str, str]) -> Iterator[Path]:
    base = temporary.temporary_base(environment)
    temporary.sweep(base, _PREFIX)
    with temporary.temporary_folder(base, _PREFIX) as folder:
        store = folder / "store"
        make_folder(store)
        yield store


@asynccontextmanager
async def lent(
    copy: Copy,
    selectors: Sequence[Selector],
    *,
    environment: Mapping[str, str],
    progress: Progress,
    only: Callable[[str], bool] | None = None,
) -> AsyncIterator[Path]:
    """A store with the folders that `selectors` select (of their files those for which `only` is true), their
    workspaces and all run records; removed when the block ends.

    Folders of which nothing holds are left out, and are in `lost`, unless they are selected by name. Raises
    UsageError as `Store` does for selectors, NoRoom, DamageFound where nothing of what is selected can be
    had, and as reading the copy does.
    """
    with _temporary_store(environment) as store:
        await make_store(copy, store)
        folders = await _selected(copy, store, selectors)
        check_room(store, room_for(folders), hint=_HINT)
        progress.expect({one.full_name or one.place: 1.0 + one.size for one in folders})
        named = any(one.is_exact for one in selectors)
        await _lay_all(copy, folders, store, only, progress, is_each_needed=named)
        yield store


class Lending:
    """A store of which each folder has all its files only while it is read, so that the disk needs room for
    few of them at a time. The small files are there all the time."""

    def __init__(self, copy: Copy, store: Path, only: Callable[[str], bool] | None) -> None:
        self._copy = copy
        self._only = only
        self.store = store

    def findings(self) -> list[Finding]:
        """What reading the copy met, beside the findings in the store."""
        copy = self._copy
        found = [Finding(f"{MANIFESTS}/{name}", why) for name, why in sorted(copy.broken.items())]
        found += [Finding(place, why) for place, why in sorted(copy.lost.items())]
        return [*found, *(Finding(str(copy.bucket.address), text, severity="warning") for text in copy.notes)]

    @asynccontextmanager
    async def whole(self, place: str) -> AsyncIterator[None]:
        """The folder at `place` has all its files in this block. Raises CopyDamaged where none of its
        manifests can be had whole."""
        folder = self._copy.folders[place]
        await lay(self._copy, folder, self.store, only=self._only)
        try:
            yield
        finally:
            await lay(self._copy, folder, self.store, only=is_small)


@asynccontextmanager
async def lending(
    copy: Copy,
    selectors: Sequence[Selector],
    *,
    environment: Mapping[str, str],
    progress: Progress,
    at_once: int,
    only: Callable[[str], bool] | None = None,
) -> AsyncIterator[Lending]:
    """As `lent`, for a reader that takes `at_once` folders at a time."""
    with _temporary_store(environment) as store:
        await make_store(copy, store)
        folders = await _selected(copy, store, selectors)
        largest = sorted(folders, key=lambda one: one.size, reverse=True)[:at_once]
        check_room(store, room_for(largest), hint=_HINT)
        await _lay_all(copy, folders, store, is_small, progress)
        yield Lending(copy, store, only)


async def _selected(copy: Copy, store: Path, selectors: Sequence[Selector]) -> list[CopiedFolder]:
    """The folders that are selected, without the store's own files."""
    folders = chosen(copy, selectors)
    if folders is None:
        folders = await _by_all_names(copy, store, selectors)
    return [one for one in folders if one.place != STORE]


async def _by_all_names(copy: Copy, store: Path, selectors: Sequence[Selector]) -> list[CopiedFolder]:
    """The folders that are selected by names that only the small files know. Raises UsageError."""
    every = [one for one in copy.folders.values() if one.place != STORE]
    await _lay_all(copy, every, store, is_small, None)
    with Store.open(store) as opened:
        found = opened.repositories(selectors, lambda _: None)
        places = {one.place for one in found}
        alone = [one for one in selectors if one.repository is None]
        places.update(one.place for one in (opened.workspaces(alone, lambda _: None) if alone else ()))
    await asyncio.to_thread(shutil.rmtree, store / layout.WORKSPACES)
    make_folder(store / layout.WORKSPACES)
    places.update("/".join(place.split("/")[:2]) for place in list(places))
    return [one for one in every if one.place in places]


async def _lay_all(
    copy: Copy,
    folders: Sequence[CopiedFolder],
    store: Path,
    only: Callable[[str], bool] | None,
    progress: Progress | None,
    *,
    is_each_needed: bool = False,
) -> None:
    """Lay folders, some at a time. What cannot be had goes to `lost`; raises DamageFound where no repository
    can be had, or where each is needed."""
    slots = asyncio.Semaphore(WIDTH // 2)
    lost: list[CopyDamaged] = []

    async def one(folder: CopiedFolder) -> None:
        async with slots:
            try:
                await lay(copy, folder, store, only=only, progress=progress)
            except CopyDamaged as damage:
                lost.append(damage)
                copy.lost[folder.place] = f"{folder.place} cannot be read: {damage.message}"

    try:
        async with asyncio.TaskGroup() as group:
            for folder in folders:
                group.create_task(one(folder))
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    repositories = {one.place for one in folders if layout.REPOSITORIES in one.place.split("/")}
    wanted = repositories or {one.place for one in folders}
    if lost and (is_each_needed or wanted <= copy.lost.keys()):
        raise DamageFound(lost[0].message, hint=lost[0].hint)
