"""Restoring from a store. See `run`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from mirror import extract
from mirror.errors import Cancelled, MirrorError, UsageError
from mirror.git.wire.client import GitLogin
from mirror.git.workers.job import Job, Tell
from mirror.git.workers.pool import WorkerPool
from mirror.http.network import Network
from mirror.model import DONE, NoProgress, Progress, Refs, Selector, Snapshot
from mirror.restore.pushing import REPOSITORY, WORKSPACE, PushOptions, push, url_of
from mirror.restore.refs import check_prefix, only_refs
from mirror.restore.report import Item, Report, item_of, lacking, lacks_mirror, unreadable
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, MirrorRefs, RepositoryFolder, Store, WorkspaceFolder

T = TypeVar("T")
# What a target in Bitbucket begins with; see `mirror.restore.into`.
BITBUCKET = "bitbucket:"
# And one in a Forgejo; see `mirror.restore.into_forgejo`.
FORGEJO = "forgejo:"
# How alike a word must be to one of these to be meant.
_NEAR = 0.8
PARTS = frozenset({"code", "metadata", "wiki", "snippets"})
CODE = "code.git"
_OF_REPOSITORY = frozenset({"code", "metadata", "wiki"})
_OF_WORKSPACE = frozenset({"metadata", "snippets"})
_FORM = extract.Form(extract.RESTORING)


def _check_folder(base: Path, *, overwrite: bool) -> None:
    """Raise UsageError where nothing may be restored to this folder."""
    if all((base / name).exists() for name in ("HEAD", "objects", "refs")) or (base / ".git").exists():
        raise UsageError(
            f"{base} is a git repository; nothing was written",
            hint=f"push to it with --to {base.as_uri()}, or name an empty folder",
        )
    hint = "name an empty folder, or add --overwrite to replace what a restore wrote there"
    extract.check_place(base, overwrite=overwrite, hint=hint)


async def run(
    path: Path,
    selector: Selector,
    *,
    target: str,
    at: str = "latest",
    only: frozenset[str] = PARTS,
    overwrite: bool = False,
    dry_run: bool = False,
    login: GitLogin | None = None,
    refs: Sequence[str] = (),
    archive: str | None = None,
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
    network: Network | None = None,
) -> Report:
    """Restore the folders that `selector` matches from the store at `path`, at the snapshot `at`.

    `target` is a folder or the URL of a git repository. In a folder, one repository gives `code.git`,
    `wiki.git` and `metadata`; several give the same in `workspace/repository` each, and a whole workspace its
    own content in `workspace/~workspace`. To a URL the refs of the code (or, with `only` that, of the wiki)
    are pushed, with `archive` more (see `archive_refs`); where it holds `{repository}`, those of several. Of
    the refs of the code (or wiki) come all, or those that one of the globs `refs` matches. Raises UsageError,
    NoStore and StoreDamaged before any change; the problems of one of several are in its item.
    """
    progress = progress or NoProgress()
    with Store.open(path) as store:
        folders, homes, damages = extract.readable(store, selector, homes=bool(only & _OF_WORKSPACE))
        repositories = folders if only & _OF_REPOSITORY else []
        async with WorkerPool(
            2, environment=environment, network=network, received=progress.received
        ) as pool:
            if is_url(target):
                pushing = PushOptions(
                    "wiki" if only == {"wiki"} else "code", target, tuple(refs),
                    None if archive is None else check_prefix(archive),
                    login, overwrite, dry_run, pool, progress,
                )  # fmt: skip
                pushed = await _to_server(pushing, selector, repositories, at)
                return Report((*(unreadable(one) for one in damages), *pushed), dry_run)
            if archive is not None:
                raise UsageError(
                    "--with-archive names what is pushed to a git server, and the target is a folder",
                    hint="a restored folder has the heads of pull requests below refs/mirror/; omit it",
                )
            base = Path(target).absolute()
            _check_folder(base, overwrite=overwrite)
            options = _FolderOptions(
                at, only, tuple(refs), overwrite, dry_run, pool, progress, several=not selector.is_exact
            )
            restored = await _to_folders(options, base, repositories, homes)
            return Report((*(unreadable(one) for one in damages), *restored), dry_run)


async def _to_server(
    options: PushOptions, selector: Selector, repositories: Sequence[RepositoryFolder], at: str
) -> list[Item]:
    """Push one repository, or several where the URL has a place for their names. Raises UsageError and
    StoreDamaged."""
    if REPOSITORY not in options.url:
        if len(repositories) != 1:
            raise UsageError(
                f"{selector} matches {len(repositories)} repositories, and a URL can take one",
                hint=f"name one repository, restore to a folder, or put {REPOSITORY} into the URL",
            )
        [when] = extract.choose(repositories, at)
        assert isinstance(when, At)
        return [await push(options, repositories[0], when)]
    urls = Counter(url_of(options, one) for one in repositories)
    twice = [url for url, times in urls.items() if times > 1]
    if twice:
        raise UsageError(
            f"two repositories would be pushed to {twice[0]}",
            hint=f"add {WORKSPACE} to the URL, or name one of them by its folder name",
        )
    items = []
    options.progress.expect({one.full_name: 1.0 for one in repositories})
    for folder, found in zip(repositories, extract.choose(repositories, at), strict=True):
        try:
            if isinstance(found, MirrorError):
                raise found
            items.append(await push(options, folder, found))
        except MirrorError as error:
            items.append(lacking(folder, url_of(options, folder), error))
    return items


@dataclass(frozen=True)
class _FolderOptions:
    """The options of a restore to a folder. Of `several` repositories each has its own place below it, and
    may have no wiki."""

    at: str
    only: frozenset[str]
    refs: tuple[str, ...]
    overwrite: bool
    dry_run: bool
    pool: WorkerPool
    progress: Progress
    several: bool


def is_url(target: str) -> bool:
    """Whether a target is a git URL. Raises UsageError for URLs that are not supported."""
    if "://" in target:
        parts = _parts_of(target)
        if parts.scheme not in ("http", "https", "file"):
            raise UsageError(
                f"pushing over {parts.scheme} is not built in this version",
                hint="restore to a folder, then there: git push --mirror URL",
            )
        if parts.username is not None or parts.password is not None:
            raise UsageError(
                "a URL must not hold a user name or password",
                hint="set MIRROR_GIT_USERNAME and MIRROR_GIT_PASSWORD instead",
            )
        return True
    host = target.partition("/")[0]
    if ":" in host and not Path(target).exists():
        word = host.partition(":")[0]
        near = get_close_matches(f"{word}:", [BITBUCKET, FORGEJO], 1, _NEAR)
        if near and "." not in word and "@" not in word:  # bitbucket.org:… is a host
            raise UsageError(f"--to {word}: is no kind of target", hint=f"did you mean {near[0]}?")
        raise UsageError(
            "pushing over ssh is not built in this version",
            hint="restore to a folder, then there: git push --mirror URL",
        )
    return False


def _parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.port == 0 or (parts.hostname is None and parts.scheme in ("http", "https")):
            raise ValueError
    except ValueError:  # it is not repeated: a password may stand in it
        raise UsageError(
            "malformed URL: its host or port is invalid", hint="check the part after ://"
        ) from None
    return parts


def _wanted(options: _FolderOptions, folder: AnyFolder, snapshot: Snapshot) -> dict[str, Refs]:
    """The refs of each wanted mirror of a snapshot, by the mirror's name. Raises UsageError where it lacks
    refs that were named, and MirrorError where it lacks a mirror."""
    known = folder.metadata.mirrors(snapshot)
    needed = _needed(folder, options.only, may_lack=options.several)
    for one in sorted(needed - known.keys()):
        raise lacks_mirror(folder, snapshot, one)
    choose = _choice(options)
    return {
        mirror: choose(mirror, one).refs
        for mirror, one in known.items()
        if mirror.partition("/")[0] in options.only
    }


def _choice(options: _FolderOptions) -> Callable[[str, MirrorRefs], MirrorRefs]:
    """The choice among the refs of the code; of the wiki, where that alone is wanted."""
    of = "wiki" if options.only == {"wiki"} else "code"
    return lambda mirror, recorded: only_refs(recorded, options.refs if mirror == of else ())


def _needed(folder: AnyFolder, only: frozenset[str], *, may_lack: bool) -> frozenset[str]:
    """The mirrors that a snapshot must have."""
    if not isinstance(folder, RepositoryFolder):
        return frozenset()
    return frozenset({"wiki"}) if only == {"wiki"} and not may_lack else only & {"code"}


async def _to_folders(
    options: _FolderOptions,
    base: Path,
    repositories: Sequence[RepositoryFolder],
    homes: Sequence[WorkspaceFolder],
) -> list[Item]:
    """Restore repositories, and the own content of workspaces, below the folder `base`."""
    places: list[tuple[AnyFolder, Path]] = [
        (one, base / place if options.several else base)
        for one, place in zip(repositories, extract.places_of(repositories), strict=True)
    ]
    places += [(one, base / one.slug / extract.WORKSPACE) for one in homes]
    options.progress.expect({one.full_name: 1.0 for one, _ in places})
    chosen = extract.choose([one for one, _ in places], options.at)
    return [
        await _to_folder(options, folder, found, place)
        if isinstance(found, At)
        else lacking(folder, str(place), found)
        for (folder, place), found in zip(places, chosen, strict=True)
    ]


async def _to_folder(options: _FolderOptions, folder: AnyFolder, when: At, place: Path) -> Item:
    """Restore one repository, or a workspace's own content, to a folder."""
    if options.dry_run:
        return _planned(options, folder, when, place)
    stopped = threading.Event()
    loop = asyncio.get_running_loop()

    def report(subject: str, stage: str, *counts: int | None) -> None:
        if stopped.is_set() and stage != DONE:
            raise Cancelled("the restore was stopped")
        options.progress.report(subject, stage, *counts)

    def do(job: Job[T], report: Tell) -> T:
        def forward(text: str, *counts: int | None) -> None:
            with contextlib.suppress(Cancelled):  # the pool kills the job by itself
                report(text, *counts)

        return asyncio.run_coroutine_threadsafe(options.pool.run(job, progress=forward), loop).result()

    needed = _needed(folder, options.only, may_lack=options.several)
    if options.refs and not options.several:  # names of refs that are not there change nothing
        _wanted(options, folder, when.snapshot)
    wanted = extract.ExtractOptions(
        _FORM, options.only, do, report, options.overwrite, needed, _choice(options)
    )
    try:
        done = await asyncio.to_thread(extract.extract, folder, when, options.at, place, wanted)
    except asyncio.CancelledError:
        stopped.set()
        raise
    others = {mirror: count for mirror, count in done.refs.items() if mirror != extract.CODE}
    return item_of(
        folder, done.when, str(place), refs=done.refs.get(extract.CODE, 0), mirrors=others,
        documents=done.documents, logs_let_go=done.logs_let_go, lfs_objects=done.lfs_objects,
        lfs_absent=done.lfs_absent, is_there=done.is_there, problems=tuple(done.problems),
    )  # fmt: skip


def _planned(options: _FolderOptions, folder: AnyFolder, when: At, place: Path) -> Item:
    """The result of a dry run."""
    mirrors: dict[str, Refs] = {}
    documents, problems = 0, []
    try:
        mirrors = _wanted(options, folder, when.snapshot)
        if "metadata" in options.only:
            documents = len(folder.metadata.paths(when.snapshot))
    except MirrorError as error:
        problems.append((error.exit_code, error.message))
    counts = {mirror: len(refs.refs) for mirror, refs in mirrors.items()}
    return item_of(
        folder, when, str(place), refs=counts.pop("code", 0), mirrors=counts, documents=documents,
        problems=tuple(problems),
    )  # fmt: skip
