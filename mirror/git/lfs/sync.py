"""Git LFS of a mirror: which objects its refs reach, and having every one of them.

Objects stand where git-lfs itself looks for them, so that a mirror serves them as it is. What a
repository says of itself (`.lfsconfig`, `.gitattributes`) is not heeded: the server is always that of
the repository's own address, and a pointer is what looks like one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mirror.fs.durable import make_folders, sweep
from mirror.git.lfs.batch_api import BATCH_MAX, Answer, LfsFailed, LfsServer, Operation
from mirror.git.lfs.reachable import LFS, reachable_objects
from mirror.git.lfs.transfer import DiskFailed, Download, object_path, upload
from mirror.git.pack.limits import PackLimits
from mirror.git.wire.client import GitLogin
from mirror.git.workers.clock import Watch
from mirror.git.workers.job import Clock, OnProgress, no_progress

_NOT_ASKED = "not asked for, because of what went wrong before"

Wanted = tuple[str, int]


@dataclass(frozen=True)
class LfsJob:
    """Find every LFS object that the refs of the mirror at `mirror` reach, ours included, and have it
    from the LFS server of the repository at `url`, which ends in `.git`.

    `silence_timeout` is in seconds without a byte, `width` how many objects come at a time, `pause` the
    first wait before something is tried again.
    """

    mirror: str
    url: str
    login: GitLogin | None = None
    silence_timeout: float = 300.0
    width: int = 4
    pause: float = 1.0

    def do(self, progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> LfsResult:
        """See `download_missing`."""
        return download_missing(self, progress=progress)


@dataclass(frozen=True)
class LfsResult:
    """`objects`: the size of each object that is reached, and whether it is held. `missing`: why each that
    is not held is not. `retryable`: all of that may go better later. `denied`: the server lets this
    credential at none of them."""

    objects: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    retryable: bool = False
    denied: bool = False
    received: int = 0
    received_bytes: int = 0


@dataclass(frozen=True)
class LfsPushJob:
    """Bring every LFS object that the hashes `tips` reach in the mirror at `mirror` to the LFS server of
    the repository at `url`. With `dry_run` nothing is uploaded."""

    mirror: str
    url: str
    login: GitLogin | None
    tips: tuple[str, ...]
    dry_run: bool = False
    silence_timeout: float = 300.0
    width: int = 4
    pause: float = 1.0

    def do(self, progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> LfsPushResult:
        """See `upload_missing`."""
        return upload_missing(self, progress=progress)


@dataclass(frozen=True)
class LfsPushResult:
    """How many objects are reached; how many were uploaded, and were there already. `absent` are those
    that the mirror has not itself, `failed` those that the server did not take, each with the reason;
    `refused` why it took none at all; `damaged` those that are not what their name says."""

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
        """See `find`."""
        return find(self, progress=progress)


@dataclass(frozen=True)
class LfsFindResult:
    """The objects, each with its size."""

    objects: Mapping[str, int]


def find(job: LfsFindJob, *, progress: OnProgress = no_progress) -> LfsFindResult:
    """Do `job`. Raises GitFailed where the repository is damaged."""
    reached = reachable_objects(Path(job.path), job.tips, progress=progress)
    return LfsFindResult({oid: sizes[-1] for oid, sizes in reached.items()})


def is_present(lfs: Path, oid: str, size: int) -> bool:
    """Whether the folder `lfs` has an object, by its name and size."""
    try:
        return object_path(lfs, oid).stat().st_size == size
    except (FileNotFoundError, NotADirectoryError):
        return False


def download_missing(
    job: LfsJob, *, progress: OnProgress = no_progress, watch: Watch | None = None
) -> LfsResult:
    """Do `job`. Killed at any point, what has come is not asked for again by the next.

    Raises GitFailed where the mirror is damaged, and OSError. What the server does ends in the result.
    """
    path = Path(job.mirror)
    reached = reachable_objects(path, use_cache=True, progress=progress)
    lfs = path / LFS
    sizes = {oid: several[-1] for oid, several in reached.items()}
    wanted: list[Wanted] = []
    for oid, several in reached.items():
        held = [size for size in several if is_present(lfs, oid, size)]
        sizes[oid] = held[0] if held else sizes[oid]
        if not held:
            # Where pointers disagree about the size, one of them is right.
            wanted += [(oid, size) for size in several]
    _sweep(lfs, {oid for oid, _ in wanted})
    done = _Done()
    if wanted:
        server = LfsServer(
            job.url,
            job.login,
            silence_timeout=job.silence_timeout,
            connections=job.width,
            pause=job.pause,
            watch=watch or Watch(),
        )
        try:
            _Downloads(server, lfs, job.width, done, progress).run(wanted)
        finally:
            server.close()
    sizes.update(done.sizes)
    missing = {oid: done.failures.get(oid, _NOT_ASKED) for oid, _ in wanted if oid not in done.sizes}
    return LfsResult(
        {oid: (size, oid not in missing) for oid, size in sizes.items()},
        missing,
        retryable=bool(missing) and not done.lasting,
        denied=done.denied,
        received=len(done.sizes),
        received_bytes=done.bytes,
    )


@dataclass
class _Done:
    """What came of the downloads so far. `sizes` are of those that are held now."""

    sizes: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    # Whether something failed that will not go better later.
    lasting: bool = False
    denied: bool = False
    bytes: int = 0


class _Downloads:
    """Downloads, several at a time."""

    def __init__(self, server: LfsServer, lfs: Path, width: int, done: _Done, progress: OnProgress) -> None:
        self._server = server
        self._lfs = lfs
        self._width = width
        self._done = done
        self._progress = progress

    def run(self, wanted: Sequence[Wanted]) -> None:
        """Have all of `wanted`, as far as the server gives it."""
        make_folders(self._lfs / "objects", self._lfs.parent)
        running: dict[Future[None], Download] = {}
        with ThreadPoolExecutor(self._width) as pool:
            try:
                stop = self._start_all(wanted, pool, running)
                stop = self._settle(running, 0) or stop
            except LfsFailed as failure:
                stop = self._settle(running, 0) or failure.text
                self._done.denied = failure.status in (401, 403)
                self._done.lasting |= not failure.retryable
        if stop is not None:
            for oid, _ in wanted:
                if oid not in self._done.sizes:
                    self._done.failures.setdefault(oid, stop)

    def _start_all(
        self, wanted: Sequence[Wanted], pool: ThreadPoolExecutor, running: dict[Future[None], Download]
    ) -> str | None:
        """Begin one download after the other; returns why to stop, where there is reason to."""
        stop = None
        for oid, size, answer in self._answers(wanted):
            if any(one.oid == oid for one in running.values()):
                stop = self._settle(running, 0)  # of another size: first see what comes of that one
            if stop is None and oid not in self._done.sizes:
                download = Download(self._server, self._lfs, oid, size)
                running[pool.submit(download.run, answer)] = download
                # Actions lapse, so no more of them are asked for than are soon used.
                stop = self._settle(running, 2 * self._width)
            if stop is not None:
                break
        return stop

    def _answers(self, wanted: Sequence[Wanted]) -> Iterator[tuple[str, int, Answer]]:
        for batch in batches(wanted):
            answers = ask(self._server, "download", batch)
            for oid, size in batch:
                silent = Answer(fault=LfsFailed("the server is silent about it"))
                yield oid, size, answers.get(oid, silent)

    def _settle(self, running: dict[Future[None], Download], most: int) -> str | None:
        """Wait until no more than `most` are under way; returns why to stop, where there is reason to."""
        stop = None
        while len(running) > most:
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                download = running.pop(future)
                self._done.bytes += download.received
                try:
                    future.result()
                    self._done.sizes[download.oid] = download.size
                    self._progress(f"{len(self._done.sizes)} LFS objects")
                except LfsFailed as failure:
                    self._done.failures[download.oid] = failure.text
                    self._done.lasting |= not failure.retryable
                except DiskFailed as failure:
                    stop = str(failure)
                    self._done.lasting = True
        return stop


def ask(server: LfsServer, operation: Operation, objects: Sequence[Wanted]) -> dict[str, Answer]:
    """As LfsServer.batch; what the server finds too much is asked about in halves."""
    try:
        return server.batch(operation, objects)
    except LfsFailed as failure:
        if failure.status not in (413, 422) or len(objects) == 1:
            if failure.status == 422:  # it is this object that it does not like
                return {oid: Answer(fault=failure) for oid, _ in objects}
            raise
    half = len(objects) // 2
    return {**ask(server, operation, objects[:half]), **ask(server, operation, objects[half:])}


def batches(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Batches that a server takes, in none of which an object stands twice."""
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
    """Remove what killed runs left, and of objects that nobody wants any more."""
    if lfs.is_dir():
        sweep(lfs)
    for part in (lfs / "incomplete").glob("*.part"):
        if part.stem not in wanted:
            part.unlink(missing_ok=True)


