"""This machine: the store and its disk, C git, the way to the network."""

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
    """The store at `path`: what it holds, whose it is, and whether its disk can be relied on."""
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
    """What in the store is not its owner's: a command that was run as another user leaves it, and the
    owner may not read it."""
    first, count = "", 0
    for name, theirs in foreign(path, owner):
        count += 1
        whose = f"belongs to {theirs.user}" if theirs is not None else "cannot be looked into"
        first = first or f"{name} {whose}"
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
        return Check("disk", "warn", text, "make room: a backup that runs out of disk is incomplete")
    return Check("disk", "ok", text)


def _lock_check(place: Path) -> Check:
    """Locks, rename and fsync: what some network file systems only pretend to do."""
    probe_file = place / f".mirror-doctor-{os.getpid()}"
    moved = probe_file.with_suffix(".moved")
    try:
        descriptor = os.open(probe_file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            second = os.open(probe_file, os.O_RDWR)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return Check("locks", "fail", f"{place} gives one lock twice", "use a local file system")
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
            text = f"{place}: flock, rename and fsync work, but the file system knows no fsync of a folder"
            remedy = "after a power failure the newest files may be missing; use a local file system"
            return Check("locks", "warn", text, remedy)
        return Check("locks", "ok", "flock, rename and fsync work")
    except OSError as error:
        text = f"{place} cannot be written: {error.strerror}"
        remedy = "run as the user who owns the store, or name another place"
        if error.errno == errno.EROFS:
            remedy = "the disk is mounted read-only: mount it for writing, or name another place"
        return Check("locks", "fail", text, remedy)
    finally:
        for one in (probe_file, moved):
            with contextlib.suppress(OSError):
                one.unlink(missing_ok=True)


def upkeep_check(environment: Mapping[str, str]) -> Check:
    """Which way upkeep goes: packs are joined by ourselves, what else helps is done by C git."""
    ours = "small packs of mirrors are joined by mirror itself"
    found = cgit.find(environment.get("PATH", ""))
    if found is None:
        text = f"{ours}; C git is not installed: large mirrors get no graph of commits, prune frees no code"
        return Check("upkeep", "ok", text, "install git to have both")
    version = cgit.version(found)
    if version is None:
        return Check("upkeep", "warn", f"{ours}; {found} does not run", "mend it, or take it off the PATH")
    text = f"{ours}; {version} ({found}) writes the graph of commits of large ones, and frees code for prune"
    return Check("upkeep", "ok", text)


async def network_checks(config: Config, environment: Mapping[str, str]) -> list[Check]:
    """How servers are reached, which the API, git and LFS heed alike."""
    try:
        network = await network_of(config, environment)
    except MirrorError as error:
        return [failed("network", error)]
    return [Check(f"network: {name}", "ok", text) for name, text in network.describe()]
