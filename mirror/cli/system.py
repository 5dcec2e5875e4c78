"""The machine's clock, environment and user, which no room below `cli` reads."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections.abc import Mapping
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from some fixed point."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await asyncio.sleep(seconds)


def person(environment: Mapping[str, str]) -> str:
    """The user who runs this; under sudo, the user who called it first."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    behind = environment.get("SUDO_USER")
    return f"{behind} (as {user})" if behind and behind != user else user


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ
