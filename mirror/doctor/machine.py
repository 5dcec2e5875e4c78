"""Checks of this machine: the store and its disk, C git, the network settings."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from mirror.config.settings import Config
from mirror.connect import network_of
from mirror.doctor.checks import Check, failed
from mirror.errors import MirrorError
from mirror.fs.durable import sync_folder
from mirror.git import cgit
from mirror.store.reading.owner import Owner, foreign, owner_of
from mirror.store.reading.reader import Store, StoreDamaged

FREE_LEAST = 5 * 1024**3


def store_checks(path: Path) -> list[Check]:
    """Checks of the store at `path`: its content, its owner, its disk and its file system."""
    name = f"store {path}"
    try:
        with Store.open(path) as store:
            damages: list[StoreDamaged] = []
            number = len(store.repositories(on_damage=damages.append))
            checks = [Check(name, "ok", f"format {store.format}, {number} repositories")]
            checks += [failed(name, damage) for damage in damages]
    except MirrorError as error:
        checks = [failed(name, error)]
    owner = owner_of(path)
    if owner is not None:
        checks.append(_owner_check(path, owner))
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    checks.append(_disk_check(place))
    checks.append(_lock_check(place))
    return checks


def _owner_check(path: Path, owner: Owner) -> Check:
    """Whether everything in the store belongs to its owner. A command that ran as another user leaves files
    that the owner may be unable to read."""
    first, count = "", 0
    for name, theirs in foreign(path, owner):
        count += 1
        ownership = f"belongs to {theirs.user}" if theirs is not None else "cannot be read"
        first = first or f"{name} {ownership}"
    if not count:
        return Check("owner", "ok", f"everything in the store belongs to {owner.user}")
    more = f", and {count - 1} more" if count > 1 else ""
    text = f"the store belongs to {owner.user}, but {first}{more}"
    remedy = f"run as root: chown -R {owner.user}:{owner.group} {shlex.quote(str(path))}"
    return Check("owner", "fail", text, remedy)


def _disk_check(place: Path) -> Check:
    free = shutil.disk_usage(place).free
    text = f"{free / 1024**3:.1f} GiB free at {place}"
    if free < FREE_LEAST:
        return Check("disk", "warn", text, "free some space: a backup that runs out of disk is incomplete")
    return Check("disk", "ok", text)


def _lock_check(place: Path) -> Check:
    """Whether locks, rename and fsync work: some network file systems only pretend to support them."""
    probe_file = place / f".mirror-doctor-{os.getpid()}"
    moved = probe_file.with_suffix(".moved")
    try:
        descriptor = os.open(probe_file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            second = os.open(probe_file, os.O_RDWR)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return Check(
                    "locks",
                    "fail",
                    f"{place} grants the same lock twice",
                    "use a local file system",
                )
            except BlockingIOError:
                pass
            finally:
                os.close(second)
            os.write(descriptor, b"probe")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        probe_file.rename(moved)
        if not sync_folder(place):
            text = f"{place}: flock, rename and fsync work, but the file system lacks fsync of folders"
            remedy = "after a power failure the newest files may be missing; use a local file system"
            return Check("locks", "warn", text, remedy)
        return Check("locks", "ok", "flock, rename and fsync work")
    except OSError as error:
        text = f"{place} cannot be written: {error.strerror}"
        remedy = "run as the user who owns the store, or choose another folder"
        if error.errno == errno.EROFS:
            remedy = "the disk is mounted read-only: mount it for writing, or choose another folder"
        return Check("locks", "fail", text, remedy)
    finally:
        for one in (probe_file, moved):
            with contextlib.suppress(OSError):
                one.unlink(missing_ok=True)


def maintenance_check(environment: Mapping[str, str]) -> Check:
    """Which maintenance of mirrors is possible: mirror merges small packs itself; C git does the rest."""
    ours = "mirror merges small packs itself"
    found = cgit.find(environment.get("PATH", ""))
    if found is None:
        text = f"{ours}; C git is not installed: large mirrors get no commit-graph, and prune frees no code"
        return Check("upkeep", "ok", text, "install git for both")
    version = cgit.version(found)
    if version is None:
        return Check("upkeep", "warn", f"{ours}; {found} does not run", "repair it, or remove it from PATH")
    text = f"{ours}; {version} ({found}) writes the commit-graph of large mirrors, and frees code for prune"
    return Check("upkeep", "ok", text)


async def network_checks(config: Config, environment: Mapping[str, str]) -> list[Check]:
    """The network settings, which apply to the API, git and LFS alike."""
    try:
        network = await network_of(config, environment)
    except MirrorError as error:
        return [failed("network", error)]
    return [Check(f"network: {name}", "ok", text) for name, text in network.describe()]
