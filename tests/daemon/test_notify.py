"""The service notifies systemd of its state; if systemd does not listen, the service continues."""

from __future__ import annotations

import socket
from pathlib import Path

from mirror.daemon.notify import Notifier


def test_a_queue_that_nobody_empties_holds_nothing_up(tmp_path: Path) -> None:
    """Otherwise the watchdog itself would stop the service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}, timeout=0.05)
        notifier.send(STATUS="first")
        for _ in range(1000):
            notifier.send(WATCHDOG=1)
        notifier.send(STOPPING=1)
        assert listener.recv(100) == b"STATUS=first"
        assert listener.recv(100) == b"WATCHDOG=1"
