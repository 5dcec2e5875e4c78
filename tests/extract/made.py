"""Stores with repositories, made without a server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.git import bare
from mirror.git.refs import read_refs
from mirror.model import Json, Part, PartState, Refs, Snapshot
from mirror.store.reading.reader import RepositoryFolder, Store
from mirror.store.writing.writer import RepositoryWriter
from tests.git.backend import git
from tests.store.helpers import MovedClock, adopt, open_store, website

LOG = b"a line of a log\n" * 4000
BINARY = bytes(range(256)) * 64
LFS_OBJECT = b"large " * 9000
PART = {"code": Part(PartState.COMPLETE)}
WITH_LFS = {**PART, "lfs": Part(PartState.COMPLETE, {"objects": 1, "bytes": len(LFS_OBJECT), "missing": 0})}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pointer_to(data: bytes) -> bytes:
    """The pointer that git-lfs commits instead of `data`."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(data)}\nsize {len(data)}\n"
    return text.encode("ascii")


def commit(repository: Path, tree: str, *parents: str, message: str = "A commit") -> str:
    """Create a commit of a tree."""
    words = [word for parent in parents for word in ("-p", parent)]
    return git("commit-tree", tree, *words, "-m", message, cwd=repository).strip()


def blob(repository: Path, data: bytes) -> str:
    return git("hash-object", "-w", "--stdin", cwd=repository, stdin=data).strip()


def tree(repository: Path, *entries: tuple[bytes, bytes, str]) -> str:
    """Create a tree of exactly these entries (mode, name, hash), even if git would refuse it."""
    data = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(link) for mode, name, link in entries)
    words = ("hash-object", "-t", "tree", "-w", "--literally", "--stdin")
    return git(*words, cwd=repository, stdin=data).strip()


@dataclass
class Made:
    """A store at `path`."""

    path: Path
    clock: MovedClock

    def reader(self) -> Store:
        return Store.open(self.path)

    def folder(self, name: str) -> RepositoryFolder:
        with self.reader() as store:
            [found] = [one for one in store.repositories() if one.slug == name]
            return found

    def snapshot(self, name: str) -> Snapshot:
        latest = self.folder(name).metadata.latest()
        assert latest is not None
        return latest

    def pack(self, name: str, mirror: str = "code.git") -> Path:
        """Pack everything of a mirror into one pack; returns its path."""
        path = self.path / self.folder(name).place / mirror
        git("repack", "-adq", cwd=path)
        git("pack-refs", "--all", cwd=path)
        [pack] = (path / "objects" / "pack").glob("*.pack")
        return pack

    def stored(self, name: str, data: bytes) -> Path:
        found = self.folder(name).find_file(sha256(data))
        assert found is not None
        return found.path

    async def add(
        self,
        name: str,
        number: int,
        *,
        refs: Mapping[bytes, str] | None = None,
        pins: Mapping[int, str] | None = None,
        head: Refs | None = None,
        documents: Mapping[str, Json] | None = None,
        lfs: bool = False,
    ) -> RepositoryWriter:
        """Add a repository with a commit on `main`, two files, and documents that point to them; then take a
        snapshot. `refs` are set in its mirror first (to hashes that it has)."""
        with open_store(self.path) as store:
            writer = adopt(store, website(name, number=number))
            code = self.mirror(writer)
            for ref, value in (refs or {}).items():
                git("update-ref", ref.decode("utf-8", "surrogateescape"), value, cwd=code)
            for number_, value in (pins or {}).items():
                git("update-ref", f"refs/mirror/pull-requests/{number_}/from", value, cwd=code)
            if lfs:
                place = (
                    writer.path / "code.git/lfs/objects" / sha256(LFS_OBJECT)[:2] / sha256(LFS_OBJECT)[2:4]
                )
                place.mkdir(parents=True)
                (place / sha256(LFS_OBJECT)).write_bytes(LFS_OBJECT)
            self.clock.move(hours=1)
            async with writer.lock(0, self.clock):
                draft = writer.draft()
                pointers = [
                    await draft.put_file([LOG], "build.log", text=True),
                    await draft.put_file([BINARY], "program.bin"),
                ]
                draft.put("downloads.json", [{"_content": one} for one in pointers])
                draft.put("repository.json", {"name": name})
                for path, value in (documents or {}).items():
                    draft.put(path, value)
                listed = {sha256(LFS_OBJECT): (len(LFS_OBJECT), True)} if lfs else None
                writer.snapshot(
                    draft, begun=self.clock.now(), program="mirror test", parts=WITH_LFS if lfs else PART,
                    refs=head or read_refs(code), pins=pins, lfs=listed,
                )  # fmt: skip
            return writer

    def mirror(self, writer: RepositoryWriter) -> Path:
        """The mirror of the code, with a commit on `main` if it is new."""
        code = writer.path / "code.git"
        if not code.exists():
            bare.create(code)
            top = tree(code, (b"100644", b"readme", blob(code, b"Hello\n")))
            git("update-ref", "refs/heads/main", commit(code, top), cwd=code)
        return code


def flip(path: Path, at: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
