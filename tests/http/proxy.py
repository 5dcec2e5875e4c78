"""A small HTTP proxy, and certificates of an authority that no system trusts."""

from __future__ import annotations

import base64
import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import pytest


@dataclass(frozen=True)
class Certificates:
    """The certificate of an authority (`authority`), and of a server that it signed (`chain` and `key`)."""

    authority: Path
    chain: Path
    key: Path


def make_certificates(folder: Path, *names: str) -> Certificates:
    """Create an authority and a certificate for hosts of these `names`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: there are no certificates to be had")
    folder.mkdir(parents=True, exist_ok=True)
    key, chain = folder / "key.pem", folder / "chain.pem"
    ca_key, authority = folder / "ca-key.pem", folder / "ca.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    lasting = ["-days", "3650"]
    run = {"check": True, "capture_output": True}
    subprocess.run(
        [*new, *lasting, "-keyout", str(ca_key), "-out", str(authority), "-subj", "/CN=Nobody's authority"],
        **run,  # type: ignore[call-overload]
    )
    alternatives = ",".join(f"DNS:{name}" for name in names)
    signed = ["-CA", str(authority), "-CAkey", str(ca_key), "-subj", f"/CN={names[0]}"]
    extensions = ["-addext", f"subjectAltName={alternatives}", "-addext", "basicConstraints=CA:FALSE"]
    subprocess.run(
        [*new, *lasting, "-keyout", str(key), "-out", str(chain), *signed, *extensions],
        **run,  # type: ignore[call-overload]
    )
    return Certificates(authority, chain, key)


class HttpProxy:
    """A proxy on loopback. `hosts` maps names to ports; the proxy knows no other name.

    It terminates TLS itself with `certificates`, as the proxies of companies do. With `user` it requires a
    sign-in. `asked` has the requests that it got: `CONNECT host:port`, or `GET http://…`.
    """

    def __init__(
        self,
        hosts: Mapping[str, int],
        certificates: Certificates | None = None,
        *,
        user: str | None = None,
        password: str = "",
    ) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        self.context: ssl.SSLContext | None = None
        if certificates is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificates.chain, certificates.key)
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.expected = f"Basic {pair}" if user is not None else None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HttpProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy: HttpProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _may(self) -> bool:
            proxy.asked.append(f"{self.command} {self.path}")
            assert "authorization" not in self.headers or self.command != "CONNECT"
            if proxy.expected is None or self.headers.get("Proxy-Authorization") == proxy.expected:
                return True
            self.send_response(407, "Proxy Authentication Required")
            self.send_header("Proxy-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False

        def do_CONNECT(self) -> None:
            """Open a tunnel."""
            self.close_connection = True
            if not self._may():
                return
            host = self.path.rpartition(":")[0]
            self.send_response(200)
            self.end_headers()
            inner = self.connection
            if proxy.context is not None:
                try:
                    inner = proxy.context.wrap_socket(inner, server_side=True)
                except (ssl.SSLError, OSError):
                    return
            with inner, socket.create_connection(("127.0.0.1", proxy.hosts[host])) as outer:
                back = threading.Thread(target=_pump, args=(outer, inner), daemon=True)
                back.start()
                _pump(inner, outer)
                back.join(5)

        def _forward(self) -> None:
            if not self._may():
                return
            target = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            outer = http.client.HTTPConnection(
                "127.0.0.1", proxy.hosts.get(target.hostname or "") or target.port, timeout=20
            )
            path = target.path + (f"?{target.query}" if target.query else "")
            headers = {name: value for name, value in self.headers.items() if name != "Proxy-Authorization"}
            outer.request(self.command, path, self.rfile.read(length), headers)
            answer = outer.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            outer.close()

        do_GET = do_POST = do_PUT = _forward  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
