"""Serves an application on an address, in the caller's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from mirror.auth.secrets import read_secret
from mirror.browse.watch import Watch
from mirror.config import Address, Config, WebConfig
from mirror.errors import MirrorError, UsageError
from mirror.logs import get_logger
from mirror.model import Clock
from mirror.model.live import Live
from mirror.web.access import Access
from mirror.web.app import make_app
from mirror.web.connections import BACKLOG, Connection
from mirror.web.context import LookAtCluster
from mirror.web.render import prepare

# How long responses that were begun may take when the server stops, in seconds.
STOP_SECONDS = 2

_log = get_logger("web")


class _Server(uvicorn.Server):
    """Leaves signals to its caller, and says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self.ready.set()

    async def run_until_stopped(self, sock: socket.socket) -> None:
        """Serve; a cancelled server closes its connections too."""
        try:
            await self.serve(sockets=[sock])
        except asyncio.CancelledError:
            await self.shutdown(sockets=[sock])
            raise


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listen: Address, *, key: str) -> AsyncIterator[Address]:
    """Serve `app` inside this block; yields the address, with the port that port 0 stands for.

    Raises UsageError that names the address and `key`, of the configuration or the command line, where it
    cannot listen there. The block ends with an error, in a group, where the server itself fails meanwhile.
    """
    sock = _bind(listen, key)
    config = uvicorn.Config(
        app, http=Connection, ws="none", lifespan="off", interface="asgi3", log_config=None,
        log_level="critical", access_log=False, proxy_headers=False, server_header=False, date_header=True,
        backlog=BACKLOG, timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip
    server = _Server(config)
    of_block: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run_until_stopped(sock))
            await server.ready.wait()
            try:
                yield Address(listen.host, sock.getsockname()[1])
            except Exception as error:  # noqa: BLE001 - raised below as it is: the group would wrap it
                of_block = error
            finally:
                server.should_exit = True
    finally:
        sock.close()
    if of_block is not None:
        raise of_block


def _bind(listen: Address, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # asyncio disables Nagle's algorithm only where the protocol is named.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((listen.host, listen.port))
        sock.listen()
    except OSError as error:
        sock.close()
        raise UsageError(
            f"{key}: cannot listen on {listen.text}: {error.strerror or error}",
            hint="choose another port, or an address of this machine; ss -ltnp shows who listens where",
        ) from None
    return sock


@contextlib.asynccontextmanager
async def open_page(
    config: Config | None,
    web: WebConfig,
    *,
    store: Path,
    clock: Clock,
    environment: Mapping[str, str],
    live: Live | None = None,
    cluster: LookAtCluster | None = None,
    key: str = "web.listen",
) -> AsyncIterator[Address]:
    """Serve the page over `store` as `web` says, inside this block; yields the address.

    The token is read now. Raises UsageError where it cannot be read, where the address would let everybody
    in, and where it cannot listen there.
    """
    assert web.listen is not None
    token = await read_secret(web.token, environment=environment) if web.token is not None else None
    access = Access(clock=clock, listen=web.listen, token=token, proxies=web.trusted_proxies)
    app = make_app(store, clock=clock, access=access, config=config, live=live, cluster=cluster)
    async with serving(app, web.listen, key=key) as address:
        _log.info("web.listening", address=address.text)
        # What the first visitor would wait for, before anybody asks. Nobody waits for this thread at the end.
        threading.Thread(target=_prepare, args=[app.state.page.watch], daemon=True).start()
        yield address


def _prepare(watch: Watch) -> None:
    prepare()
    with contextlib.suppress(MirrorError, OSError):  # a page says so
        watch.look()
