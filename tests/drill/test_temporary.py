"""The temporary folder of a drill: enough room, and nothing of it stays."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

import pytest

from mirror.drill.temporary import NoRoom, size_of, temporary_folder


def test_nothing_stays_however_it_ends(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path)}
    with temporary_folder(environment, 0) as folder:
        (folder / "copy").mkdir()
        assert folder.parent == tmp_path
    with pytest.raises(KeyboardInterrupt), temporary_folder(environment, 0) as folder:
        (folder / "half").write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_drill_left_is_removed_and_a_running_one_stays(tmp_path: Path) -> None:
    killed, running, other = (tmp_path / name for name in ("mirror-drill-a", "mirror-drill-b", "mine"))
    for one in (killed, running, other):
        one.mkdir()
        (one / "lock").touch()
        (one / "data").write_bytes(b"data")
    with (running / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with temporary_folder({"TMPDIR": str(tmp_path)}, 0):
            pass
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "mirror-drill-b"]


def test_what_a_drill_left_that_was_killed_at_its_begin_is_removed(tmp_path: Path) -> None:
    (tmp_path / "mirror-drill-a").mkdir()
    with temporary_folder({"TMPDIR": str(tmp_path)}, 0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_drill_that_begins_with_another_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, begun = {"TMPDIR": str(tmp_path)}, list[bool]()

    def flock(lock: IO[bytes], how: int) -> None:
        if how == fcntl.LOCK_EX and not begun:
            begun.append(True)
            with temporary_folder(environment, 0):
                pass
        take(lock, how)

    take = fcntl.flock
    monkeypatch.setattr("mirror.fs.temporary.fcntl.flock", flock)
    with temporary_folder(environment, 0) as folder:
        assert (folder / "lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    folder = temporary_folder({"TMPDIR": str(tmp_path)}, 1 << 60)
    with pytest.raises(NoRoom, match="MiB free, and this drill needs about") as caught, folder:
        pass
    assert "TMPDIR" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_the_size_is_that_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"123")
    assert size_of([tmp_path, tmp_path / "deep"]) == 13
