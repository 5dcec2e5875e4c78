"""Restoring from a store. See `run`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from mirror import extract
from mirror.errors import Cancelled, MirrorError, UsageError, worst
from mirror.git.wire.client import GitLogin
from mirror.git.wire.push import PushJob, PushResult
from mirror.git.workers.job import Job
from mirror.git.workers.pool import WorkerPool
from mirror.http.network import Network
from mirror.model import (
    JsonObject,
    NoProgress,
    Progress,
    Refs,
    Selector,
    Snapshot,
    time_text,
)
from mirror.restore import lfs, server
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, RepositoryFolder, Store, StoreDamaged

T = TypeVar("T")
PARTS = frozenset({"code", "metadata", "wiki", "snippets"})
CODE = "code.git"
_OF_REPOSITORY = frozenset({"code", "metadata", "wiki"})
_OF_WORKSPACE = frozenset({"metadata", "snippets"})
_FORM = extract.Form(extract.RESTORING)


@dataclass(frozen=True)
class Item:
    """The result for one repository, or what a dry run would restore."""

    repository: str
    snapshot: str
    taken: str
    last_confirmed: str | None
    next_different: str | None
    target: str
    refs: int = 0
    # The other mirrors (`wiki`, `snippets/…`), each with how many refs.
    mirrors: Mapping[str, int] = field(default_factory=dict)
    documents: int = 0
    # Step logs of the snapshot that retention has removed since.
    logs_let_go: int = 0
    # LFS objects that were restored, and those that the store never had.
    lfs_objects: int = 0
    lfs_absent: int = 0
    # Whether the target has content of it.
    is_there: bool = False
    # Incomplete parts of the snapshot, each with the reason.
    not_whole: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[tuple[int, str], ...] = ()
    # What the user must do at the target.
    advice: tuple[str, ...] = ()
    push: JsonObject | None = None

    def to_json(self) -> JsonObject:
        """The JSON in results."""
        data: dict[str, Any] = dict(self.__dict__)
        data["not_whole"], data["mirrors"] = dict(self.not_whole), dict(self.mirrors)
        data["advice"] = list(self.advice)
        data["problems"] = [{"code": code, "text": text} for code, text in self.problems]
        return data


@dataclass(frozen=True)
class Report:
    """The result of a restore."""

    items: tuple[Item, ...]
    dry_run: bool

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies."""
        return tuple(sorted({code for item in self.items for code, _ in item.problems}))

    @property
    def exit_code(self) -> int:
        """The exit code of the restore."""
        return worst(self.exit_codes)

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "dry_run": self.dry_run,
            "exit_code": self.exit_code,
            "exit_codes": list(self.exit_codes),
            "items": [item.to_json() for item in self.items],
        }


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
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
    network: Network | None = None,
) -> Report:
    """Restore the folders that `selector` matches from the store at `path`, at the snapshot `at`.

    `target` is a folder or the URL of a git repository. In a folder, one repository gives `code.git`,
    `wiki.git` and `metadata`; several give the same in `workspace/repository` each, and a whole workspace its
    own content in `workspace/~workspace`. To a URL the refs of the code (or, with `only` that, of the wiki)
    are pushed: all, or those that one of the globs `refs` matches. Raises UsageError, NoStore and
    StoreDamaged before any change; the problems of one of several are in its item.
    """
    progress = progress or NoProgress()
    with Store.open(path) as store:
        folders, homes, damages = extract.readable(store, selector, homes=bool(only & _OF_WORKSPACE))
        repositories = folders if only & _OF_REPOSITORY else []
        async with WorkerPool(2, environment=environment, network=network) as pool:
            if is_url(target):
                repository, when = _only_one(selector, repositories, at)
                mirror = "wiki" if only == {"wiki"} else "code"
                pushing = _PushOptions(mirror, target, tuple(refs), login, overwrite, dry_run, pool, progress)
                return Report((await _push(pushing, repository, when),), dry_run)
            if refs:
                raise UsageError(
                    "--refs selects what is pushed to a git server, and the target is a folder",
                    hint="a restore to a folder has every ref; omit --refs",
                )
            base = Path(target).absolute()
            _check_folder(base, overwrite=overwrite)
            options = _FolderOptions(
                at, only, overwrite, dry_run, pool, progress, may_lack=not selector.is_exact
            )
            places: list[tuple[AnyFolder, Path]] = [
                (one, base if selector.is_exact else base / place)
                for one, place in zip(repositories, extract.places_of(repositories), strict=True)
            ]
            places += [(one, base / one.slug / extract.WORKSPACE) for one in homes]
            items = [_unreadable(one) for one in damages]
            chosen = extract.choose([one for one, _ in places], at)
            for (folder, place), found in zip(places, chosen, strict=True):
                items.append(
                    await _to_folder(options, folder, found, place)
                    if isinstance(found, At)
                    else _lacking(folder, place, found)
                )
            return Report(tuple(items), dry_run)


