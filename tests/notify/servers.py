"""The other ends on loopback: an SMTP server, and HTTP servers for webhooks and pings, good and bad."""

from __future__ import annotations

import contextlib
import email
import email.policy
import ssl
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from aiosmtpd.controller import Controller

from tests.http.proxy import Certificates
from tests.ports import unused_port

# Where a check of the healthchecks-like server is.
CHECK = "/ping/3f0c6f0a-6a0e-4b8e-9d0a-2b1f7c1d9e55"


class Mailbox:
    """What an SMTP server took."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Called by aiosmtpd for each mail."""
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def text(self) -> str:
        """The plain text of the only mail."""
        [mail] = self.mails
        body = mail.get_body(("plain",))
        assert body is not None
        return str(body.get_content()).replace("\r\n", "\n")


@contextlib.contextmanager
def smtp_server() -> Iterator[tuple[Mailbox, str]]:
    """An SMTP server; yields its mailbox and Apprise's address of it."""
    box = Mailbox()
    port = unused_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box, f"mailto://127.0.0.1:{port}/?from=mirror@example.org&to=ops@example.org&mode=insecure"
    finally:
        controller.stop()


class Receiver:
    """An HTTP server that keeps what it gets.

    `status` is what it answers. With `is_slow` it sends a byte of its head now and then, and never ends it.
    """

    def __init__(
        self, status: int = 200, *, is_slow: bool = False, certificates: Certificates | None = None
    ) -> None:
        self.status, self.is_slow = status, is_slow
        self.got: list[tuple[str, str]] = []
        self.ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.got.append((self.path, body.decode()))
                while receiver.is_slow and not receiver.ended.wait(0.2):
                    self.wfile.write(b"H")
                with contextlib.suppress(OSError):
                    self.send_response(receiver.status_of(self.path))
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.chain, certificates.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def status_of(self, _path: str) -> int:
        """What a request for a path is answered."""
        return self.status

    @property
    def paths(self) -> list[str]:
        """The paths that were requested, in order."""
        return [path for path, _ in self.got]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class Healthchecks(Receiver):
    """A server that knows one check and its signals, as healthchecks does; every other path is a 404."""

    def status_of(self, path: str) -> int:
        """Only the check and its signals exist."""
        place = path.partition("?")[0]
        return self.status if place in (CHECK, f"{CHECK}/start", f"{CHECK}/fail") else 404

    @property
    def url(self) -> str:
        """The ping URL of the check."""
        return f"http://127.0.0.1:{self.port}{CHECK}"

    @property
    def signals(self) -> list[str]:
        """The signals, in order; empty for success."""
        return [path.removeprefix(CHECK).strip("/") for path in self.paths]
