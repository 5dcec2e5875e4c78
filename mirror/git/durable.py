"""Files that are whole or not there: written beside, fsynced, renamed, the folder fsynced."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from mirror.fs import sync_folder

_LEFTOVER = re.compile(r".+\.tmp-[0-9a-f]{8}")


def write_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step; readers see the old file or the new, never a part."""
    beside = path.with_name(f"{path.name}.tmp-{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sweep_files(folder: Path) -> None:
    """Remove what a killed `write_file` left in `folder`; the caller is its only writer."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)
