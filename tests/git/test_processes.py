"""Processes that resolve deltas die: Mirror publishes nothing, leaves nothing, and never waits for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.made import make
from mirror.git.bare import create
from mirror.git.failures import GitFailed
from mirror.git.mirrors.fetch import FetchJob, fetch
from mirror.git.pack.format import PackDamaged
from mirror.git.pack.limits import PackLimits
from mirror.git.pack.receiver import PackReceiver
from mirror.git.pack.resolver import _Indexing
from mirror.git.refs import closed_after, open_repository, read_refs
from mirror.git.workers.pool import WorkerPool
from tests.git.backend import GitBackend, git, need_git
from tests.git.crafted import files, receive

pytestmark = [pytest.mark.git, pytest.mark.usefixtures("started_workers")]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_git()
    path = tmp_path_factory.mktemp("root") / "up.git"
    make(path, 60)
    return path


@pytest.fixture(scope="module")
def data(repository: Path) -> bytes:
    [pack] = (repository / "objects" / "pack").glob("*.pack")
    return pack.read_bytes()


# Several processes share even a small pack, and begin while it arrives.
LIMITS = PackLimits(parallel_min_entries=1, ahead_min_entries=100, gather_bytes=1000)


def in_children(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Child processes run `act` with the entry whose deltas they are about to apply."""
    parent, real = os.getpid(), _Indexing.process

    def process_or_act(self: _Indexing, root: int) -> None:
        if os.getpid() != parent:
            act(root)
        real(self, root)

    monkeypatch.setattr(_Indexing, "process", process_or_act)


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(_: int) -> None:
    raise KeyError("what nobody thought of")


def no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


def damaged(_: int) -> None:
    raise PackDamaged("so it is")


def children() -> set[int]:
    """The children of this process, alive or dead."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == os.getpid():
            found.add(int(place.name))
    return found


@pytest.fixture(autouse=True)
def _servers_of_other_tests() -> Iterator[None]:
    """Remember the children that this process has before a test: servers that live as long as it."""
    _SERVERS.update(children())
    yield
    _SERVERS.clear()


_SERVERS: set[int] = set()


def has_no_child() -> bool:
    """This process has no child, alive or dead, but those servers."""
    return children() <= _SERVERS


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize(
    ("act", "text"),
    [(die, "died"), (fail, "died"), (no_space, "No space left"), (damaged, "damaged: so it is")],
)
def test_a_child_that_fails_fails_the_whole(
    data: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ahead: bool,
    act: Callable[[int], None],
    text: str,
) -> None:
    mirror = tmp_path / "m.git"
    create(mirror)
    before = files(mirror)
    in_children(monkeypatch, act)
    with pytest.raises(GitFailed, match=text):
        receive(mirror, data, [20_000] * 1000 if ahead else (), processes=3, limits=LIMITS)
    assert files(mirror) == before
    assert has_no_child()


def test_one_of_several_children_dies_late(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After others have done some of the work and written their results."""
    mirror = tmp_path / "m.git"
    create(mirror)
    before = files(mirror)

    def late(root: int) -> None:
        if root > 900:
            die(root)

    in_children(monkeypatch, late)
    with pytest.raises(GitFailed, match="died"):
        receive(mirror, data, processes=3, limits=LIMITS)
    assert files(mirror) == before
    assert has_no_child()


def test_a_transfer_that_breaks_ends_who_went_ahead(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "m.git"
    create(mirror)
    before = files(mirror)
    in_children(monkeypatch, lambda _: time.sleep(600))
    with closed_after(open_repository(mirror)), PackReceiver(mirror / "objects", LIMITS) as pack:
        pack.write(data[: len(data) // 2])
        assert not has_no_child()
    assert files(mirror) == before
    assert has_no_child()


def test_who_went_ahead_is_told_to_stop(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the child is, everything is resolved after the signal to stop."""
    in_children(monkeypatch, lambda _: time.sleep(0.01))
    receive(tmp_path / "m.git", data, [20_000] * 1000, processes=1, limits=LIMITS)
    monkeypatch.undo()
    receive(tmp_path / "other.git", data)
    assert files(tmp_path / "m.git") == files(tmp_path / "other.git")


@pytest.fixture
def backend(repository: Path) -> Iterator[GitBackend]:
    with GitBackend(repository.parent) as running:
        yield running


def workers_of_this_process() -> list[str]:
    """Our worker processes, and those that they forked."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"mirror.git.workers.main" in words and str(os.getpid()).encode() in words:
            found.append(place.name)
    return found


@pytest.mark.parametrize("moment", ["resolving deltas", "checking links"])
async def test_a_worker_killed_in_the_middle_leaves_the_mirror_as_it_was(
    repository: Path, backend: GitBackend, tmp_path: Path, moment: str
) -> None:
    mirror = tmp_path / "m.git"
    old = git("rev-parse", "main~30", cwd=repository).strip()
    create(mirror)
    git("fetch", "-q", str(repository), f"{old}:refs/heads/main", cwd=mirror)
    git("pack-refs", "--all", cwd=mirror)
    async with WorkerPool(1, environment=os.environ) as pool:
        job = FetchJob(str(mirror), f"{backend.url}/up.git")

        def kill(text: str, *_: int | None) -> None:
            if text.startswith(moment):
                next(iter(pool._all)).process.kill()

        with pytest.raises(GitFailed, match="worker died"):
            await pool.run(job, progress=kill)
        assert read_refs(mirror).refs == {b"refs/heads/main": old}
        git("fsck", "--full", "--strict", cwd=mirror)
        result = await pool.run(job)
        assert read_refs(mirror).refs == result.refs.refs != {b"refs/heads/main": old}
    git("fsck", "--full", "--strict", cwd=mirror)
    assert not list(mirror.glob("objects/**/tmp*"))
    deadline = time.monotonic() + 60
    while workers_of_this_process() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert workers_of_this_process() == []


PARENT = """
import os, signal, sys, time
from mirror.git.processes.fork import Child
child = Child(lambda: time.sleep(600))
print(child._process, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_dies_with_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    child, deadline = int(done.stdout), time.monotonic() + 60

    def state() -> str:
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "gone"

    while state() not in ("gone", "Z") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state() in ("gone", "Z")


def test_no_descriptor_is_left_open(repository: Path, backend: GitBackend, tmp_path: Path) -> None:
    """After fetches of every kind: nothing new, something new, broken off."""

    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def once(number: int) -> None:
        mirror = tmp_path / f"{number % 5}.git"
        backend.cut = 5000 if number % 3 == 0 else None
        try:
            fetch(FetchJob(str(mirror), f"{backend.url}/up.git"), limits=LIMITS)
        except Exception as error:
            assert number % 3 == 0, error

    for number in range(4):
        once(number)
    before, threads = count(), threading.active_count()
    for number in range(50):
        once(number)
        if number % 10 == 5:
            for file in sorted((tmp_path / f"{number % 5}.git").rglob("*.pack")):
                file.unlink()
                file.with_suffix(".idx").unlink()
            (tmp_path / f"{number % 5}.git" / "packed-refs").unlink(missing_ok=True)
    assert count() <= before + (threading.active_count() - threads) + 1
    assert has_no_child()
