"""The files that make a service: units, user, folders, and a drop-in for what a configuration needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mirror.systemd.needs import Needs

# What the files in `units` name, as a package installs them.
PROGRAM, USER, CONFIG = "/usr/bin/mirror", "mirror", "/etc/mirror/config.yaml"
SERVICES = ("mirror.service", "mirror-backup.service")
# Each file in `units`, and its place below /etc (of the administrator) or /usr/lib (of a package).
_PLACES = {
    "mirror.service": "systemd/system/mirror.service",
    "mirror-backup.service": "systemd/system/mirror-backup.service",
    "mirror-backup.timer": "systemd/system/mirror-backup.timer",
    "mirror.sysusers.conf": "sysusers.d/mirror.conf",
    "mirror.tmpfiles.conf": "tmpfiles.d/mirror.conf",
}
_DROP_IN = "systemd/system/{}.d/50-configuration.conf"


@dataclass(frozen=True)
class Service:
    """Which program runs as which user and group, with which configuration."""

    program: Path = Path(PROGRAM)
    user: str = USER
    group: str = USER
    config: Path = Path(CONFIG)


def units(service: Service) -> dict[str, str]:
    """The units, the user and the folders of `service`: the text of each file by its place below /etc."""
    folder = resources.files("mirror.systemd") / "units"
    return {place: _adapted((folder / name).read_text("utf-8"), service) for name, place in _PLACES.items()}


def drop_ins(needs: Needs) -> dict[str, str]:
    """What a configuration needs beyond the units: the text of each drop-in by its place below /etc."""
    unit = [f"RequiresMountsFor={_word(path)}" for path in needs.mounts]
    # With a minus, the service starts without the folder, and says itself what it misses.
    service = [f"ReadWritePaths=-{_word(path)}" for path in needs.writable]
    service += [f"LoadCredential={name}:{_escaped(path)}" for name, path in needs.credentials]
    lines = ["# What the configuration needs. After changing it, run `mirror systemd install` again."]
    lines += ["[Unit]", *unit] if unit else []
    lines += ["[Service]", *service] if service else []
    text = "\n".join(lines) + "\n"
    return {_DROP_IN.format(name): text for name in SERVICES}


def _adapted(text: str, service: Service) -> str:
    """A file with the program, user and configuration of `service` in place of a package's."""
    text = text.replace(f"ExecStart={PROGRAM} ", f"ExecStart={_word(service.program)} ")
    text = text.replace(f" -c {CONFIG} ", f" -c {_word(service.config)} ")
    text = re.sub(rf"^User={USER}$", f"User={service.user}", text, flags=re.MULTILINE)
    text = re.sub(rf"^Group={USER}$", f"Group={service.group}", text, flags=re.MULTILINE)
    text = re.sub(rf"^u {USER} ", f"u {service.user} ", text, flags=re.MULTILINE)
    text = text.replace(f" root {USER} -", f" root {service.group} -")
    return text.replace(f" {USER} {USER} -", f" {service.user} {service.group} -")


def _escaped(path: Path) -> str:
    """A path as unit files write it: % begins a specifier there."""
    return str(path).replace("%", "%%")


def _word(path: Path) -> str:
    """A path as one word of a line that lists several."""
    text = _escaped(path)
    if not re.search(r"[\s\"'\\]", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
