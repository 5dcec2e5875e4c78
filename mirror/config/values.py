"""The plain values of the configuration file: durations, sizes, URLs, schedules, names.

Each function returns the value, or raises ValueError with a text that follows the name of the key. A value
that is of its final type already is returned as it is.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mirror.config import crontab
from mirror.model import is_uuid

_DURATION = re.compile(r"(\d{1,6})\s*(s|min|mo|m|h|d|w|y)")
_UNITS = {
    "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400, "y": 365 * 86400,
}  # fmt: skip
_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")
BYTE_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"(\d{1,6})\s*(KiB|MiB|GiB|TiB)")
_LONGEST = timedelta(days=1000 * 365)
# A shorter interval is taken for a mistake.
_EVERY_LEAST = timedelta(minutes=1)
_LOOPBACK = re.compile(r"http://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?(/.*)?")
PROXY_FROM_ENVIRONMENT, PROXY_NONE = "from environment", "none"
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+|localhost)):([0-9]{1,5})")
_PLAIN_PATH = re.compile(r"(/(?!\.)[A-Za-z0-9._-]+)*")
_SLUG = re.compile(r"[A-Za-z0-9_.-]+")
_SHARD = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


class ByteSize(int):
    """A number of bytes. Its text is as the configuration has it."""

    def __str__(self) -> str:
        """The size in the largest unit without a remainder."""
        for unit, size in reversed(BYTE_UNITS.items()):
            if self and self % size == 0:
                return f"{int(self) // size}{unit}"
        return f"{int(self)}B"


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


@dataclass(frozen=True)
class After:
    """Whenever a job of another kind has ended, however it ended."""

    kind: str

    @property
    def text(self) -> str:
        """As the configuration has it."""
        return f"after {self.kind}"


Trigger = Cron | Every | After


IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Address:
    """Where a server listens: an IP address and a port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def text(self) -> str:
        """As the configuration has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def duration_text(value: timedelta) -> str:
    """A duration as the configuration has it: 7d, 90min."""
    seconds = int(value.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def duration(text: object) -> timedelta:
    """A duration such as `30s`, `5m` (or `5min`), `4h`, `7d`, `2w`, `6mo` (30 days each) or `1y` (365 days).
    At most `1000y`, so that adding it to a date cannot overflow."""
    if isinstance(text, timedelta):
        return text
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError("should be a length of time such as 30s, 5m, 4h or 7d")
    length = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    if length > _LONGEST:
        raise ValueError("should be no longer than 1000y")
    return length


def jitter(text: object) -> timedelta:
    """A duration, or `none`."""
    return timedelta() if text == "none" else duration(text)


def keep_for(text: object) -> timedelta:
    """How long something is kept. `m` is refused, because it means months in restic and borg."""
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is not None and found[2] == "m":
        count = int(found[1])
        raise ValueError(
            f"has {count}m, which may mean months or minutes: write {count}mo or {30 * count}d for months, "
            f"{count}min for minutes"
        )
    return duration(text)


def byte_size(text: object) -> ByteSize:
    """A number of bytes such as `512MiB` or `20GiB`."""
    if isinstance(text, ByteSize):
        return text
    found = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError("should be a size such as 512MiB, 20GiB or 1TiB")
    return ByteSize(int(found[1]) * BYTE_UNITS[found[2]])


def share(text: object) -> float:
    """A share such as `10%`, as a fraction of 1."""
    found = _SHARE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or not 0 < float(found[1]) <= 100:
        raise ValueError("should be a share such as 10%")
    return float(found[1]) / 100


def url(text: str) -> str:
    """A URL of a server, without user name, query or fragment."""
    if not text.startswith("https://") and _LOOPBACK.fullmatch(text) is None:
        raise ValueError("should begin with https:// (plain http is accepted for loopback only)")
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("should not contain a user name or secret")
    try:
        parts = urlsplit(text)
        if parts.hostname is None or parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError("should be a URL with a host, and a port up to 65535 if any") from None
    if "?" in text or "#" in text:
        raise ValueError("should have no query and no fragment: leave out the part from ? or # on")
    return text.rstrip("/")


def api_url(text: str) -> str:
    """The root of the REST API, version 2.0."""
    text = url(text)
    if not text.endswith("/2.0"):
        raise ValueError("should end with /2.0, the version of the API")
    return text


def hooks_url(text: str) -> str:
    """The public address of the door for hooks, without the path that the door adds."""
    text = url(text)
    path = urlsplit(text).path
    if "/hooks" in path:
        raise ValueError("should end before /hooks: mirror adds that path")
    if _PLAIN_PATH.fullmatch(path) is None:
        raise ValueError("should have no path, or one of letters, digits, '.', '_' and '-' such as /mirror")
    return text


def workspace(text: str) -> str:
    """The slug of a workspace, or its uuid in braces."""
    if is_uuid(text):
        return text
    if is_uuid("{" + text + "}"):
        raise ValueError("should have its uuid in braces: {…}")
    if "/" in text:
        raise ValueError(
            "should be the workspace alone, such as acme, not a URL or workspace/repository: "
            "choose repositories with include"
        )
    if _SLUG.fullmatch(text) is None:
        raise ValueError("should be a workspace's slug such as acme, or its {uuid}")
    return text


def shard(text: str) -> str:
    """The name of a shard: it is part of names in the database, and of paths in a bucket."""
    if _SHARD.fullmatch(text) is None:
        raise ValueError("should be a name such as backup-1: up to 40 lower-case letters, digits and hyphens")
    return text


def trigger(text: object) -> Cron | Every:
    """A line of crontab(5), a nickname such as `@daily`, or `every 4h`."""
    if isinstance(text, Cron | Every):
        return text
    if not isinstance(text, str):
        raise ValueError("should be a text such as '0 5 * * *' or 'every 4h'")  # noqa: TRY004 - pydantic's
    if not text.startswith("every "):
        crontab.parse(text)
        return Cron(text)
    interval = duration(text.removeprefix("every "))
    if interval < _EVERY_LEAST:
        raise ValueError("should be every 1m or less often")
    return Every(interval)


def trigger_of_copy(text: object) -> Trigger:
    """As `trigger`, or `after backup`."""
    if isinstance(text, After):
        return text
    if text == "after backup":
        return After("backup")
    try:
        return trigger(text)
    except ValueError as error:
        raise ValueError(f'{error}, or "after backup"') from None


def address(text: object) -> Address:
    """An address to listen on, such as `127.0.0.1:9321` or `[::1]:9321`."""
    if isinstance(text, Address):
        return text
    wrong = "should be an IP address and a port such as 127.0.0.1:9321 or [::1]:9321"
    found = _ADDRESS.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or int(found[3]) > 65535:
        raise ValueError(wrong)
    try:
        host = ipaddress.ip_address("127.0.0.1" if found[2] == "localhost" else found[1] or found[2])
    except ValueError:
        raise ValueError(wrong) from None
    return Address(str(host), int(found[3]))


def networks(texts: object) -> object:
    """Networks such as `10.0.0.0/8`, or single addresses."""
    if not isinstance(texts, list):
        return texts
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError:
        raise ValueError("should be a list of networks such as 10.0.0.0/8, or of addresses") from None


def zone(text: str) -> str:
    """The name of a time zone."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("should be a time zone such as UTC or Europe/Berlin") from None
    return text


