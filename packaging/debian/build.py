"""Builds the Debian package: `python packaging/debian/build.py WHEEL --to DIR`.

The package has the program and every dependency of requirements/run.lock, checked by hash, in a virtual
environment at /usr/lib/mirror for the Python of one Debian release. So installing it needs no network, and an
upgrade of another package changes nothing in it. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import email
import gzip
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The Python of each Debian.
PYTHONS = {"12": "3.11", "13": "3.13"}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
PROGRAM = "usr/lib/mirror"


def main() -> None:
    """Build the package that the command line asks for; print its path."""
    asked = argparse.ArgumentParser(description="Builds the Debian package.")
    asked.add_argument("wheel", type=Path, help="the wheel of this version")
    asked.add_argument("--to", type=Path, default=ROOT / "dist", help="the folder for the package")
    asked.add_argument("--debian", choices=PYTHONS, default="12", help="for which Debian")
    asked.add_argument("--architecture", choices=MACHINES, default="amd64")
    asked.add_argument(
        "--installed", action="store_true",
        help="do not download the dependencies: copy those that are installed beside this Python",
    )  # fmt: skip
    options = asked.parse_args()
    python = PYTHONS[options.debian]
    with TemporaryDirectory() as folder:
        tree, wheels = Path(folder) / "tree", Path(folder) / "wheels"
        packages = tree / PROGRAM / f"lib/python{python}/site-packages"
        packages.mkdir(parents=True)
        if options.installed:
            _copy(packages, python)
        else:
            _download(wheels, python, MACHINES[options.architecture])
        for wheel in [*sorted(wheels.glob("*.whl")), options.wheel]:
            _unpack(wheel, packages)
        version = _lay_out(tree, packages, python)
        _describe(tree, version, options.debian, options.architecture)
        options.to.mkdir(parents=True, exist_ok=True)
        print(_pack(tree, options.to))


def _download(folder: Path, python: str, machine: str) -> None:
    """The wheels of run.lock for a Python and a machine, each with the hash that the lock names."""
    platforms = [f"manylinux_2_{glibc}_{machine}" for glibc in (36, 34, 28, 17)] + [
        f"manylinux2014_{machine}"
    ]
    words = [f"--platform={one}" for one in platforms]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
         "--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *words,
         "--dest", str(folder), "-r", str(ROOT / "requirements/run.lock")],
        check=True,
    )  # fmt: skip


def _copy(packages: Path, python: str) -> None:
    """The distributions of run.lock that are installed here, without what was compiled."""
    if python != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise SystemExit(f"this is Python {sys.version_info.major}.{sys.version_info.minor}, not {python}")
    lock = (ROOT / "requirements/run.lock").read_text()
    for name, version in re.findall(r"^([\w.-]+)==(\S+) \\$", lock, re.MULTILINE):
        found = distribution(name)
        if found.version != version:
            raise SystemExit(f"{name} is installed as {found.version}, and run.lock names {version}")
        for file in found.files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), packages / file)


def _unpack(wheel: Path, packages: Path) -> None:
    """A wheel without what belongs elsewhere, such as commands."""
    with ZipFile(wheel) as archive:
        archive.extractall(packages, [name for name in archive.namelist() if ".data/" not in name])


def _lay_out(tree: Path, packages: Path, python: str) -> str:
    """Lay out the environment and the files of the system around `packages`; returns the version."""
    program = tree / PROGRAM
    (program / "bin").mkdir()
    (program / "bin/python3").symlink_to("../../../bin/python3")
    (program / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    )
    command = program / "bin/mirror"
    command.write_text(
        f"#!/{PROGRAM}/bin/python3\nimport sys\n\nfrom mirror.cli import main\n\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    (tree / "usr/bin").mkdir()
    (tree / "usr/bin/mirror").symlink_to("../lib/mirror/bin/mirror")
    _share(tree, packages)
    [metadata] = packages.glob("mirror-*.dist-info/METADATA")
    return str(email.message_from_bytes(metadata.read_bytes())["Version"])


def _share(tree: Path, packages: Path) -> None:
    """Units, user, folders, manual page, completion and documents, where Debian has them."""
    units = packages / "mirror/systemd/units"
    places = {
        "usr/lib/systemd/system": sorted(units.glob("*.service")) + sorted(units.glob("*.timer")),
        "usr/share/doc/mirror/docs": sorted((ROOT / "docs").glob("*.md")),
        "usr/share/doc/mirror": [ROOT / "README.md", ROOT / "config.example.yaml", HERE / "README.Debian"],
        "usr/share/lintian/overrides": [HERE / "lintian-overrides/mirror"],
    }
    for place, files in places.items():
        (tree / place).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, tree / place / file.name)
    shutil.copytree(ROOT / "deploy", tree / "usr/share/doc/mirror/deploy")
    shutil.copytree(ROOT / "docs/pictures", tree / "usr/share/doc/mirror/docs/pictures")
    renamed = {
        units / "mirror.sysusers.conf": "usr/lib/sysusers.d/mirror.conf",
        units / "mirror.tmpfiles.conf": "usr/lib/tmpfiles.d/mirror.conf",
        ROOT / "packaging/completion/mirror.bash": "usr/share/bash-completion/completions/mirror",
        ROOT / "packaging/completion/_mirror": "usr/share/zsh/vendor-completions/_mirror",
        ROOT / "packaging/completion/mirror.fish": "usr/share/fish/vendor_completions.d/mirror.fish",
    }
    for file, place in renamed.items():
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, tree / place)
    _compress(ROOT / "docs/mirror.1", tree / "usr/share/man/man1/mirror.1.gz")
    _compress(ROOT / "CHANGELOG.md", tree / "usr/share/doc/mirror/CHANGELOG.md.gz")
    (tree / "usr/share/doc/mirror/copyright").write_text(_copyright(packages))


def _compress(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(source.read_bytes(), mtime=0))


def _copyright(packages: Path) -> str:
    """The licences of the program and of what the package contains beside it."""
    lines = [(HERE / "copyright").read_text()]
    for metadata in sorted(packages.glob("*.dist-info/METADATA")):
        told = email.message_from_bytes(metadata.read_bytes())
        classifiers = [
            one.rpartition(" :: ")[2] for one in told.get_all("Classifier", []) if "License" in one
        ]
        short = (told["License"] or "").partition("\n")[0]
        licence = told["License-Expression"] or "; ".join(classifiers) or short or "see its dist-info"
        lines.append(f" {told['Name']} {told['Version']}: {licence}\n")
    return "".join(lines)


def _describe(tree: Path, version: str, debian: str, architecture: str) -> None:
    """Write DEBIAN/, with the maintainer scripts."""
    python = PYTHONS[debian]
    major, _, minor = python.partition(".")
    size = sum(path.lstat().st_size for path in tree.rglob("*") if not path.is_dir()) // 1024
    (tree / "DEBIAN").mkdir()
    control = (HERE / "control.in").read_text().format(
        version=f"{version}+deb{debian}", architecture=architecture, size=size, python=python,
        next_python=f"{major}.{int(minor) + 1}",
    )  # fmt: skip
    (tree / "DEBIAN/control").write_text(control)
    for script in ("postinst", "prerm", "postrm"):
        shutil.copyfile(HERE / script, tree / "DEBIAN" / script)
        (tree / "DEBIAN" / script).chmod(0o755)


def _pack(tree: Path, folder: Path) -> Path:
    """Build the package, with the changelog's day as the time of every file; returns its path."""
    days = re.findall(r"^## \S+ — (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    epoch = int(datetime.fromisoformat(days[0]).replace(tzinfo=UTC).timestamp())
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    done = subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(folder)], check=True,
        capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C"},
    )  # fmt: skip
    [path] = re.findall(r"in '(.*)'", done.stdout)
    return Path(path)


if __name__ == "__main__":
    main()
