"""Getting objects that a mirror lacks from a server, whatever happens on the way.

At first all at once. A first mirror of a giant may never come through so: where a transfer breaks, it
is taken in groups of refs, the oldest first. What a group brought is held by refs under
`refs/mirror/work/`, so that the next attempt, or the next run, starts from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dulwich.errors import HangupException
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.refs import Ref

from mirror.errors import MirrorError
from mirror.git.failures import GitFailed, GitUnreachable
from mirror.git.jobs import Tell
from mirror.git.packs import Reception, present
from mirror.git.refs import (
    OURS,
    WORK,
    closed_after,
    open_repository,
    read_all,
    read_head,
    read_packed,
    write_packed,
)
from mirror.git.transport import HttpClient

HAVES_MAX = 256
# Into so many groups refs are divided once a transfer of all broke, and so often in a row a transfer may
# break before a run gives up.
GROUPS = 8
BREAKS_MAX = 3


def receive(client: HttpClient, path: Path, tips: Iterable[str], order: Sequence[str], tell: Tell) -> int:
    """Get the objects that `tips` need into the mirror at `path`; returns how many came.

    The caller holds the writer's lock and has had `client` list the refs. `order` holds hashes in the
    order in which groups of them are asked for. Raises the errors of `mirror.git.failures`; what groups
    brought before is kept.
    """
    old = read_all(path)
    held = set(old.values())
    with closed_after(open_repository(path)) as repository:
        new = sorted(set(tips) - held)
        missing = set(_lacking(repository.object_store, new))
    if not missing:
        return 0
    wants = [tip for tip in dict.fromkeys([*order, *sorted(missing)]) if tip in missing]
    if not any(name.startswith(WORK + b"/") for name in old):
        try:
            return _transfer(client, path, wants, tell)
        except GitUnreachable:
            if len(wants) == 1:
                raise
            tell(f"the transfer broke off; going on in groups of {len(wants)} refs")
    return _by_groups(client, path, wants, tell)


def _by_groups(client: HttpClient, path: Path, wants: Sequence[str], tell: Tell) -> int:
    count = breaks = 0
    size = max(1, -(-len(wants) // GROUPS))
    todo = [list(wants[at : at + size]) for at in range(0, len(wants), size)]
    while todo:
        group = todo.pop(0)
        try:
            count += _transfer(client, path, group, tell)
        except GitUnreachable:
            breaks += 1
            if breaks == BREAKS_MAX:
                raise
            half = len(group) // 2
            todo[:0] = [part for part in (group[:half], group[half:]) if part]
            continue
        breaks = 0
        _hold(path, group)
        tell(f"{len(todo)} groups of refs to go")
    return count


def _hold(path: Path, tips: Iterable[str]) -> None:
    """Hold what was fetched until all of it is there."""
    _, peeled = read_packed(path)
    refs = {**read_all(path), **{WORK + b"/" + tip.encode("ascii"): tip for tip in tips}}
    write_packed(path, refs, peeled, read_head(path))


def _transfer(client: HttpClient, path: Path, tips: Sequence[str], tell: Tell) -> int:
    """Get what `tips` need in one pack and publish it; returns how many objects came."""

    def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:  # noqa: ARG001
        return wanted

    def progress(text: bytes) -> None:
        tell(text.decode("utf-8", "replace").strip())

    with closed_after(open_repository(path)) as repository:
        store = repository.object_store
        # An earlier group may have brought some.
        wanted = [ObjectID(tip.encode("ascii")) for tip in _lacking(store, tips)]
        if not wanted:
            return 0
        with Reception(path / "objects") as pack:

            def write(data: bytes) -> int:
                client.is_preparing = False
                return pack.write(data)

            client.is_preparing = True
            try:
                client.fetch_pack(b"", wants, Haves(_heads(client, path)), write, progress)
            except (OSError, MemoryError):
                raise
            except Exception as error:
                # At once it is a refusal; in the middle of a pack whatever carried it broke off.
                if isinstance(error, HangupException) and pack.received:
                    raise GitUnreachable("the git server hung up in the middle of a pack") from error
                raise understood(error) from error
            if pack.received == 0:
                raise GitFailed("the git server sent nothing of what it advertises; nothing was changed")
            # What was there before passed the same check when it came.
            return pack.publish(store, processes=os.cpu_count() or 1, tell=tell)


def _lacking(store: DiskObjectStore, tips: Iterable[str]) -> list[str]:
    """Those of `tips` that are not there."""
    names = {tip: ObjectID(tip.encode("ascii")) for tip in tips}
    there = present(store, names.values())
    return [tip for tip, name in names.items() if name not in there]


def _heads(client: HttpClient, path: Path) -> Iterator[str]:
    """What we have and the server is likely to know, what tells it most first."""
    assert client.advertised is not None
    old, now = read_all(path), client.advertised.refs
    yield from (value for name, value in old.items() if name.startswith(WORK + b"/"))
    yield from (value for name, value in old.items() if name in now and now[name] != value)
    yield from (value for name, value in old.items() if name.startswith(b"refs/heads/"))
    yield from (value for name, value in old.items() if not name.startswith((b"refs/heads/", OURS)))
    yield from (value for name, value in old.items() if name.startswith(OURS))


class Haves:
    """The commits that we tell the server we have: ref values, no walk through history."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = iter(list(dict.fromkeys(values))[:HAVES_MAX])
        self.shallow: set[ObjectID] = set()
        self.unshallow: set[ObjectID] = set()

    def __next__(self) -> ObjectID | None:
        value = next(self._values, None)
        return ObjectID(value.encode("ascii")) if value is not None else None

    next = __next__

    def ack(self, sha: ObjectID) -> None:
        """The server has it too."""

    def nak(self) -> None:
        """Nothing in common."""


def understood(error: Exception) -> Exception:
    """An error of the protocol as one of ours."""
    if isinstance(error, MirrorError):
        return error
    text = str(error).strip().splitlines()
    detail = "".join(sign for sign in (text[0] if text else "") if sign.isprintable())[:200]
    return GitFailed(f"the git server broke the protocol ({type(error).__name__}): {detail}")
