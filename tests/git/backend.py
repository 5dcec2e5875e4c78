"""C git's own `http-backend` behind a small HTTP server that can be told to fail.

dulwich's server would mean that dulwich tests dulwich; this is the server that the world uses.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import pytest

GIT = shutil.which("git")


def need_git() -> None:
    """Skip without C git; in CI that is a failure."""
    if GIT is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have C git")
        pytest.skip("C git is not installed: no second opinion")


def git(*words: str, cwd: Path | None = None, stdin: bytes | None = None, check: bool = True) -> str:
    """Run C git without any user's settings; returns its stdout."""
    done = subprocess.run(
        ["git", *words],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_NAME": "Ann",
            "GIT_AUTHOR_EMAIL": "ann@example.org",
            "GIT_COMMITTER_NAME": "Ann",
            "GIT_COMMITTER_EMAIL": "ann@example.org",
            "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
            "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
            "GIT_TERMINAL_PROMPT": "0",
        },
    )
    if check and done.returncode != 0:
        raise AssertionError(f"git {' '.join(words)}: {done.stderr.decode('utf-8', 'replace')}")
    return (done.stdout + (b"" if check else done.stderr)).decode("utf-8", "surrogateescape")


class GitBackend:
    """Serves every repository below `root`. Set the fault attributes to break the next responses.

    `cut`: send this many bytes of a pack response, then drop the connection. `corrupt`: flip a bit at this
    offset. `stall`: send this many bytes and then nothing. `redirect`: redirect every request to this base
    URL. `status`: answer with this status and an HTML page. `break_above`: cut every pack larger than this
    many bytes there. `is_old`: do not support protocol version 2. `instead`: may answer a request itself, and
    returns whether it did. `connections` has the clients' addresses.
    """

    def __init__(self, root: Path, *, user: str | None = None, password: str = "") -> None:
        self.root = root
        self.expected = (
            "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user is not None else None
        )
        self.cut: int | None = None
        self.corrupt: int | None = None
        self.stall: int | None = None
        self.redirect: str | None = None
        self.status: int | None = None
        self.break_above: int | None = None
        self.is_old = False
        self.instead: Callable[[BaseHTTPRequestHandler, bytes], bool] | None = None
        self.connections: set[object] = set()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._released = threading.Event()

    def __enter__(self) -> GitBackend:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                backend.serve(self, b"")

            def do_POST(self) -> None:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline().strip(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                backend.serve(self, body)

            do_PUT = do_PATCH = do_POST  # noqa: N815 - the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request through http-backend."""
        self.requests.append((handler.path, dict(handler.headers)))
        self.connections.add(handler.client_address)
        if self.instead is not None and self.instead(handler, body):
            return
        if self.redirect is not None:
            self._plain(handler, 302, {"Location": self.redirect + handler.path})
        elif self.expected is not None and handler.headers.get("Authorization") != self.expected:
            self._plain(handler, 401, {"WWW-Authenticate": 'Basic realm="git"'})
        elif self.status is not None:
            self._plain(handler, self.status, {"Content-Type": "text/html"})
        else:
            self._cgi(handler, body)

    def _plain(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        page = b"<html><body>Log in</body></html>"
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(page)))
        handler.end_headers()
        handler.wfile.write(page)

    def _cgi(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        parts = urlsplit(handler.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "3",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "http.receivepack",
            "GIT_CONFIG_VALUE_1": "true",
            "GIT_CONFIG_KEY_2": "uploadpack.allowAnySHA1InWant",
            "GIT_CONFIG_VALUE_2": "false",
            "REQUEST_METHOD": handler.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "ann",
            "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": "" if self.is_old else handler.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, env=environment, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        self._send(handler, content, pack=b"PACK" in content[:4096])

    def _send(self, handler: BaseHTTPRequestHandler, content: bytes, *, pack: bool) -> None:
        if pack and self.corrupt is not None:
            content = bytearray(content)  # type: ignore[assignment]
            content[self.corrupt] ^= 0x10  # type: ignore[index]
        if pack and self.break_above is not None and len(content) > self.break_above:
            handler.wfile.write(content[: self.break_above])
            handler.close_connection = True
        elif pack and self.cut is not None:
            handler.wfile.write(content[: self.cut])
            handler.close_connection = True
        elif pack and self.stall is not None:
            handler.wfile.write(content[: self.stall])
            handler.wfile.flush()
            self._released.wait(20)
            handler.close_connection = True
        else:
            handler.wfile.write(content)