def _only_one(
    selector: Selector, repositories: Sequence[RepositoryFolder], at: str
) -> tuple[RepositoryFolder, At]:
    """The one repository to push, and its snapshot. Raises UsageError and StoreDamaged."""
    if len(repositories) != 1:
        raise UsageError(
            f"{selector} matches {len(repositories)} repositories, and a URL can take one",
            hint="name one repository, or restore to a folder",
        )
    [when] = extract.choose(repositories, at)
    assert isinstance(when, At)
    return repositories[0], when


@dataclass(frozen=True)
class _PushOptions:
    """The options of a restore to a git server."""

    mirror: str
    url: str
    refs: tuple[str, ...]
    login: GitLogin | None
    overwrite: bool
    dry_run: bool
    pool: WorkerPool
    progress: Progress


@dataclass(frozen=True)
class _FolderOptions:
    """The options of a restore to a folder; `may_lack`: some of several repositories may have no wiki."""

    at: str
    only: frozenset[str]
    overwrite: bool
    dry_run: bool
    pool: WorkerPool
    progress: Progress
    may_lack: bool


def is_url(target: str) -> bool:
    """Whether a target is a git URL. Raises UsageError for URLs that are not supported."""
    if target.startswith("bitbucket:"):
        raise UsageError(
            "restoring into Bitbucket is not built in this version",
            hint="restore to a folder, or push to the URL of an empty repository",
        )
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
    if ":" in target.partition("/")[0] and not Path(target).exists():
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


def _item(folder: AnyFolder, when: At, target: str, **more: Any) -> Item:
    snapshot = when.snapshot
    return Item(
        repository=folder.full_name,
        snapshot=snapshot.id,
        taken=time_text(when.taken),
        last_confirmed=time_text(when.last_confirmed) if when.last_confirmed else None,
        next_different=time_text(when.next_different) if when.next_different else None,
        target=target,
        not_whole={
            name: f"{part.state}: {part.reason or 'no reason given'}"
            for name, part in snapshot.parts.items()
            if not part.is_settled
        },
        **more,
    )


def _wanted(
    folder: AnyFolder, snapshot: Snapshot, only: frozenset[str], *, may_lack: bool
) -> dict[str, Refs]:
    """The refs of each wanted mirror of a snapshot, by the mirror's name."""
    known = folder.metadata.mirrors(snapshot)
    for lacking in sorted(_needed(folder, only, may_lack=may_lack) - known.keys()):
        raise MirrorError(
            f"{folder.full_name}: the snapshot {snapshot.id} has no {lacking}, which could not be read then",
            hint="choose another snapshot with --at; mirror snapshots lists them",
        )
    return {mirror: one.refs for mirror, one in known.items() if mirror.partition("/")[0] in only}


def _needed(folder: AnyFolder, only: frozenset[str], *, may_lack: bool) -> frozenset[str]:
    """The mirrors that a snapshot must have."""
    if not isinstance(folder, RepositoryFolder):
        return frozenset()
    return frozenset({"wiki"}) if only == {"wiki"} and not may_lack else only & {"code"}


def _lacking(folder: AnyFolder, place: Path, error: MirrorError) -> Item:
    """The result for one of several without a snapshot."""
    return Item(folder.full_name, "", "", None, None, str(place), problems=(extract.problem_of(error),))


