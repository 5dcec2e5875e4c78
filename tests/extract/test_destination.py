"""The result reaches its place complete, by one rename, and never beside parts of another snapshot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mirror import browse, restore
from mirror.errors import UsageError
from mirror.extract import destination
from mirror.extract.destination import Destination
from mirror.model import Selector
from tests.extract.made import LOG, Made, blob, commit, tree
from tests.git.backend import git

pytestmark = pytest.mark.git
API = Selector("acme", "api")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def restored(made: Made, target: Path, **more: Any) -> tuple[int, list[str]]:
    report = await restore.run(made.path, API, target=str(target), **more)
    return report.exit_code, [text for _, text in report.items[0].problems]


async def two_snapshots(made: Made) -> tuple[str, str]:
    """The first snapshot has files and a wiki; the second has another branch."""
    code = (await made.add("api", 1)).path / "code.git"
    first = made.snapshot("api").id
    tip = commit(code, tree(code, (b"100644", b"new", blob(code, b"new\n"))))
    await made.add("api", 1, refs={b"refs/heads/new": tip})
    return first, made.snapshot("api").id


async def test_overwrite_leaves_nothing_of_another_snapshot(made: Made, tmp_path: Path) -> None:
    _, second = await two_snapshots(made)
    target = tmp_path / "back"
    (target / "wiki.git").mkdir(parents=True)
    (target / "files" / "00").mkdir(parents=True)
    (target / "files" / "00" / "of another").touch()
    (target / "notes.txt").write_text("mine\n")
    target.chmod(0o750)
    assert (await restored(made, target, at=second, overwrite=True)) == (0, [])
    # Files that no restore wrote stay.
    assert names(target) == {"code.git", "metadata", "files", "notes.txt"}
    assert not (target / "files" / "00" / "of another").exists()
    assert target.stat().st_mode & 0o777 == 0o750
    assert names(tmp_path) == {"back", "store"}
    # Part of one snapshot does not stay beside the rest of another one.
    assert (await restored(made, target, at=second, overwrite=True, only=frozenset({"code"}))) == (0, [])
    assert names(target) == {"code.git", "notes.txt"}


async def test_the_old_one_stands_until_the_new_one_does(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await two_snapshots(made)
    target = tmp_path / "back"
    await restored(made, target, at=first)
    before = git("show-ref", cwd=target / "code.git")
    real = Path.rename

    def fails(self: Path, to: Path) -> Path:
        if "restoring" in self.name and Path(to) == target:
            raise OSError(5, "Input/output error", str(to))
        return real(self, to)

    monkeypatch.setattr(Path, "rename", fails)
    code, problems = await restored(made, target, at=second, overwrite=True)
    assert code == 1 and "Input/output error" in problems[0]
    assert git("show-ref", cwd=target / "code.git") == before
    assert names(tmp_path) == {"back", "store"}


async def test_what_is_damaged_replaces_nothing(made: Made, tmp_path: Path) -> None:
    await two_snapshots(made)
    target = tmp_path / "back"
    await restored(made, target)
    made.stored("api", LOG).unlink()
    code, problems = await restored(made, target, overwrite=True)
    assert code == 4 and "was not changed" in problems[-1]
    assert len([one for one in (target / "files").rglob("*") if one.is_file()]) == 2


async def test_a_fresh_disk_counts_as_empty(made: Made, tmp_path: Path) -> None:
    await two_snapshots(made)
    for name in ("restored", "exported", "again"):
        (tmp_path / name / "lost+found").mkdir(parents=True)
    assert await restored(made, tmp_path / "restored") == (0, [])
    [found] = browse.export(made.path, API, tmp_path / "exported")
    assert found.problems == () and found.is_there
    for name in ("restored", "exported"):
        assert "lost+found" in names(tmp_path / name) and "metadata" in names(tmp_path / name)
    # It stays during a replacement, too.
    (tmp_path / "again" / "metadata").mkdir()
    with pytest.raises(UsageError, match="is not empty"):
        await restored(made, tmp_path / "again")
    assert await restored(made, tmp_path / "again", overwrite=True) == (0, [])
    assert names(tmp_path / "again") == {"lost+found", "code.git", "metadata", "files"}
    # As a file it belongs to the user.
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "something").touch()
    with pytest.raises(UsageError, match="is not empty"):
        await restored(made, tmp_path / "odd")


def test_a_folder_that_cannot_be_replaced_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount point, even of the same disk: the kernel refuses a rename into it."""
    place = tmp_path / "mounted"
    for name in ("code.git", "wiki.git", "mine"):
        (place / name).mkdir(parents=True)
    inode, real = place.stat().st_ino, Path.rename

    def across(self: Path, to: Path) -> Path:
        if (place in self.parents) != (place in Path(to).parents):
            raise OSError(18, "Invalid cross-device link", str(self))
        return real(self, to)

    monkeypatch.setattr(Path, "rename", across)
    new = Destination(place, destination.RESTORING, overwrite=True, ours=("code.git", "wiki.git"))
    assert new.begin().parent == place
    (new.unfinished / "code.git").mkdir()
    (new.unfinished / "code.git" / "new").touch()
    assert new.publish() == []
    assert names(place) == {"code.git", "mine"} and names(place / "code.git") == {"new"}
    assert place.stat().st_ino == inode and names(tmp_path) == {"mounted"}
    # If one part cannot be moved, all go back to their old place.
    again = Destination(place, destination.RESTORING, overwrite=True, ours=("code.git", "wiki.git"))
    (again.begin() / "code.git").mkdir()
    (again.unfinished / "metadata").mkdir()

    def full(self: Path, to: Path) -> Path:
        if self.name == "metadata":
            raise OSError(28, "No space left on device", str(to))
        return real(self, to)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        again.publish()
    assert again.discard() == []
    assert names(place) == {"code.git", "mine"} and names(place / "code.git") == {"new"}


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "code.git").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    new = Destination(tmp_path / "link", destination.RESTORING, overwrite=True, ours=("code.git",))
    (new.begin() / "metadata").mkdir()
    assert new.publish() == []
    assert os.readlink(tmp_path / "link") == str(tmp_path / "real")  # noqa: PTH115
    assert names(tmp_path / "real") == {"metadata"}
