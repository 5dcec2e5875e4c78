"""Reports the state of the service to systemd (sd_notify(3))."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

# How long to wait, in seconds, until the socket accepts a state that systemd waits for. Other states are
# dropped if it does not accept them at once.
TIMEOUT = 5.0
_WAITED_FOR = frozenset({"READY", "RELOADING", "STOPPING"})


class Notifier:
    """Sends states to the socket in `NOTIFY_SOCKET`; without one it does nothing. `timeout` is in seconds."""

    def __init__(self, environment: Mapping[str, str], timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the abstract namespace of Linux.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        # Twice within the time that systemd allows, as sd_watchdog_enabled(3) recommends.
        self.watchdog_seconds = int(microseconds) / 2_000_000 if microseconds.isdigit() else None

    def send(self, **states: str | int) -> None:
        """Send states such as `READY=1` or `STATUS=idle`. A missing socket is no error."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in states.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            # The queue may be full, and the service must not block on it.
            sock.settimeout(self._timeout if _WAITED_FOR & states.keys() else 0)
            sock.sendto(message.encode("utf-8"), self._address)
