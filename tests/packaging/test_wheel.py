"""The wheel and the sdist have everything, and the program works from the wheel in an empty environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from mirror import __version__
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.packaging.conftest import ROOT, Distributions

# Files of the checkout, and where they are below the prefix.
SHARED = {
    "docs/mirror.1": "share/man/man1/mirror.1",
    "packaging/completion/mirror.bash": "share/bash-completion/completions/mirror",
    "packaging/completion/_mirror": "share/zsh/site-functions/_mirror",
    "packaging/completion/mirror.fish": "share/fish/vendor_completions.d/mirror.fish",
    "config.example.yaml": "share/doc/mirror/config.example.yaml",
    "deploy/prometheus/mirror-alerts.yaml": "share/doc/mirror/deploy/prometheus/mirror-alerts.yaml",
    "deploy/grafana/mirror.json": "share/doc/mirror/deploy/grafana/mirror.json",
}


def run(prefix: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of the environment, which knows nothing of this checkout."""
    return subprocess.run(
        [prefix / "bin/mirror", *words], cwd=cwd, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd)},
    )  # fmt: skip


def test_shared_files_are_where_distributions_expect_them(prefix: Path) -> None:
    for source, place in SHARED.items():
        assert (prefix / place).read_bytes() == (ROOT / source).read_bytes(), place
    [licence] = prefix.glob("lib/python*/site-packages/mirror-*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_has_every_file_of_the_package_and_no_other(distributions: Distributions) -> None:
    done = subprocess.run(
        ["git", "ls-files", "mirror"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    with ZipFile(distributions.wheel) as wheel:
        inside = {name for name in wheel.namelist() if name.startswith("mirror/")}
    assert inside == set(done.stdout.splitlines())


def test_the_sdist_builds_the_same_wheel(distributions: Distributions, tmp_path: Path) -> None:
    with tarfile.open(distributions.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [again] = (tmp_path / "dist").iterdir()
    assert again.read_bytes() == distributions.wheel.read_bytes()


def test_the_program_works_from_the_wheel(prefix: Path, tmp_path: Path) -> None:
    """A backup with its worker processes, pages from templates, and the units."""
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        write_config(tmp_path, simulator, token)
        told = run(prefix, "version", cwd=tmp_path)
        assert (told.stdout, told.returncode) == (f"mirror {__version__}\n", 0), told.stderr
        backup = run(prefix, "backup", "acme/website", cwd=tmp_path)
        assert backup.returncode == 0, backup.stdout + backup.stderr
    pages = run(prefix, "export", "acme/website", "--to", "pages", "--format", "html", cwd=tmp_path)
    assert pages.returncode == 0 and (tmp_path / "pages/index.html").is_file(), pages.stderr
    image = tmp_path / "image"
    installed = run(prefix, "systemd", "install", "--root", str(image), cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    assert (image / "etc/systemd/system/mirror.service").is_file()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_what_each_shell_reads(prefix: Path, shell: str) -> None:
    """`tests/cli` holds what completion offers; here, that each shell gets it from the file in the prefix."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    [place] = [one for name, one in SHARED.items() if "completion/" in name and shell in one]
    # The function that the shell calls for the command: of ours first, then of what ours asked for.
    asked = {
        "bash": f"echo ours; . {prefix / place}; complete -p mirror",
        "zsh": f"fpath=({(prefix / place).parent} $fpath); autoload -Uz compinit; compinit -u -D;"
        " print $_comps[mirror]; _mirror 2>/dev/null; print $_comps[mirror]",
        "fish": f"echo ours; . {prefix / place}; complete -C 'mirror accept-lo'",
    }[shell]
    done = subprocess.run(
        [shell, "-c", asked], capture_output=True, text=True, check=False,
        env={"PATH": f"{prefix / 'bin'}:{os.environ['PATH']}", "HOME": str(prefix)},
    )  # fmt: skip
    ours, function, *_ = done.stdout.splitlines()
    assert function != ours and re.search("mirror|accept-loss", function), done.stdout + done.stderr
