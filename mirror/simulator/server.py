"""Runs the simulator on two origins, so that tests can check what must not go from one to the other."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mirror.simulator.app import App, LoggedRequest
from mirror.simulator.faults import Fault, Faults
from mirror.simulator.hooks.faults import HookFaults
from mirror.simulator.hooks.sender import Delivery, HookSender
from mirror.simulator.switches import Switches
from mirror.simulator.world.events import nobody
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import World

START_TIMEOUT = 20.0


class _Protocol(H11Protocol):
    """HTTP/1.1. The application can reset the connection through `scope["abort"]`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        inner = self.app

        async def with_abort(scope: Any, receive: Any, send: Any) -> None:
            scope["abort"] = self._abort
            await inner(scope, receive, send)

        self.app = with_abort

    def _abort(self) -> None:
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            # With a linger time of zero, the close becomes a reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def _nobody(text: str) -> None:
    del text


class Simulator:
    """A Bitbucket on this machine. A context manager that listens on loopback only.

    `port` 0 picks a free one. `requests` is the log of all requests. Webhooks of the world are sent to this
    machine only, with `hook_faults`; `tell` receives what a person should know.
    """

    def __init__(
        self,
        world: World,
        *,
        switches: Switches | None = None,
        port: int = 0,
        hook_faults: HookFaults | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.world = world
        self.switches = switches or Switches.default()
        self._port = port
        self._app = App(world, self.switches)
        self.hooks = HookSender(
            world,
            lambda: self._app.render,
            faults=hook_faults or HookFaults(),
            lag=self._lag,
            tell=tell or _nobody,
        )
        self._servers: list[uvicorn.Server] = []
        self._threads: list[threading.Thread] = []

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every request so far."""
        return self._app.requests

    @property
    def faults(self) -> Faults:
        """The active faults."""
        return self._app.faults

    @property
    def app(self) -> App:
        """The application itself."""
        return self._app

    @property
    def deliveries(self) -> list[Delivery]:
        """Every delivery to a webhook so far."""
        return self.hooks.deliveries

    def _lag(self, repository: SimRepository) -> None:
        if self.switches.hooks_precede_changes:
            self._app.stale.hold(repository.slug, repository.uuid)

    def order(self, fault: Fault) -> None:
        """Break the next responses to matching requests."""
        self._app.faults.order(fault)

    def __enter__(self) -> Simulator:
        self.world.switches = self.switches
        self.world.listener = self.hooks.hear
        main = self._listen(self._port)
        storage = self._listen(0)
        base = f"http://127.0.0.1:{main.getsockname()[1]}"
        self._app.api, self._app.git = f"{base}/2.0", base
        self._app.storage = f"http://127.0.0.1:{storage.getsockname()[1]}"
        self._start(main, self._app)
        self._start(storage, self._app.on_storage)
        return self

    @property
    def api_url(self) -> str:
        """The root of the REST API."""
        return self._app.api

    @property
    def git_url(self) -> str:
        """The root of the clone URLs."""
        return self._app.git

    @property
    def oauth_url(self) -> str:
        """The URL that issues OAuth tokens."""
        return f"{self._app.git}/site/oauth2/access_token"

    @property
    def storage_url(self) -> str:
        """The storage origin, which long files are redirected to."""
        return self._app.storage

    def _listen(self, port: int) -> socket.socket:
        # asyncio disables Nagle's algorithm only where the protocol is named; else each response takes 40 ms.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        return sock

    def _start(self, sock: socket.socket, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=1,
            date_header=False,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[sock])), name="simulator", daemon=True
        )
        thread.start()
        deadline = time.monotonic() + START_TIMEOUT
        while not server.started:
            if time.monotonic() > deadline or not thread.is_alive():
                raise RuntimeError("the simulator did not start")
            time.sleep(0.005)
        self._servers.append(server)
        self._threads.append(thread)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.world.listener = nobody
        self.hooks.close()
        for server in self._servers:
            server.should_exit = True
        for thread in self._threads:
            thread.join(5)
