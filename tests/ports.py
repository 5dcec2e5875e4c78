"""Ports on loopback for tests."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def unused_port() -> int:
    """A port where nobody listens. The system gives it to nobody who asks for any, so it stays unused."""
    lowest = int(_RANGE.read_text().split()[0])
    begin = max(1024, lowest - 1 - os.getpid() % 8192)  # tests run side by side
    for port in range(begin, 1023, -1):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("every port is used")
