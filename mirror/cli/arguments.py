"""What the texts of options mean. Each function raises ArgumentTypeError, which argparse reports.

And the port by which modules add commands to the parser."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mirror.errors import UsageError

if TYPE_CHECKING:
    from mirror.bucket.address import Address as CopyAddress
    from mirror.config import Address

ALL_PARTS = "all"


class Commands(Protocol):
    """Adds commands to the parser. `common` are the options of every command."""

    common: argparse.ArgumentParser

    def add(self, name: str, text: str, *examples: str) -> argparse.ArgumentParser:
        """A command; `text` begins its help."""
        ...


def seconds(text: str) -> float:
    """A duration such as `10m`, in seconds."""
    from mirror.config import duration

    try:
        return 0.0 if text == "0" else duration(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def listen(text: str) -> Address:
    """An address to listen on such as `127.0.0.1:9321`."""
    from mirror.config import address

    try:
        return address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def store(text: str) -> Path | CopyAddress:
    """A store: a folder, or the address of a copy such as `s3://bucket/prefix`."""
    from mirror.bucket.address import Address, is_address

    if not is_address(text):
        return Path(text)
    try:
        return Address.parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error.message}; {error.hint}") from None


def time(text: str) -> datetime:
    """A time in ISO form, in UTC where it names no other zone; a day is its begin."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} should be a time such as 2026-11-01T12:00Z") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def share(text: str) -> Fraction:
    """A share such as `1/30`."""
    try:
        found = Fraction(text)
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if not 0 < found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} should be a share such as 1/30")
    return found


def user(text: str) -> str:
    """The name of a user of this machine, as systemd accepts it."""
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", text):
        raise argparse.ArgumentTypeError(f"{text!r} should be the name of a user")
    return text


def port(text: str) -> int:
    """A port."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} should be a port, up to 65535")
    return int(text)


def number(text: str) -> int:
    """A number from 1 on."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} should be a number from 1 on")
    return int(text)


def kinds(text: str) -> tuple[str, ...]:
    """Kinds of things to search, by commas."""
    from mirror.browse.find import KINDS

    if text == ALL_PARTS:
        return KINDS
    found = tuple(kind.strip() for kind in text.split(",") if kind.strip())
    if not found or not set(found) <= set(KINDS):
        raise argparse.ArgumentTypeError(f"{text!r} should be some of {', '.join(KINDS)}")
    return found


# Parts that a restore to a forge can be limited to, beside those of a restore to a folder.
FORGE_PARTS = frozenset({"settings", "downloads", "issues", "pull-requests", "commit-comments"})


def parts(text: str) -> frozenset[str]:
    """Parts of snapshots, and single things in them (`settings/variables`), by commas."""
    from mirror.restore import PARTS

    if text == ALL_PARTS:
        return PARTS
    found = frozenset(part.strip() for part in text.split(",") if part.strip())
    several = {part for part in found if "/" not in part.strip("/")}  # a thing has a slash inside
    if not found or not several <= (every := PARTS | FORGE_PARTS):
        raise argparse.ArgumentTypeError(f"{text!r} should be some of {', '.join(sorted(every))}")
    return found
