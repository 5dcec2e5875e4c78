"""Telling systemd how the service is, by its own protocol (sd_notify)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

# What systemd waits for may take so long to be taken; anything else is dropped where nobody takes it now.
PATIENCE = 5.0
_WAITED_FOR = frozenset({"READY", "RELOADING", "STOPPING"})


class Notifier:
    """Sends states to the socket that `NOTIFY_SOCKET` names; without one, to nobody."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in Linux's abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        # Twice within the time that systemd allows, as its manual asks.
        self.watchdog_seconds = int(microseconds) / 2_000_000 if microseconds.isdigit() else None

    def send(self, **states: str | int) -> None:
        """Send states such as `READY=1` or `STATUS=idle`. A socket that is not there is no error."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in states.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            # Its queue may be full, and a service that waits for that is as good as dead.
            sock.settimeout(PATIENCE if _WAITED_FOR & states.keys() else 0)
            sock.sendto(message.encode("utf-8"), self._address)
