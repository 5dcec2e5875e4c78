"""Objects of a repository whose every byte is hashed, whatever else there is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from dulwich.objects import ObjectID

from mirror.git.objects import TYPE_NAMES, hash_object, read_loose
from mirror.git.pack.index import PackIndex
from mirror.git.pack.names import packs_in
from mirror.git.pack.reader import PackFile


class IntactObjects:
    """The objects of the repository at `path`, each read from whatever pack or file has it undamaged."""

    def __init__(self, path: Path) -> None:
        self._folder = path / "objects"
        self._packs: list[PackFile] = []
        self._stack = ExitStack()
        for pack in packs_in(self._folder / "pack"):
            try:
                index = self._stack.enter_context(closing(PackIndex(pack.with_suffix(".idx"))))
                self._packs.append(self._stack.enter_context(closing(PackFile(pack, index))))
            except Exception:  # noqa: BLE001, S112 - damage raises anything; another pack may have the objects
                continue

    def close(self) -> None:
        """Close the packs."""
        self._stack.close()

    def get_raw(self, name: ObjectID, /) -> tuple[int, bytes]:
        """See RawObjects. Raises ValueError where only damaged copies of the object are there."""
        oid, is_there = bytes.fromhex(name.decode("ascii")), False
        for copy in self._copies(oid):
            is_there = True
            try:
                kind, content = copy()
            except Exception:  # noqa: BLE001, S112 - damage raises anything
                continue
            if kind in TYPE_NAMES and hash_object(kind, content) == oid:
                return kind, content
        if is_there:
            raise ValueError("is damaged")
        raise KeyError(name)

    def _copies(self, oid: bytes) -> Iterator[Callable[[], tuple[int, bytes]]]:
        """What reads each copy of an object."""
        name = oid.hex()
        loose = self._folder / name[:2] / name[2:]
        if loose.exists():
            yield partial(read_loose, loose)
        for pack in self._packs:
            at = pack.find(oid)
            if at is not None:
                yield partial(_in_pack, pack, at)


def _in_pack(pack: PackFile, at: int) -> tuple[int, bytes]:
    return pack.type_of(at), bytes(pack.content(at))
