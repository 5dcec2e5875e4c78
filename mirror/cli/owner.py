"""When root works on another user's store, the process becomes that user, so that new files are that
user's too."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import mirror
from mirror.auth.secrets import SecretSource
from mirror.errors import UsageError
from mirror.logs import get_logger
from mirror.store.reading.owner import Owner, owner_of

if TYPE_CHECKING:
    from mirror.config import Config

_log = get_logger("cli")


def become_owner(store: Path, command: str, *, needed: Iterable[Path] = ()) -> None:
    """If root runs this and the store belongs to another user, become that user for good.

    `command` is the command's name, for messages; `needed` are files that it reads later. Call it before
    anything is written. Raises UsageError with both ways out where root cannot become that user, or that
    user cannot read a needed file. Does nothing without a store, or for other users than root.
    """
    owner = owner_of(store)
    if os.geteuid() != 0 or owner is None or owner.uid == 0:
        return
    try:
        os.setgroups(owner.groups)
        os.setresgid(owner.gid, owner.gid, owner.gid)
        os.setresuid(owner.uid, owner.uid, owner.uid)
    except OSError as error:
        raise _refused(store, command, owner, f"root cannot become that user: {error.strerror}") from None
    for path in needed:
        if not os.access(path, os.R_OK):
            raise _refused(store, command, owner, f"{path} cannot be read by that user")
    if not _can_run():
        text = f"the program itself ({sys.executable}) cannot be run by that user"
        raise _refused(store, command, owner, text)
    _log.warning("cli.became_owner", user=owner.user, store=str(store), reason="root keeps the store's owner")


def secret_files(config: Config) -> list[Path]:
    """The existing files with the secrets of `config`."""
    sources = [
        *(config.notify.urls if config.notify is not None else ()),
        *((config.ping.url,) if config.ping is not None else ()),
        *((config.web.token,) if config.web is not None and config.web.token is not None else ()),
        *((config.hooks.secret,) if config.hooks is not None else ()),
        *((config.cluster.database,) if config.cluster is not None else ()),
    ]
    if config.hooks is not None and config.hooks.previous_secret is not None:
        sources.append(config.hooks.previous_secret)
    for copy in config.copies:
        secrets = (copy.access_key_id, copy.secret_access_key, copy.names_key)
        sources += [one for one in secrets if one is not None]
    sources += [
        value
        for workspace in config.workspaces
        for credential in workspace.credentials
        for value in (getattr(credential, field.name) for field in dataclasses.fields(credential))
        if isinstance(value, SecretSource)
    ]
    files = [Path(str(source.value)) for source in sources if source.kind == "file"]
    return [path for path in files if path.exists()]


def _can_run() -> bool:
    """Whether this user can start worker processes."""
    words = [sys.executable, "-P", "-c", "import mirror.git.workers.main"]
    environment = {"PYTHONPATH": str(Path(mirror.__file__).parents[1])}
    with contextlib.suppress(OSError):
        done = subprocess.run(words, env=environment, capture_output=True, check=False)
        return done.returncode == 0
    return False


def _refused(store: Path, command: str, owner: Owner, why: str) -> UsageError:
    place = shlex.quote(str(store))
    return UsageError(
        f"the store at {store} belongs to {owner.user}, and {why}; nothing was written",
        hint=f"run it as that user: sudo -u {owner.user} mirror {command} …; "
        f"or make the store root's: chown -R root: {place}",
    )
