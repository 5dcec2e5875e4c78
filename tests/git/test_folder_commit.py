"""A folder becomes a commit that C git reads, the same one for the same files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.git.documents import folder as folders
from mirror.git.documents.folder import CommitFolderJob, FolderCommit
from mirror.git.pack.limits import PackLimits
from mirror.git.workers.job import no_progress
from tests.git.backend import git, need_git


def _commit(folder: Path, repository: Path, message: str = "Pages\n\nOf: x\n") -> FolderCommit:
    job = CommitFolderJob(str(folder), str(repository), message, datetime(2026, 3, 2, tzinfo=UTC))
    return job.do(no_progress, lambda: 0.0, PackLimits())


@pytest.mark.git
def test_a_folder_becomes_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_git()
    pages = tmp_path / "pages"
    files = {"README.md": "# Pages\n", "acme/a.md": "a", "acme/web.d/b.md": "b", "acme/web/é.md": "c"}
    for name, text in files.items():
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        (pages / name).write_text(text, encoding="utf-8")
    (pages / "acme/large.zip").write_bytes(b"x" * 101)
    monkeypatch.setattr(folders, "FILE_BYTES_MAX", 100)
    made = _commit(pages, tmp_path / "one.git")
    assert made.left_out == ("acme/large.zip",)
    assert _commit(pages, tmp_path / "two.git") == made
    one = tmp_path / "one.git"
    assert git("fsck", "--full", "--strict", "--no-dangling", cwd=one) == ""
    listed = git("-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", made.commit, cwd=one).split(
        "\n"
    )
    assert sorted(filter(None, listed)) == sorted(files)
    for name, text in files.items():
        assert git("cat-file", "blob", f"{made.commit}:{name}", cwd=one) == text
    assert git("log", "-1", "--format=%P|%B", made.commit, cwd=one).startswith("|Pages\n\nOf: x")
