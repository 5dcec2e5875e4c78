"""Work in child processes that are forked from this one and die with it.

Call these where no other thread runs: a lock that another thread holds is never released in a forked process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
from array import array
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from mirror.git.failures import GitFailed
from mirror.git.processes.parent_death import die_with_parent

_T = TypeVar("_T")
_CHUNKS = 64


class Child(Generic[_T]):
    """A child process that runs `work` and answers with its result, which must survive pickling."""

    def __init__(self, work: Callable[[], _T]) -> None:
        parent = os.getpid()
        self._answer, theirs = os.pipe()
        gc.freeze()  # garbage collection would copy the shared pages
        try:
            self._process = os.fork()
            if self._process == 0:
                _run(parent, theirs, work)
        finally:
            gc.unfreeze()
            os.close(theirs)

    def is_over(self) -> bool:
        """Whether the child has answered or died."""
        poll = select.poll()  # select.select fails for descriptors above 1023
        poll.register(self._answer, select.POLLIN)
        return bool(poll.poll(0))

    def answer(self) -> _T:
        """Wait for the answer. Raises the GitFailed that `work` raised, or one where the child died."""
        with os.fdopen(self._answer, "rb") as stream:
            data = stream.read()
        os.waitpid(self._process, 0)
        if not data:
            raise GitFailed("a child process that read a part of a pack died; nothing was changed")
        result: _T | GitFailed = pickle.loads(data)  # noqa: S301 - our own child
        if isinstance(result, GitFailed):
            raise result
        return result

    def kill(self) -> None:
        """Kill the child; its answer is not needed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._answer)


@contextlib.contextmanager
def meanwhile(work: Callable[[], object], *, in_child: bool) -> Iterator[None]:
    """Run `work` in a child process while the body runs; without `in_child`, here before the body. Raises
    what `work` raises, at the latest after the body."""
    if not in_child:
        work()
        yield
        return
    child = Child(work)
    try:
        yield
    except BaseException:
        child.kill()
        raise
    child.answer()


def _run(parent: int, answer: int, work: Callable[[], object]) -> None:
    """Run `work` in the child process and write its result to the descriptor `answer`; never returns."""
    try:
        die_with_parent(parent)
        try:
            result: object = work()
        except GitFailed as error:
            result = error
        except OSError as error:
            result = GitFailed(f"{error.strerror or error} ({error.filename or 'no file'})")
        except MemoryError:
            result = GitFailed("the worker ran out of memory")
        data = pickle.dumps(result)
        while data:
            data = data[os.write(answer, data) :]
    finally:
        os._exit(0)


def in_processes(places: array[int], processes: int, work: Callable[[Iterator[array[int]]], _T]) -> list[_T]:
    """Share `places` out among child processes. Each runs `work`, which takes chunks from a common queue
    until it is empty. Returns the result of each process; raises what the first of them raised."""
    size = max(1, -(-len(places) // (_CHUNKS * processes)))
    queue, fill = os.pipe()

    def take() -> _T:
        os.close(fill)

        def chunks() -> Iterator[array[int]]:
            while word := os.read(queue, 4):
                begin = int.from_bytes(word, "big")
                yield places[begin : begin + size]

        return work(chunks())

    children: list[Child[_T]] = []
    try:
        children += [Child(take) for _ in range(processes)]
        os.close(queue)
        queue = -1
        with contextlib.suppress(BrokenPipeError):
            for begin in range(0, len(places), size):
                os.write(fill, begin.to_bytes(4, "big"))
        os.close(fill)
        fill = -1
        results = []
        while children:
            results.append(children.pop(0).answer())
        return results
    finally:
        for end in (queue, fill):
            if end >= 0:
                os.close(end)
        for child in children:
            child.kill()
