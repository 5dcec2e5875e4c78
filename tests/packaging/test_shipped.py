"""The files shipped beside the code agree with it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mirror.cli import backed_up
from mirror.cli.manual import page
from mirror.cli.parser import build
from mirror.collect.catalogue import CATALOGUE
from mirror.errors import PRECEDENCE

ROOT = Path(__file__).parents[2]


def test_shipped_files_use_commands_that_exist() -> None:
    [commands] = [action for action in build()._actions if action.dest == "command"]
    known = set(commands.choices or ())
    used = set()
    units = sorted((ROOT / "mirror/systemd/units").glob("*.service"))
    for path in (ROOT / "Dockerfile", *units):
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r"""^ExecStart=/usr/bin/mirror (\w+)""", text, re.MULTILINE))
        used |= set(re.findall(r"""CMD \["(?:mirror", ")?(\w+)""", text))
    assert used == {"backup", "daemon", "status"}
    assert used <= known


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name.decode() for name in done.stdout.split(b"\0") if name]


def test_no_file_names_a_package_registry() -> None:
    address = re.compile(rb"(?:pypi\.(?:org|python)|pythonhosted|index-url|registry\.npm)" + rb"\b")
    for path in tracked():
        if path != Path(__file__) and path.is_file():
            found = [line for line in path.read_bytes().splitlines() if address.search(line)]
            # The command that writes the lock files tells uv to omit the address.
            assert all(b"--no-emit-index-url" in line for line in found), path


def test_everything_is_pinned_by_hash() -> None:
    for name in ("run.lock", "dev.lock", "build.lock"):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        packages = re.split(r"\n(?=\S)", text.strip())
        assert len(packages) > 5
        assert all("==" in one and "--hash=sha256:" in one for one in packages), name


def test_the_map_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert text.count("\n") < 150
    for path in (ROOT / "mirror").iterdir():
        room = path.stem
        if not room.startswith("__") and path.suffix in ("", ".py") and room != "py":
            assert f"`{room}`" in text, room


def test_the_list_of_what_is_backed_up_is_the_catalogues() -> None:
    text = (ROOT / "docs" / "what-is-backed-up.md").read_text(encoding="utf-8")
    assert text == backed_up.page(), "run: make man"
    for row in CATALOGUE:
        assert f"| {row.kind}" in text


def test_the_manual_lists_every_exit_code_that_can_occur() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for code in PRECEDENCE:
        assert f"| {code} |" in text


def test_the_manual_page_is_the_parsers() -> None:
    kept = (ROOT / "docs" / "mirror.1").read_text(encoding="utf-8")
    assert kept == page(), "run: python -m mirror.cli.manual > docs/mirror.1"
