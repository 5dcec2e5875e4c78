"""`mirror systemd install` writes what a service needs, once, and never over somebody's work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mirror.config import load
from mirror.systemd import Service, drop_ins, hidden_from_services, needs_of, units
from tests.e2e.helpers import mirror

UNITS = Path("etc/systemd/system")
CONFIG = """\
store: /srv/back up/store
workspaces:
  - workspace: acme
    credentials:
      - {kind: workspace_access_token, token: {credential: acme.token}}
      - {kind: api_token, email: a@acme.example, token: {env: TOOLS_TOKEN}}
notify: {urls: [{credential: mail}, {file: /root/chat}]}
web: {textfile: /var/lib/node_exporter/mirror.prom}
"""
need_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def install(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return mirror("systemd", "install", "--root", str(root), *words)


def states(root: Path, *words: str) -> dict[str, str]:
    """The state of each file, by its path."""
    told = json.loads(install(root, "--json", *words).stdout)
    return {one["path"]: one["state"] for one in told["files"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty system with a configuration."""
    (tmp_path / "etc/mirror").mkdir(parents=True)
    (tmp_path / "etc/mirror/config.yaml").write_text(CONFIG)
    return tmp_path


def test_it_writes_everything_once_and_says_what_follows(root: Path) -> None:
    done = install(root)
    assert done.returncode == 0, done.stderr
    for name in ("mirror.service", "mirror-backup.service", "mirror-backup.timer"):
        assert (root / UNITS / name).stat().st_mode & 0o777 == 0o644
    for command in ("systemd-sysusers", "systemctl enable --now mirror", "systemctl disable"):
        assert command in done.stdout
    assert set(states(root).values()) == {"unchanged"}


def test_the_drop_in_has_what_the_configuration_needs(root: Path) -> None:
    done = install(root)
    for name in ("mirror.service", "mirror-backup.service"):
        text = (root / UNITS / f"{name}.d/50-configuration.conf").read_text()
        assert text.splitlines()[2:] == [
            "[Unit]",
            'RequiresMountsFor="/srv/back up/store"',
            "[Service]",
            'ReadWritePaths=-"/srv/back up/store"',
            "ReadWritePaths=-/var/lib/node_exporter",
            "LoadCredential=acme.token:/etc/mirror/acme.token",
            "LoadCredential=mail:/etc/mirror/mail",
        ]
    assert "no environment variable TOOLS_TOKEN" in done.stdout
    assert "does not see /root/chat" in done.stdout


def test_without_a_configuration_it_asks_for_one(root: Path) -> None:
    (root / "etc/mirror/config.yaml").unlink()
    done = install(root)
    assert done.returncode == 0 and "write /etc/mirror/config.yaml" in done.stdout
    assert not (root / UNITS / "mirror.service.d").exists()


def test_a_faulty_configuration_writes_nothing(root: Path) -> None:
    (root / "etc/mirror/config.yaml").write_text("stor: x\n")
    assert install(root).returncode == 2
    assert not (root / UNITS).exists()


def test_a_dry_run_shows_the_texts_and_writes_nothing(root: Path) -> None:
    done = install(root, "--dry-run")
    assert done.returncode == 0 and "ExecStart=/usr/bin/mirror daemon" in done.stdout
    assert not (root / UNITS).exists()


def test_what_somebody_changed_stays_and_an_older_version_of_ours_does_not(root: Path) -> None:
    install(root, "--user", "older")
    unit, timer = root / UNITS / "mirror.service", root / UNITS / "mirror-backup.timer"
    timer.write_text(timer.read_text().replace("00/4", "00/2"))
    done = install(root)
    assert done.returncode == 3
    assert "mirror-backup.timer: left: it was changed by hand" in done.stdout
    assert "00/2" in timer.read_text() and "User=mirror" in unit.read_text()
    assert str(timer.relative_to(root)) not in done.stdout.partition("  rm ")[2]
    timer.unlink()
    timer.symlink_to("/dev/null")  # systemctl mask
    assert install(root).returncode == 3 and timer.is_symlink()


def test_what_a_package_installed_is_not_installed_again(root: Path) -> None:
    for place, text in units(Service()).items():
        path = root / "usr/lib" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = states(root)
    assert found["/etc/systemd/system/mirror.service"] == "packaged"
    assert found["/etc/systemd/system/mirror.service.d/50-configuration.conf"] == "new"
    assert "systemd-sysusers" not in install(root, "--dry-run").stdout
    assert states(root, "--user", "other")["/etc/systemd/system/mirror.service"] == "new"


@pytest.mark.parametrize("words", [("--user", "a b"), ("--user", "x\nExecStart=/bin/sh")])
def test_a_name_that_is_none_is_refused(root: Path, words: tuple[str, ...]) -> None:
    assert install(root, *words).returncode == 2


def test_a_folder_that_refuses_is_named(root: Path) -> None:
    (root / "etc/systemd").touch()  # root can write everywhere
    done = install(root)
    assert done.returncode == 2 and str(root / "etc/systemd") in done.stderr


def test_no_service_runs_what_lies_in_a_home() -> None:
    assert hidden_from_services(Path("/root/.local/share/pipx/venvs/mirror/bin/mirror"))
    assert not hidden_from_services(Path("/opt/pipx/venvs/mirror/bin/mirror"))


@need_systemd
@pytest.mark.parametrize("name", ["mirror.service", "mirror-backup.service"])
def test_the_units_are_clean_and_hardened(tmp_path: Path, name: str) -> None:
    """With every drop-in that a configuration can cause."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    needs = needs_of(load(tmp_path / "config.yaml"), Path("/etc/mirror"))
    for place, text in (units(Service(program=Path("/bin/true"))) | drop_ins(needs)).items():
        path = tmp_path / Path(place).relative_to(Path(place).parts[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    unit = str(tmp_path / "system" / name)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=False
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated.stdout)
    assert found is not None, rated.stdout + rated.stderr
    assert float(found[1]) <= 1.5