def upload_missing(
    job: LfsPushJob, *, progress: OnProgress = no_progress, watch: Watch | None = None
) -> LfsPushResult:
    """Do `job`. Raises GitFailed where the mirror is damaged, and OSError; the rest ends in the result."""
    path = Path(job.mirror)
    reached = reachable_objects(path, job.tips, progress=progress)
    held: list[Wanted] = []
    absent: list[str] = []
    for oid, sizes in reached.items():
        size = next((one for one in sizes if is_present(path / LFS, oid, one)), None)
        if size is None:
            absent.append(oid)
        else:
            held.append((oid, size))
    if job.dry_run or not held:
        return LfsPushResult(len(reached), absent=tuple(absent))
    server = LfsServer(
        job.url,
        job.login,
        silence_timeout=job.silence_timeout,
        connections=job.width,
        pause=job.pause,
        watch=watch or Watch(),
    )
    try:
        return _upload_all(job, server, held, tuple(absent), progress)
    finally:
        server.close()


def _upload_all(
    job: LfsPushJob,
    server: LfsServer,
    held: Sequence[Wanted],
    absent: tuple[str, ...],
    progress: OnProgress,
) -> LfsPushResult:
    lfs = Path(job.mirror) / LFS
    there: dict[str, bool] = {}  # by object, whether the server had it before
    failed: dict[str, str] = {}
    damaged: list[str] = []
    refused: str | None = None

    def one(oid: str, size: int, answer: Answer) -> bool:
        return not upload(server, oid, size, answer, lambda: _open_sound(object_path(lfs, oid), oid))

    with ThreadPoolExecutor(job.width) as pool:
        for batch in batches(held):
            try:
                answers = ask(server, "upload", batch)
            except LfsFailed as failure:
                refused = failure.text
                break
            silent = Answer(fault=LfsFailed("the server is silent about it"))
            futures = {oid: pool.submit(one, oid, size, answers.get(oid, silent)) for oid, size in batch}
            for oid, future in futures.items():
                try:
                    there[oid] = future.result()
                    progress(f"{len(there)} of {len(held)} LFS objects")
                except _Damaged:
                    damaged.append(oid)
                except LfsFailed as failure:
                    failed[oid] = failure.text
    if refused is not None:
        failed |= {oid: refused for oid, _ in held if oid not in {*there, *failed, *damaged}}
    had = sum(there.values())
    return LfsPushResult(
        len(held) + len(absent), len(there) - had, had, absent, failed, refused, tuple(damaged)
    )


def _open_sound(path: Path, oid: str) -> BinaryIO:
    """The object at `path`, opened, once all of it was hashed. Raises _Damaged where it is another."""
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
    """An object that the mirror has is not what its name says: no server gets it."""
