"""The Debian package, installed by dpkg into a throw-away copy of this machine's system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mirror import __version__
from tests.packaging.conftest import ROOT, Distributions

TOOLS = ("dpkg-deb", "dpkg", "unshare", "systemd-sysusers")
# An overlay of this system, with a package database, users and Python of its own; nothing in it stays.
COPY = """
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
export PACKAGE="$2"
exec chroot "$1/root" sh -eu -c "$3"
"""


def lacking(reason: str) -> None:
    """Skip; but CI has everything that these tests need."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def package(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package for Debian 12, with the dependencies that are installed here."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("Debian 12 has Python 3.11, and this is another one")
    for tool in TOOLS:
        if shutil.which(tool) is None:
            lacking(f"{tool} is not installed")
    return built(distributions.wheel, tmp_path_factory.mktemp("package"))


def built(wheel: Path, folder: Path) -> Path:
    """Build a package in `folder`, quickly; returns its path."""
    done = subprocess.run(
        [sys.executable, ROOT / "packaging/debian/build.py", wheel, "--installed", "--to", folder],
        capture_output=True, text=True, check=False,
        env={**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def in_a_copy(package: Path, script: str) -> str:
    """What a script prints in a copy of this system; it may do there what it likes. Fails if it fails."""
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-eu", "-c", COPY, "sh", "/mnt", package, script],
        capture_output=True, text=True, check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    if done.returncode != 0 and ("unshare:" in done.stderr or "mount:" in done.stderr):
        pytest.skip(f"this machine lets nobody make an overlay of its system: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_installs_works_and_goes_without_the_store(package: Path) -> None:
    """One copy for all of it: each installation compiles the program, which takes seconds."""
    told = in_a_copy(
        package,
        """
        dpkg --force-unsafe-io -i "$PACKAGE"
        mirror version
        stat -c '%n %U %G %a' /etc/mirror /var/lib/mirror
        cd /
        setpriv --reuid mirror --regid mirror --clear-groups mirror init --store /var/lib/mirror
        mirror systemd install
        systemd-analyze verify --man=no mirror.service mirror-backup.timer
        gzip -dc /usr/share/man/man1/mirror.1.gz | head -1
        bash -c '. /usr/share/bash-completion/completions/mirror; complete -p mirror'
        echo store: /var/lib/mirror > /etc/mirror/config.yaml
        mkdir -p /etc/systemd/system/mirror.service.d
        touch /etc/systemd/system/mirror.service.d/50-configuration.conf
        dpkg --force-unsafe-io -i "$PACKAGE"
        dpkg -r mirror
        ls -A /usr/lib/mirror 2>/dev/null || echo program: gone
        ls /etc/systemd/system/mirror.service.d/50-configuration.conf
        dpkg -P mirror
        ls /var/lib/mirror/store.json /etc/mirror/config.yaml
        ls /usr/bin/mirror 2>&1 || ls /usr/lib/systemd/system/mirror.service 2>&1 || echo command: gone
        ls -d /etc/systemd/system/mirror.service.d 2>&1 || echo drop-in: gone
        id mirror
        # What nobody used goes.
        rm -r /var/lib/mirror/* /etc/mirror/*
        dpkg-deb -e "$PACKAGE" /root/control
        /root/control/postrm purge
        ls -d /etc/mirror /var/lib/mirror 2>&1 || echo folders: gone
        """,
    )
    assert f"mirror {__version__}\n" in told
    assert "/etc/mirror root mirror 750" in told and "/var/lib/mirror mirror mirror 700" in told
    assert "Created a store at /var/lib/mirror" in told
    assert told.count("comes with the package") == 5
    assert ".TH MIRROR 1" in told and "complete " in told
    assert "/etc/systemd/system/mirror.service.d/50-configuration.conf\n" in told
    for gone in ("program", "command", "drop-in", "folders"):
        assert f"{gone}: gone" in told, gone
    assert "/var/lib/mirror is not empty, so it stays" in told
    assert "/var/lib/mirror/store.json\n" in told and "/etc/mirror/config.yaml\n" in told


def test_the_same_input_gives_the_same_bytes(
    package: Path, distributions: Distributions, tmp_path: Path
) -> None:
    assert built(distributions.wheel, tmp_path).read_bytes() == package.read_bytes()


def test_lintian_finds_nothing(package: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")  # in CI neither: it takes a minute; RELEASING.md asks for it
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", package], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
