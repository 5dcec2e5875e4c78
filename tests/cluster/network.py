"""Networks of a test: a namespace for each host where the system allows that, and links that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_PIECE = 1 << 16
# Of this process: no two have the same addresses and names.
_NETWORK = 10 << 24 | 213 << 16
_EACH = 8


def enter(namespace: Path) -> None:
    """Let this thread's sockets belong to a network namespace from now on. Raises OSError."""
    handle = os.open(namespace, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)


class Namespace:
    """A network namespace with a link to this one. It vanishes with this process, however that ends.

    `address` is this side of the link as the namespace sees it.
    """

    def __init__(self, number: int) -> None:
        assert number < _EACH
        block = os.getpid() % 2000 * _EACH + number
        self.address, inside = (
            socket.inet_ntoa((_NETWORK + block * 4 + last).to_bytes(4, "big")) for last in (1, 2)
        )
        self._link = f"trial{block}"
        # It holds the namespace until its stdin is closed.
        self._holder: subprocess.Popen[bytes] = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; read -r _"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert self._holder.stdout is not None
            if not self._holder.stdout.read(1):
                raise OSError("this system allows no network namespaces")
            self.path = Path(f"/proc/{self._holder.pid}/ns/net")
            _ip(f"link add {self._link} type veth peer name eth0 netns {self._holder.pid}")
            _ip(f"addr add {self.address}/30 dev {self._link}")
            _ip(f"link set {self._link} up")
            with ThreadPoolExecutor(1) as other:
                other.submit(self._set_up, inside).result()
        except BaseException:
            self.close()
            raise

    def _set_up(self, inside: str) -> None:
        """In a thread of its own, which ends in the namespace, as do the programs that it starts."""
        enter(self.path)
        _ip("link set lo up")
        _ip(f"addr add {inside}/30 dev eth0")
        _ip("link set eth0 up")

    def socket(self) -> socket.socket:
        """A TCP socket of the namespace, to listen or to connect with."""

        def made() -> socket.socket:
            enter(self.path)
            return tcp()

        with ThreadPoolExecutor(1) as other:
            return other.submit(made).result()

    def cut(self) -> None:
        """Take the link down: packets of both sides are lost."""
        _ip(f"link set {self._link} down")

    def heal(self) -> None:
        """Take the link up again."""
        _ip(f"link set {self._link} up")

    def close(self) -> None:
        """Let the namespace and its link go, once nothing runs in it any more."""
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(60)
        if self._holder.stdout is not None:
            self._holder.stdout.close()
        subprocess.run(["ip", "link", "delete", self._link], stderr=subprocess.DEVNULL)


def _ip(words: str) -> None:
    try:
        subprocess.run(["ip", *words.split()], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OSError(f"ip {words}: {error}") from error


@functools.cache
def why_no_namespaces() -> str | None:
    """Why this system gives tests no network namespaces; None where it does."""
    try:
        Namespace(_EACH - 1).close()
    except OSError as error:
        return f"no network namespaces here: {error}"
    return None


def tcp() -> socket.socket:
    """A TCP socket of this thread's namespace."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def listening(made: socket.socket, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """The socket, listening there; port 0: a free one."""
    made.bind((host, port))
    made.listen(100)
    return made


class Relay:
    """Passes on the connections of a listening socket. `connected` makes the other end of each."""

    def __init__(self, listener: socket.socket, connected: Callable[[], socket.socket]) -> None:
        self._listener, self._connected = listener, connected
        listener.setblocking(False)
        self.port: int = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()

    def cut(self) -> None:
        """Pass nothing on, in connections that exist and in new ones, but close none."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def heal(self) -> None:
        """Pass on what was held, and go on."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def close(self) -> None:
        """Close all connections."""
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        self._listener.close()
        self._loop.close()

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                one, _ = await self._loop.sock_accept(self._listener)
                task = self._loop.create_task(self._pass_on(one))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, one: socket.socket) -> None:
        with one:
            await self._flows.wait()
            try:
                other = await asyncio.to_thread(self._connected)
            except OSError:
                return
            with other:
                for end in (one, other):
                    end.setblocking(False)
                    if end.family == socket.AF_INET:
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.gather(self._pump(one, other), self._pump(other, one))

    async def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := await self._loop.sock_recv(source, _PIECE):
                await self._flows.wait()
                await self._loop.sock_sendall(target, piece)
        with contextlib.suppress(OSError):
            await self._flows.wait()
            target.shutdown(socket.SHUT_WR)
