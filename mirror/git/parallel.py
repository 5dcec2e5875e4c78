"""Sharing work out among processes that are forked from this one and die with it."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
from array import array
from collections.abc import Callable, Iterator
from typing import TypeVar

from mirror.git.failures import GitFailed
from mirror.git.process import die_with_parent

_T = TypeVar("_T")
_CHUNKS = 64


def in_processes(places: array[int], processes: int, work: Callable[[Iterator[array[int]]], _T]) -> list[_T]:
    """Share `places` out among child processes, each of which does `work` with the chunks that it takes,
    the next when it is done with one. Returns what each came to.

    Call it where no other thread runs. Raises what one of them raised, and GitFailed where one died.
    """
    size = max(1, -(-len(places) // (_CHUNKS * processes)))
    parent = os.getpid()
    queue, fill = os.pipe()
    answers: list[tuple[int, int]] = []
    gc.freeze()  # collecting would copy the pages that are shared with the children
    try:
        for _ in range(processes):
            ours, theirs = os.pipe()
            child = os.fork()
            if child == 0:
                _serve(parent, queue, fill, theirs, places, size, work)
            os.close(theirs)
            answers.append((child, ours))
    finally:
        gc.unfreeze()
        os.close(queue)
    with contextlib.suppress(BrokenPipeError):
        for begin in range(0, len(places), size):
            os.write(fill, begin.to_bytes(4, "big"))
    os.close(fill)
    results = [_answer(child, ours) for child, ours in answers]
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results  # type: ignore[return-value] # no exceptions among them


def _serve(
    parent: int,
    queue: int,
    fill: int,
    answer: int,
    places: array[int],
    size: int,
    work: Callable[[Iterator[array[int]]], object],
) -> None:
    """The life of a child process; it does not return."""
    try:
        die_with_parent(parent)
        os.close(fill)

        def chunks() -> Iterator[array[int]]:
            while word := os.read(queue, 4):
                begin = int.from_bytes(word, "big")
                yield places[begin : begin + size]

        try:
            result: object = work(chunks())
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


def _answer(child: int, ours: int) -> object:
    with os.fdopen(ours, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    if not data:
        return GitFailed("a process that resolved deltas died; nothing was changed")
    return pickle.loads(data)  # noqa: S301 - our own child