def path(text: str, folder: Path) -> Path:
    """A path of this machine; a relative one is below `folder`."""
    if "\0" in text:
        raise ValueError("should be a path; it contains a NUL")
    try:
        return folder / Path(text).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ and the name of no user of this machine") from None


def day(value: object) -> object:
    """A date, parsed by YAML already or still text."""
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("should be a date such as 2026-12-31") from None


def proxy(text: str) -> str:
    """A proxy: `from environment`, `none`, or a URL without a user name."""
    if text in (PROXY_FROM_ENVIRONMENT, PROXY_NONE):
        return text
    if not text.startswith(("http://", "https://")):
        raise ValueError("should be 'from environment', 'none', or a URL such as http://proxy:3128")
    if "@" in text:
        raise ValueError("should not contain a user name or secret: use proxy_user and proxy_password")
    try:
        parts = urlsplit(text)
        if not parts.hostname or parts.port == 0 or parts.path.strip("/") or parts.query:
            raise ValueError
    except ValueError:
        raise ValueError("should be a URL with a host and a port, such as http://proxy:3128") from None
    return text.rstrip("/")


def user_agent(text: str) -> str:
    """A text for the User-Agent header."""
    if not text.isascii() or not text.isprintable() or len(text) > 100:
        raise ValueError("should be one line of at most 100 plain characters")
    return text
