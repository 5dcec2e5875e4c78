"""Git LFS objects of a mirror: downloads those that its refs reach, and uploads them for a restore.

Objects are stored where git-lfs looks for them, so that a mirror can be served as it is. `.lfsconfig` and
`.gitattributes` are ignored: the server is always that of the repository's own URL, and every blob that
looks like a pointer is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mirror.fs.durable import make_folders, sweep
from mirror.git.lfs.batch_api import BATCH_MAX, LfsFailed, LfsServer, ObjectResponse, Operation
from mirror.git.lfs.reachable import LFS, reachable_objects
from mirror.git.lfs.transfer import DiskFailed, Download, object_path, upload
from mirror.git.pack.limits import PackLimits
from mirror.git.wire.client import GitLogin
from mirror.git.workers.clock import Watch
from mirror.git.workers.job import Clock, OnProgress, no_progress
from mirror.http import network

_NOT_REQUESTED = "not requested, because of an earlier failure"

Wanted = tuple[str, int]


@dataclass(frozen=True)
class LfsJob:
    """Download every LFS object that the mirror at `mirror` lacks and any of its refs reaches, those below
    `refs/mirror/` included, from the LFS server of the repository at `url`, which ends in `.git`.

    `silence_timeout`: seconds without a byte. `width`: the number of parallel transfers. `pause`: the first
    delay before a retry, in seconds.
    """

    mirror: str
    url: str
    login: GitLogin | None = None
    silence_timeout: float = 300.0
    width: int = 4
    pause: float = field(default_factory=lambda: network.PAUSE)

    def do(self, progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> LfsResult:
        """See `download_missing`."""
        return download_missing(self, progress=progress)


@dataclass(frozen=True)
class LfsResult:
    """`objects`: the size in bytes of each reachable object, and whether the mirror has it. `missing`: the
    reason for each that it lacks. `retryable`: all of these may succeed later. `denied`: the server denies
    this credential access to LFS."""

    objects: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    retryable: bool = False
    denied: bool = False
    received: int = 0
    received_bytes: int = 0


@dataclass(frozen=True)
class LfsPushJob:
    """Upload every LFS object that the hashes `tips` reach in the mirror at `mirror` to the LFS server of the
    repository at `url`. With `dry_run` nothing is uploaded."""

    mirror: str
    url: str
    login: GitLogin | None
    tips: tuple[str, ...]
    dry_run: bool = False
    silence_timeout: float = 300.0
    width: int = 4
    pause: float = field(default_factory=lambda: network.PAUSE)

    def do(self, progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> LfsPushResult:
        """See `upload_missing`."""
        return upload_missing(self, progress=progress)


@dataclass(frozen=True)
class LfsPushResult:
    """How many objects `tips` reach, how many of them were uploaded, and how many the server had already.
    `absent`: objects that the mirror lacks. `failed`: objects that the server did not accept, each with the
    reason. `refused`: why it accepted none. `damaged`: objects that do not match their name."""

    objects: int = 0
    uploaded: int = 0
    already_present: int = 0
    absent: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class LfsFindJob:
    """Find the LFS objects that the hashes `tips` reach in the repository at `path`. Nothing is written."""

    path: str
    tips: tuple[str, ...]

    def do(self, progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> LfsFindResult:
        """See `find_objects`."""
        return find_objects(self, progress=progress)


@dataclass(frozen=True)
class LfsFindResult:
    """The objects, each with its size in bytes."""

    objects: Mapping[str, int]


def find_objects(job: LfsFindJob, *, progress: OnProgress = no_progress) -> LfsFindResult:
    """Do `job`. Raises GitFailed where the repository is damaged."""
    reached = reachable_objects(Path(job.path), job.tips, progress=progress)
    return LfsFindResult({oid: sizes[-1] for oid, sizes in reached.items()})


def _server_of(job: LfsJob | LfsPushJob, watch: Watch | None) -> LfsServer:
    return LfsServer(
        job.url,
        job.login,
        silence_timeout=job.silence_timeout,
        connections=job.width,
        pause=job.pause,
        watch=watch or Watch(),
    )


def is_present(lfs: Path, oid: str, size: int) -> bool:
    """Whether the folder `lfs` has a file with the name and size of an object."""
    try:
        return object_path(lfs, oid).stat().st_size == size
    except (FileNotFoundError, NotADirectoryError):
        return False


def download_missing(
    job: LfsJob, *, progress: OnProgress = no_progress, watch: Watch | None = None
) -> LfsResult:
    """Do `job`. Killed at any point, the next one resumes where this one stopped.

    Raises GitFailed where the mirror is damaged, and OSError. Failures of the server go into the result.
    """
    path = Path(job.mirror)
    reached = reachable_objects(path, save_cache=True, progress=progress)
    lfs = path / LFS
    sizes = {oid: several[-1] for oid, several in reached.items()}
    wanted: list[Wanted] = []
    for oid, several in reached.items():
        present = [size for size in several if is_present(lfs, oid, size)]
        sizes[oid] = present[0] if present else sizes[oid]
        if not present:
            # Pointers disagree about the size: try each.
            wanted += [(oid, size) for size in several]
    _sweep(lfs, {oid for oid, _ in wanted})
    done = _Done()
    if wanted:
        server = _server_of(job, watch)
        try:
            _Downloads(server, lfs, job.width, done, progress).run(wanted)
        finally:
            server.close()
    sizes.update(done.sizes)
    missing = {oid: done.failures.get(oid, _NOT_REQUESTED) for oid, _ in wanted if oid not in done.sizes}
    return LfsResult(
        {oid: (size, oid not in missing) for oid, size in sizes.items()},
        missing,
        retryable=bool(missing) and not done.permanent,
        denied=done.denied,
        received=len(done.sizes),
        received_bytes=done.bytes,
    )


@dataclass
class _Done:
    """The downloads so far. `sizes`: of the objects that were downloaded."""

    sizes: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    # Whether a failure is not retryable.
    permanent: bool = False
    denied: bool = False
    bytes: int = 0


class _Downloads:
    """Runs downloads, several at a time."""

    def __init__(self, server: LfsServer, lfs: Path, width: int, done: _Done, progress: OnProgress) -> None:
        self._server = server
        self._lfs = lfs
        self._width = width
        self._done = done
        self._progress = progress
        self._total = 0

    def run(self, wanted: Sequence[Wanted]) -> None:
        """Download `wanted`, as far as the server gives it."""
        make_folders(self._lfs / "objects", self._lfs.parent)
        self._total = len({oid for oid, _ in wanted})
        running: dict[Future[None], Download] = {}
        with ThreadPoolExecutor(self._width) as pool:
            try:
                stop = self._start_all(wanted, pool, running)
                stop = self._settle(running, 0) or stop
            except LfsFailed as failure:
                stop = self._settle(running, 0) or failure.text
                self._done.denied = failure.status in (401, 403)
                self._done.permanent |= not failure.retryable
        if stop is not None:
            for oid, _ in wanted:
                if oid not in self._done.sizes:
                    self._done.failures.setdefault(oid, stop)

    def _start_all(
        self, wanted: Sequence[Wanted], pool: ThreadPoolExecutor, running: dict[Future[None], Download]
    ) -> str | None:
        """Start one download after the other; returns why to stop, or None."""
        stop = None
        for oid, size, response in self._responses(wanted):
            if any(one.oid == oid for one in running.values()):
                stop = self._settle(running, 0)  # the same object with another size: wait for that download
            if stop is None and oid not in self._done.sizes:
                download = Download(self._server, self._lfs, oid, size, on_bytes=self._received)
                running[pool.submit(download.run, response)] = download
                # Actions expire, so only those that are soon used are requested.
                stop = self._settle(running, 2 * self._width)
            if stop is not None:
                break
        return stop

    def _received(self, size: int) -> None:
        self._progress.received(0, size)

    def _responses(self, wanted: Sequence[Wanted]) -> Iterator[tuple[str, int, ObjectResponse]]:
        for batch in batches(wanted):
            responses = ask(self._server, "download", batch)
            for oid, size in batch:
                silent = ObjectResponse(fault=LfsFailed("the server does not mention it"))
                yield oid, size, responses.get(oid, silent)

    def _settle(self, running: dict[Future[None], Download], most: int) -> str | None:
        """Wait until at most `most` downloads are running; returns why to stop, or None."""
        stop = None
        while len(running) > most:
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                download = running.pop(future)
                self._done.bytes += download.received
                try:
                    future.result()
                    self._done.sizes[download.oid] = download.size
                    self._progress("downloading LFS objects", len(self._done.sizes), self._total)
                except LfsFailed as failure:
                    self._done.failures[download.oid] = failure.text
                    self._done.permanent |= not failure.retryable
                except DiskFailed as failure:
                    stop = str(failure)
                    self._done.permanent = True
        return stop


def ask(server: LfsServer, operation: Operation, objects: Sequence[Wanted]) -> dict[str, ObjectResponse]:
    """As LfsServer.batch. A batch that the server finds too large is halved."""
    try:
        return server.batch(operation, objects)
    except LfsFailed as failure:
        if failure.status not in (413, 422) or len(objects) == 1:
            if failure.status == 422:  # the server rejects this object
                return {oid: ObjectResponse(fault=failure) for oid, _ in objects}
            raise
    half = len(objects) // 2
    return {**ask(server, operation, objects[:half]), **ask(server, operation, objects[half:])}


def batches(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Batches of at most BATCH_MAX objects, in none of which an object occurs twice."""
    todo = list(wanted)
    while todo:
        first: dict[str, int] = {}
        again = []
        for oid, size in todo:
            if oid in first:
                again.append((oid, size))
            else:
                first[oid] = size
        once = list(first.items())
        for start in range(0, len(once), BATCH_MAX):
            yield once[start : start + BATCH_MAX]
        todo = again


