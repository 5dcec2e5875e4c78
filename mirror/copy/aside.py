"""Files of the store set aside for a copy: hard links, taken under the folder's lock and read after it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from mirror.copy.bundles import Hashed
from mirror.errors import Cancelled, MirrorError
from mirror.fs.durable import make_folder
from mirror.git.bare import running_setting
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.seal import is_sealed, seal_fault
from mirror.store.reading.contents import Contents, Stat

_CHUNK = 1 << 20
# Where no hard link can be made: another file system, one without them, too many, or not allowed.
_UNLINKABLE = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
# Files that name the sha256 of their bytes, in the folder of a repository or workspace.
_NAMED = re.compile(
    rf"(?:{layout.FILES}/[0-9a-f]{{2}}|{layout.LFS}/[0-9a-f]{{2}}/[0-9a-f]{{2}})/([0-9a-f]{{64}})"
)


class Changed(MirrorError):
    """A file is not what it was when the folder was locked."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"{file} changed while it was copied", hint="nothing but mirror may write there; run it again"
        )


class Ended(Cancelled):
    """The pass for which a file was read is over. Nobody waits for what raises this."""

    def __init__(self) -> None:
        super().__init__("the copy was stopped")


class Aside:
    """The files of one folder, set aside below the store's `tmp`; `remove` ends it.

    `folder` is the folder's path in the store at `root`. `key` and `number` tell copies and folders apart.
    Once `ended` is set, all reading ends: a thread that nobody waits for would go on for minutes.
    """

    def __init__(self, root: Path, folder: str, key: str, number: int, ended: threading.Event) -> None:
        self._root = root
        self._place = folder
        self.path = root / f"{layout.COPYING}{key}" / str(number)
        self._files: dict[str, tuple[Path, Stat]] = {}
        self._made = 0
        self._ended = ended

    def take(self, found: Contents, paths: Iterable[str]) -> None:
        """Set `paths` of the folder aside. The caller holds the folder's lock. Raises Changed, OSError."""
        make_folder(self.path.parent)
        shutil.rmtree(self.path, ignore_errors=True)
        make_folder(self.path)
        for path in paths:
            target, stat = self.new_file(), found.files[path]
            source = self._root / self._place / path
            if path == layout.UNFINISHED_FILE or not _link(source, target):
                # This one file is appended to without the lock.
                shutil.copyfile(source, target, follow_symlinks=False)
                stat = Stat(stat.size, *_stat(target)[1:])
            if _stat(target) != stat:
                raise Changed(self._file(path))
            self._files[path] = target, stat

    def new_file(self) -> Path:
        """The path of a new file beside them."""
        self._made += 1
        return self.path / str(self._made)

    def hash(self, path: str) -> Hashed:
        """Read a file whole. Raises Changed, and StoreDamaged where the file itself says that its bytes are
        others."""
        source, stat = self._files[path]
        with source.open("rb") as stream:
            digest = _digest(stream, self._ended)
        self._check(path)
        named = _NAMED.fullmatch(path)
        if named is not None and named[1] != digest:
            raise StoreDamaged(self._file(path), "its content is not what its name says")
        if path.endswith(".git/config"):
            setting = running_setting(source.read_bytes())
            if setting is not None:
                raise MirrorError(
                    f"{self._file(path)} has the setting {setting}, which could make git run a program: no"
                    " copy is read back with it",
                    hint="remove it from that file",
                )
        if path in layout.SMALL_FILES or path == layout.STORE_FILE:
            data = source.read_bytes()
            fault = seal_fault(data) if is_sealed(data) else None  # version 0.1 wrote no seals
            if fault is not None:
                raise StoreDamaged(self._file(path), fault)
        return Hashed(stat.size, digest)

    def read(self, path: str, expected: Hashed) -> bytes:
        """The content of a small file. Raises Changed."""
        data = self._files[path][0].read_bytes()
        if (len(data), hashlib.sha256(data).hexdigest()) != expected:
            raise Changed(self._file(path))
        return data

    def open(self, path: str, expected: Hashed) -> BinaryIO:
        """A stream of a file, which the caller closes. Reading raises Changed in place of the last bytes
        where they are not as `expected`: nothing wrong is ever sent whole."""
        return cast("BinaryIO", _Checked(self._files[path][0], self._file(path), expected, self._ended))

    def remove(self) -> None:
        """Remove everything that was set aside."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _check(self, path: str) -> None:
        source, stat = self._files[path]
        if _stat(source) != stat:
            raise Changed(self._file(path))

    def _file(self, path: str) -> str:
        return f"{self._place}/{path}" if self._place else path


def _digest(stream: BinaryIO, ended: threading.Event) -> str:
    """The sha256 of a stream. Raises Ended."""
    digest = hashlib.sha256()
    while data := stream.read(_CHUNK):
        if ended.is_set():
            raise Ended
        digest.update(data)
    return digest.hexdigest()


def sweep(root: Path, key: str) -> None:
    """Remove what a copy set aside. The caller holds the lock of the copy `key`."""
    shutil.rmtree(root / f"{layout.COPYING}{key}", ignore_errors=True)


def _link(source: Path, target: Path) -> bool:
    """Make a hard link, and say whether that is possible."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        return False
    return True


def _stat(path: Path) -> Stat:
    found = path.lstat()
    return Stat(found.st_size, found.st_mtime_ns, found.st_ino)


class _Checked:
    """A file that is hashed while it is read from its beginning to its end."""

    def __init__(self, path: Path, name: str, expected: Hashed, ended: threading.Event) -> None:
        self._ended = ended
        self._stream = path.open("rb")
        self._name = name
        self._expected = expected
        self._digest = hashlib.sha256()
        self._read = 0

    def __enter__(self) -> _Checked:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def tell(self) -> int:
        """The position."""
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move. Only reading from the beginning is checked, so nothing else is."""
        self._digest, self._read = hashlib.sha256(), 0
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        """The next bytes. Raises Changed, Ended."""
        begin = self._stream.tell()
        if begin != self._read:
            raise ValueError("only reading from the beginning is checked")
        if self._ended.is_set():
            raise Ended
        data = self._stream.read(size)
        self._digest.update(data)
        self._read += len(data)
        is_over = self._read >= self._expected.size or not data or size < 0
        if is_over and (self._read, self._digest.hexdigest()) != self._expected:
            raise Changed(self._name)
        return data
