"""A service runs as its own user and owns the store; an administrator is root."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirror.cli.owner import secret_files
from mirror.config import load, load_text
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.reading.reader import Store
from tests.e2e.helpers import json_of, write_config
from tests.place import Place

SERVICE = 64321  # a user without a name on this machine
ROOT = 0
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")

AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
PATHS = f"{Path(__file__).parents[2]}\n{sysconfig.get_path('purelib')}\n"


def as_user(
    user: int, *words: str, python: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python command in a process of that user."""
    return subprocess.run(
        [python, *words],
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
    )


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    """An interpreter that other users can run: root's own may be in a folder that they cannot enter."""
    with tempfile.TemporaryDirectory(prefix="mirror-python-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        for number, candidate in enumerate((sys.executable, "/usr/bin/python3")):
            home = folder / str(number)
            made = subprocess.run([candidate, "-m", "venv", "--without-pip", str(home)], check=False)
            for packages in home.glob("lib/python*/site-packages"):
                (packages / "mirror.pth").write_text(PATHS)
            words = (
                "-c",
                "import mirror.cli, subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)",
            )
            with contextlib.suppress(OSError):
                if (
                    made.returncode == 0
                    and as_user(SERVICE, *words, python=f"{home}/bin/python").returncode == 0
                ):
                    yield f"{home}/bin/python"
                    return
        pytest.skip("no interpreter that another user may run the program with")


def test_the_secrets_of_copies_are_needed_too(tmp_path: Path) -> None:
    names = {"token", "key", "secret", "names"}
    for name in names:
        (tmp_path / name).touch()
    text = (
        "store: s\ncredential: {kind: workspace_access_token, token: {file: token}}\n"
        "copies: [{to: s3://b1/x, access_key_id: {file: key}, secret_access_key: {file: secret},\n"
        f"  recipients: [{AGE}], names_key: {{file: names}}}}]\n"
    )
    config = load_text(text, "config.yaml", folder=tmp_path)
    assert {path.name for path in secret_files(config)} == names


class Served:
    """A place whose store belongs to the service's user."""

    def __init__(self, place: Place, python: str) -> None:
        self.place = place
        self.store = place.config.store
        self._python = python
        self.give_back()

    def give_back(self) -> None:
        subprocess.run(["chown", "-R", f"{SERVICE}:{SERVICE}", str(self.place.folder)], check=True)

    def mirror(self, user: int, *words: str) -> subprocess.CompletedProcess[str]:
        config = str(self.place.folder / "config.yaml")
        return as_user(user, "-m", "mirror", *words, "-c", config, python=self._python)

    def others(self) -> list[Path]:
        return [path for path in self.store.rglob("*") if path.lstat().st_uid != SERVICE]


@pytest.fixture
def served(python: str) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="mirror-owner-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        world = World(folder / "upstream")
        populate(world)
        token = world.add_workspace_access_token("acme", SCOPES)
        with Simulator(world) as simulator:
            path = write_config(folder, simulator, token, more="retention: {keep_last: 1}\n")
            place = Place(folder, simulator, load(path))
            asyncio.run(place.run("acme/website"))
            yield Served(place, python)


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "--level", "refs"),
        ("backup", "acme/website"),
        ("prune",),
        ("accept-loss", "acme"),
        ("erase", "acme/website", "--document", "repository", "--reason", "a test", "--yes"),
    ],
    ids=lambda words: words[0],
)
def test_root_keeps_the_owner_of_the_store(served: Served, words: tuple[str, ...]) -> None:
    done = served.mirror(ROOT, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cli.became_owner" in done.stderr
    assert served.others() == []
    after = served.mirror(SERVICE, "backup", "acme/website")
    assert after.returncode == 0, after.stdout + after.stderr


def test_root_refuses_where_the_owner_could_not_read_the_secret(served: Served) -> None:
    os.chown(served.place.folder / "token", 0, 0)
    before = sorted(served.store.rglob("*"))
    done = served.mirror(ROOT, "backup")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"sudo -u {SERVICE} mirror backup" in done.stderr and "chown -R root" in done.stderr
    assert sorted(served.store.rglob("*")) == before and served.others() == []


def a_record(served: Served) -> Path:
    return max((served.store / "runs").glob("*.json"))


def a_repository(served: Served) -> Path:
    return next((served.store / "workspaces").glob("*/repositories/website~*"))


@pytest.mark.parametrize("chosen", [a_record, a_repository], ids=["a record", "a folder"])
def test_what_one_may_not_read_is_a_finding_and_not_the_end(
    served: Served, chosen: Callable[[Served], Path]
) -> None:
    assert served.mirror(SERVICE, "backup").returncode == 0
    taken = chosen(served)
    os.chown(taken, 0, 0)
    name = str(taken.relative_to(served.store))
    status = served.mirror(SERVICE, "status", "--json")
    assert status.returncode == 4, status.stdout + status.stderr
    assert len(json_of(status)["repositories"]) >= 3
    assert any(name in text and "cannot be read" in text for text in json_of(status)["damage"])
    verified = served.mirror(SERVICE, "verify", "--json")
    assert verified.returncode == 4, verified.stdout + verified.stderr
    assert any(
        one["file"].startswith(name) and "Permission denied" in one["problem"]
        for one in json_of(verified)["facts"]["findings"]
    )
    served.place.acme.repositories["handbook"].commit("main", {"a": b"a\n"}, "One more\n")
    backed = served.mirror(SERVICE, "backup", "--json")
    assert backed.returncode in ((0,) if chosen is a_record else (1, 4)), backed.stdout + backed.stderr
    if chosen is a_repository:
        assert f"{name}/repository.json cannot be read" in backed.stdout
    outcomes = {one["full_name"]: one["outcome"] for one in json_of(backed)["entries"]}
    assert outcomes.get("acme/handbook") == "saved", backed.stdout + backed.stderr
    doctor = served.mirror(SERVICE, "doctor")
    assert f"{name} belongs to root" in doctor.stdout
    assert f"chown -R {SERVICE}:{SERVICE} {served.store}" in doctor.stdout
    served.give_back()
    assert served.mirror(SERVICE, "doctor").returncode == 0
    assert served.mirror(SERVICE, "backup").returncode == 0


def test_a_folder_of_repositories_that_may_not_be_listed_gets_no_second_folder(served: Served) -> None:
    inside = next((served.store / "workspaces").glob("*/repositories"))
    os.chown(inside, 0, 0)
    backed = served.mirror(SERVICE, "backup", "--json")
    assert backed.returncode in (1, 4), backed.stdout + backed.stderr
    assert "cannot be read" in backed.stdout
    served.give_back()
    with Store.open(served.store) as store:
        assert [one.full_name for one in store.repositories()] == ["acme/website"]


def test_the_folder_of_run_records_that_may_not_be_read_is_a_finding_too(served: Served) -> None:
    runs = served.store / "runs"
    os.chown(runs, 0, 0)
    runs.chmod(0o700)
    status = served.mirror(SERVICE, "status", "--json")
    assert status.returncode == 4, status.stdout + status.stderr
    assert len(json_of(status)["repositories"]) == 1
    assert "runs: it cannot be read: Permission denied" in json_of(status)["damage"]
    verified = served.mirror(SERVICE, "verify", "--level", "refs", "--json")
    assert verified.returncode == 4, verified.stdout + verified.stderr
    assert json_of(verified)["facts"]["checked"]["snapshots"] > 0, (
        "the repositories are verified all the same"
    )
    backed = served.mirror(SERVICE, "backup")
    assert backed.returncode == 1, backed.stdout + backed.stderr
    assert "mirror doctor lists" in backed.stderr