def _sweep(lfs: Path, wanted: set[str]) -> None:
    """Remove temporary files, and partial downloads of objects that are no longer wanted."""
    if lfs.is_dir():
        sweep(lfs)
    for part in (lfs / "incomplete").glob("*.part"):
        if part.stem not in wanted:
            part.unlink(missing_ok=True)


def upload_missing(
    job: LfsPushJob, *, progress: OnProgress = no_progress, watch: Watch | None = None
) -> LfsPushResult:
    """Do `job`. Raises GitFailed where the mirror is damaged, and OSError. The result has other failures."""
    path = Path(job.mirror)
    reached = reachable_objects(path, job.tips, progress=progress)
    present: list[Wanted] = []
    absent: list[str] = []
    for oid, sizes in reached.items():
        size = next((one for one in sizes if is_present(path / LFS, oid, one)), None)
        if size is None:
            absent.append(oid)
        else:
            present.append((oid, size))
    if job.dry_run or not present:
        return LfsPushResult(len(reached), absent=tuple(absent))
    server = _server_of(job, watch)
    try:
        return _upload_all(job, server, present, tuple(absent), progress)
    finally:
        server.close()


def _upload_all(
    job: LfsPushJob,
    server: LfsServer,
    present: Sequence[Wanted],
    absent: tuple[str, ...],
    progress: OnProgress,
) -> LfsPushResult:
    lfs = Path(job.mirror) / LFS
    done: dict[str, bool] = {}  # by object, whether it was uploaded
    failed: dict[str, str] = {}
    damaged: list[str] = []
    refused: str | None = None

    def one(oid: str, size: int, response: ObjectResponse) -> bool:
        return upload(server, oid, size, response, lambda: _open_checked(object_path(lfs, oid), oid))

    with ThreadPoolExecutor(job.width) as pool:
        for batch in batches(present):
            try:
                responses = ask(server, "upload", batch)
            except LfsFailed as failure:
                refused = failure.text
                break
            silent = ObjectResponse(fault=LfsFailed("the server does not mention it"))
            futures = {oid: pool.submit(one, oid, size, responses.get(oid, silent)) for oid, size in batch}
            for oid, future in futures.items():
                try:
                    done[oid] = future.result()
                    progress("uploading LFS objects", len(done), len(present))
                except _Damaged:
                    damaged.append(oid)
                except LfsFailed as failure:
                    failed[oid] = failure.text
    if refused is not None:
        failed |= {oid: refused for oid, _ in present if oid not in {*done, *failed, *damaged}}
    uploaded = sum(done.values())
    return LfsPushResult(
        len(present) + len(absent), uploaded, len(done) - uploaded, absent, failed, refused, tuple(damaged)
    )


def _open_checked(path: Path, oid: str) -> BinaryIO:
    """Hash the object at `path` and open it. Raises _Damaged where its hash is not `oid`."""
    stream = path.open("rb")
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    if digest.hexdigest() != oid:
        stream.close()
        raise _Damaged("it is damaged in the store")
    stream.seek(0)
    return stream


class _Damaged(LfsFailed):
    """An object in the mirror does not match its name, and is not uploaded."""
