"""The store works on a file system without fsync of folders, and doctor warns of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.doctor import Check
from mirror.doctor.machine import store_checks
from mirror.fs.durable import make_folder, sync_folder, write_file
from mirror.git.objects import BLOB
from mirror.git.pack.writer import PackWriter
from tests.store.helpers import MovedClock, adopt, open_store, take


def refusing(number: int) -> Callable[[int], None]:
    """An fsync that fails with this error, only for folders."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    return fsync


def checked(place: Path) -> Check:
    [check] = [one for one in store_checks(place) if one.name == "locks"]
    return check


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
async def test_it_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    with open_store(tmp_path / "store") as store:
        taken = await take(adopt(store), {"a.json": 1}, MovedClock())
        assert taken.changed
    make_folder(tmp_path / "objects")
    make_folder(tmp_path / "objects" / "pack")
    writer = PackWriter(tmp_path / "objects")
    writer.add(BLOB, b"1")
    writer.publish()
    assert sync_folder(tmp_path) is False
    check = checked(tmp_path / "store")
    assert check.state == "warn"
    assert "fsync of folders" in check.text


async def test_a_disk_that_fails_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sync_folder(tmp_path) is True
    assert checked(tmp_path).state == "ok"
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        write_file(tmp_path / "file", b"1")
    assert checked(tmp_path).state == "fail"
