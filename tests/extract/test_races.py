"""Readers beside a prune or an erasure in another process never report what these remove as damage."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from mirror import browse, extract, restore, verify
from mirror.errors import UsageError
from mirror.git.mirrors.clone import CopyJob, copy
from mirror.git.pack.limits import DEFAULT_LIMITS
from mirror.git.refs import read_refs
from mirror.git.workers.job import OnProgress
from mirror.model import NoProgress, Selector
from mirror.store.reading.snapshots import SnapshotReader
from tests.extract.made import Made, blob, commit, tree
from tests.git.backend import git, need_git
from tests.store.helpers import MovedClock

pytestmark = pytest.mark.git
verify_run = import_module("mirror.verify.verify")  # the package has a function of this name
API = Selector("acme", "api")
SNAPSHOTS = 6
CONFIG = """\
store: {store}
workspaces:
  - workspace: acme
    credential: {{kind: workspace_access_token, token: {{env: T}}}}
retention: {{keep_last: 1}}
"""


async def history(made: Made) -> None:
    """Snapshots of a branch that is rewritten each time; only one of them has a certain document."""
    code = (await made.add("api", 1)).path / "code.git"
    for number in range(1, SNAPSHOTS):
        top = tree(code, (b"100644", b"number", blob(code, b"%d\n" % number * 500)))
        old = git("rev-parse", "refs/heads/main", cwd=code).strip()
        git("update-ref", f"refs/mirror/keep/{old}", old, cwd=code)
        documents = {f"issues/0/{number}.json": {"issue": number}, "issues/0/99.json": {"issue": "secret"}}
        tip = commit(code, top, message=f"Number {number}")
        await made.add("api", 1, refs={b"refs/heads/main": tip}, documents=documents)
        git("repack", "-dq", cwd=code)
    git("pack-refs", "--all", cwd=code)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    need_git()
    made = Made(tmp_path_factory.mktemp("races") / "store", MovedClock())
    asyncio.run(history(made))
    return made


@pytest.fixture
def made(template: Made, tmp_path: Path) -> Made:
    shutil.copytree(template.path, tmp_path / "store")
    return Made(tmp_path / "store", template.clock)


def prune(made: Made) -> None:
    config = made.path.parent / "config.yaml"
    config.write_text(CONFIG.format(store=made.path))
    run("prune", "-c", str(config))


def erase(made: Made) -> None:
    run("erase", "acme/api", "--document", "issues/0/99.json", "--reason", "a secret", "--yes", "--store",
        str(made.path))  # fmt: skip


def run(*words: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "T": "x"}
    done = subprocess.run(
        [sys.executable, "-m", "mirror", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


class At(NoProgress):
    """Runs an action at the `step`th progress report of a reader, and only then."""

    def __init__(self, step: int, do: Callable[[], None]) -> None:
        self.left = step
        self.do = do

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            self.do()

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        self()


WRITERS = [prune, erase]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("step", [5, 12])
def test_an_export_of_the_latest_is_whole(
    made: Made, tmp_path: Path, writer: Callable[[Made], None], step: int
) -> None:
    at = At(step, lambda: writer(made))
    [found] = browse.export(made.path, API, tmp_path / "out", report=at)
    assert found.problems == () and found.is_there
    number = (tmp_path / "out" / "code" / "number").read_text().split()
    assert set(number) == {str(SNAPSHOTS - 1)}
    assert git("fsck", "--no-dangling", cwd=tmp_path / "out" / "code") == ""
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "store", "config.yaml"}


@pytest.mark.parametrize("step", [1, 9, 12])
def test_a_snapshot_that_goes_meanwhile_is_gone_and_not_damaged(
    made: Made, tmp_path: Path, step: int
) -> None:
    first = made.folder("api").metadata.snapshots()[1]
    at = At(step, lambda: prune(made))
    [found] = browse.export(made.path, API, tmp_path / "out", at=first.id, report=at)
    assert {code for code, _ in found.problems} <= {3}, found.problems
    if not found.is_there:
        assert any(f"no snapshot {first.id}" in text for _, text in found.problems), found.problems
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_chosen_before_the_writer_ran_is_chosen_again(
    made: Made, tmp_path: Path, writer: Callable[[Made], None]
) -> None:
    """The reader chooses the snapshots of many repositories first, and restores the last one much later."""
    folder = made.folder("api")
    chosen = folder.metadata.at(folder.metadata.snapshots()[1].id)
    writer(made)
    order = extract.ExtractOptions(
        extract.Form(extract.EXPORTING),
        frozenset({"code", "metadata"}),
        lambda job, tell: job.do(OnProgress(tell), lambda: 0.0, DEFAULT_LIMITS),
    )
    done = extract.extract(made.folder("api"), chosen, chosen.snapshot.id, tmp_path / "out", order)
    if writer is erase:
        assert done.problems == [] and done.is_there
        assert "secret" not in (tmp_path / "out" / "metadata" / "issues" / "0" / "99.json").read_text().split(
            '"'
        )
    else:
        assert done.problems == [(3, f"there is no snapshot {chosen.snapshot.id}")] and not done.is_there


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("step", ["check_snapshots", "check_files"])
def test_verify_finds_no_damage(
    made: Made, monkeypatch: pytest.MonkeyPatch, writer: Callable[[Made], None], step: str
) -> None:
    """The writer runs after verify has read the snapshots, or all of git, and before anything else."""
    real = getattr(verify_run, step)
    ran: list[bool] = []

    def then_writes(*words: object) -> object:
        early = None if step == "check_files" else real(*words)
        if not ran:
            ran.append(True)
            writer(made)
        return real(*words) if early is None else early

    monkeypatch.setattr(verify_run, step, then_writes)
    report = asyncio.run(verify.run(made.path, (API,), clock=made.clock, environment=os.environ))
    assert ran
    assert report.exit_code == 0, report.facts["findings"]


@pytest.mark.parametrize("step", [8])
def test_a_restore_in_a_worker_is_whole(made: Made, tmp_path: Path, step: int) -> None:
    at = At(step, lambda: prune(made))
    report = asyncio.run(restore.run(made.path, API, target=str(tmp_path / "back"), progress=at))
    assert report.items[0].problems == ()
    assert git("fsck", "--no-dangling", cwd=tmp_path / "back" / "code.git") == ""


@pytest.mark.parametrize("command", ["show", "diff", "snapshots", "status"])
def test_what_is_looked_at_while_it_goes_is_read_again(
    made: Made, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The writer runs between the tags and the objects that they name."""
    first = made.folder("api").metadata.snapshots()[0].id
    real = SnapshotReader.tags
    ran: list[bool] = []

    def tags(self: SnapshotReader) -> dict[str, str]:
        found = real(self)
        if not ran:
            ran.append(True)
            prune(made)
        return found

    monkeypatch.setattr(SnapshotReader, "tags", tags)
    if command == "show":
        assert browse.show(made.path, API, "repository.json").document == {"name": "api"}
    elif command == "diff":
        with pytest.raises(UsageError, match="no snapshot"):
            browse.diff(made.path, API, first, "latest")
    elif command == "snapshots":
        assert len(browse.snapshots(made.path, API)[1]) == 1
    else:
        assert browse.status(made.path).damage == ()
    assert ran


def test_a_copy_that_raced_starts_from_a_fresh_folder(made: Made, tmp_path: Path) -> None:
    """Between the listing and the copying of packs, the writer replaced them."""
    code = made.folder("api").code
    turns: Iterator[None] = iter([None, None])

    def tell(text: str, done: int | None, _total: int | None) -> None:
        if (text, done) == ("copying files", 1):
            for _ in turns:
                git("repack", "-adq", cwd=code)
                blob(code, os.urandom(100))
                break

    refs = read_refs(code)
    result = copy(CopyJob(str(code), str(tmp_path / "copy"), refs), progress=OnProgress(tell))
    assert result.damage == ()
    packs = {path.stem for path in (tmp_path / "copy" / "objects" / "pack").iterdir()}
    assert packs == {path.stem for path in (code / "objects" / "pack").glob("pack-*.pack")}
    assert git("fsck", "--full", "--no-dangling", cwd=tmp_path / "copy") == ""