def _unreadable(damage: StoreDamaged) -> Item:
    """The result for a folder that cannot be identified."""
    name, problems = extract.unreadable(damage)
    return Item(name, "", "", None, None, "", problems=problems)


async def _to_folder(options: _FolderOptions, folder: AnyFolder, when: At, place: Path) -> Item:
    """Restore one repository, or a workspace's own content, to a folder."""
    if options.dry_run:
        return _planned(options, folder, when, place)
    stopped = threading.Event()
    loop = asyncio.get_running_loop()

    def report(subject: str, stage: str) -> None:
        if stopped.is_set() and stage != "done":
            raise Cancelled("the restore was stopped")
        options.progress.report(subject, stage)

    def do(job: Job[T], report: Callable[[str], None]) -> T:
        def forward(text: str) -> None:
            with contextlib.suppress(Cancelled):  # the pool kills the job by itself
                report(text)

        return asyncio.run_coroutine_threadsafe(options.pool.run(job, progress=forward), loop).result()

    needed = _needed(folder, options.only, may_lack=options.may_lack)
    wanted = extract.ExtractOptions(_FORM, options.only, do, report, options.overwrite, needed)
    try:
        done = await asyncio.to_thread(extract.extract, folder, when, options.at, place, wanted)
    except asyncio.CancelledError:
        stopped.set()
        raise
    others = {mirror: count for mirror, count in done.refs.items() if mirror != extract.CODE}
    return _item(
        folder, done.when, str(place), refs=done.refs.get(extract.CODE, 0), mirrors=others,
        documents=done.documents, logs_let_go=done.logs_let_go, lfs_objects=done.lfs_objects,
        lfs_absent=done.lfs_absent, is_there=done.is_there, problems=tuple(done.problems),
    )  # fmt: skip


def _planned(options: _FolderOptions, folder: AnyFolder, when: At, place: Path) -> Item:
    """The result of a dry run."""
    mirrors: dict[str, Refs] = {}
    documents, problems = 0, []
    try:
        mirrors = _wanted(folder, when.snapshot, options.only, may_lack=options.may_lack)
        if "metadata" in options.only:
            documents = len(folder.metadata.paths(when.snapshot))
    except MirrorError as error:
        problems.append((error.exit_code, error.message))
    counts = {mirror: len(refs.refs) for mirror, refs in mirrors.items()}
    return _item(
        folder, when, str(place), refs=counts.pop("code", 0), mirrors=counts, documents=documents,
        problems=tuple(problems),
    )  # fmt: skip


async def _push(options: _PushOptions, folder: RepositoryFolder, when: At) -> Item:
    """Push one repository's code or wiki to a git server; the result names each ref."""
    name, mirror = folder.full_name, options.mirror
    known = _wanted(folder, when.snapshot, frozenset({mirror}), may_lack=False)[mirror]
    refs = {ref: value for ref, value in known.refs.items() if not ref.startswith(b"refs/mirror/")}
    wanted = server.choose_refs(refs, options.refs)
    default = known.head.value if known.head is not None and known.head.kind == "symref" else None
    job = PushJob(
        str(folder.mirror(mirror)), options.url, options.login, wanted, options.overwrite, options.dry_run,
        default=default if default in wanted else None,
    )  # fmt: skip
    problems: list[tuple[int, str]] = []
    result: PushResult | None = None
    objects = lfs.Objects()
    try:
        if mirror == "code":
            objects = await server.send_objects(folder, when.snapshot, job, options.pool, options.progress)
            problems += objects.problems
        result = await options.pool.run(
            job, progress=lambda text: options.progress.report(name, f"push: {text}")
        )
        problems += server.problems_of(result, overwrite=options.overwrite)
    except MirrorError as error:
        problems.append((error.exit_code, error.message))
    finally:
        options.progress.report(name, "done")
    return _item(
        folder,
        when,
        options.url,
        refs=len(wanted),
        lfs_objects=objects.restored,
        lfs_absent=objects.absent,
        is_there=result is not None and bool(result.pushed or result.unchanged),
        problems=tuple(problems),
        advice=server.advice_of(result) if result is not None else (),
        push=server.to_json(result) if result is not None else None,
    )
