"""The configuration as the program holds it: frozen, checked, and without a single secret."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from mirror.auth.credentials import Credential
from mirror.auth.secrets import SecretSource
from mirror.http.network import CONNECT_TIMEOUT, IpVersion
from mirror.retention import Policy


@dataclass(frozen=True)
class BitbucketUrls:
    """Where Bitbucket is. Credentials go to these origins only."""

    api_url: str = "https://api.bitbucket.org/2.0"
    git_url: str = "https://bitbucket.org"
    oauth_url: str = "https://bitbucket.org/site/oauth2/access_token"


@dataclass(frozen=True)
class Parts:
    """Which parts of a repository are backed up. Code and profiles always are."""

    pull_requests: bool = True
    issues: bool = True
    pipelines: bool = True
    pipeline_logs: bool = True
    downloads: bool = True
    settings: bool = True
    snippets: bool = True
    wiki: bool = True
    lfs: bool = True
    # Those of heads; "all": of every commit.
    commit_comments: bool | Literal["all"] = True


@dataclass(frozen=True)
class Retention:
    """What may be let go. `pipeline_logs`: step logs of pipelines that are older may go (None: never).

    `keep_gone`: for so long after a repository went upstream none of its snapshots goes (None: for
    ever); then `policy` holds for it, too.
    """

    policy: Policy
    pipeline_logs: timedelta | None = None
    keep_gone: timedelta | None = None


@dataclass(frozen=True)
class Brake:
    """How much may vanish upstream at a time: no more than `share` (of 1), or fewer than `at_least`."""

    share: float = 0.10
    at_least: int = 5


@dataclass(frozen=True)
class WorkspaceConfig:
    """One workspace to back up; `workspace` None means each one that the credential can see."""

    workspace: str | None
    credentials: tuple[Credential, ...]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    parts: Parts = field(default_factory=Parts)
    accept_missing: tuple[str, ...] = ()
    retention: Retention | None = None
    brake: Brake = field(default_factory=Brake)


@dataclass(frozen=True)
class Cron:
    """Five cron fields: minute, hour, day of month, month, day of week."""

    text: str


@dataclass(frozen=True)
class Every:
    """A fixed interval."""

    interval: timedelta

    @property
    def text(self) -> str:
        """As the configuration has it."""
        return f"every {duration_text(self.interval)}"


def duration_text(value: timedelta) -> str:
    """A length of time as the configuration has it: 7d, 90min."""
    seconds = int(value.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


Trigger = Cron | Every


@dataclass(frozen=True)
class Schedule:
    """When the daemon runs what; None means never."""

    backup: Trigger | None = None
    verify: Trigger | None = None
    prune: Trigger | None = None
    timezone: str = "UTC"


BYTE_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


class ByteSize(int):
    """A number of bytes; its text is as the configuration has it."""

    def __str__(self) -> str:
        """The size in the largest unit that leaves no rest."""
        for unit, size in reversed(BYTE_UNITS.items()):
            if self and self % size == 0:
                return f"{int(self) // size}{unit}"
        return f"{int(self)}B"


def _by_cores() -> int:
    return max(2, min(8, len(os.sched_getaffinity(0))))


@dataclass(frozen=True)
class Limits:
    """How much at a time. `api_limit` requests of each hour are taken to be allowed until Bitbucket says
    otherwise, and `api_reserve` of them are left unused; `window` is for how long
    one run waits for requests before it leaves the rest to the next. `git_workers` processes do git work,
    with `git_memory` MiB to take packs in. `file_max` is how large a download, attachment or log may be."""

    api_concurrency: int = 8
    git_workers: int = field(default_factory=_by_cores)
    git_memory: int = 256
    api_limit: int = 1000
    api_reserve: int = 100
    silence_timeout: timedelta = timedelta(minutes=5)
    window: timedelta = timedelta(hours=3)
    file_max: ByteSize = field(default_factory=lambda: ByteSize(20 * 1024**3))


@dataclass(frozen=True)
class Expiry:
    """When a credential of this kind expires, and the line and key that say so."""

    line: int | None
    key: str
    kind: str
    expires: date


@dataclass(frozen=True)
class NetworkConfig:
    """How servers are reached. `proxy` is an address, `from environment` or `none`; `no_proxy` None is as
    the environment says. `ca_file` is trusted besides the system's authorities."""

    proxy: str = "from environment"
    proxy_user: str | None = None
    proxy_password: SecretSource | None = None
    no_proxy: tuple[str, ...] | None = None
    ca_file: Path | None = None
    ip: IpVersion = "any"
    connect_timeout: timedelta = timedelta(seconds=CONNECT_TIMEOUT)
    user_agent: str = ""


@dataclass(frozen=True)
class Runs:
    """How long run records are kept; those since the last checkpoint but one always are."""

    keep: timedelta = timedelta(days=400)


@dataclass(frozen=True)
class Config:
    """Everything that the configuration says. `source` is its file, where it came from one."""

    store: Path
    bitbucket: BitbucketUrls
    workspaces: tuple[WorkspaceConfig, ...]
    schedule: Schedule = field(default_factory=Schedule)
    limits: Limits = field(default_factory=Limits)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    runs: Runs = field(default_factory=Runs)
    source: Path | None = None
    expiries: tuple[Expiry, ...] = ()
