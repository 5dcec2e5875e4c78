"""A small object store that demands what AWS demands of uploads to a bucket with Object Lock, remembers what
it was asked, and fails as it is told."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_NAMED = "x-amz-sdk-checksum-algorithm"
_SUM = "x-amz-checksum-sha256"


@dataclass(frozen=True)
class Asked:
    """One request; names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def signed(self) -> set[str]:
        """The headers that the signature covers."""
        found = re.search(r"SignedHeaders=([^,]*)", self.headers.get("authorization", ""))
        return set(found[1].split(";")) if found else set()


@dataclass(frozen=True)
class Answer:
    """What it answers. With `cut` only so many bytes of the body are sent; `after` runs before any is."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    after: Callable[[], object] | None = None


def refusal(status: int, code: str) -> Answer:
    """An error as S3 tells it."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Told by the test</Message></Error>"
    return Answer(status, text.encode())


class StrictStore:
    """Used as a context manager. `asked` are the requests so far. Each request takes the next of `faults`;
    None stands for a proper answer, which is what follows the last of them."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.faults: list[Answer | None] = []
        self.objects: dict[str, bytes] = {}
        self._parts: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def port(self) -> int:
        """Its port on loopback."""
        return self._server.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, asked: Asked) -> Answer:
        """What a request gets."""
        with self._lock:
            self.asked.append(asked)
            fault = self.faults.pop(0) if self.faults else None
            return fault if fault is not None else self._proper(asked)

    def _proper(self, asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        if "authorization" not in asked.headers or {"host", "x-amz-date"} - asked.signed:
            return refusal(403, "AccessDenied")
        if {name for name in asked.headers if name.startswith("x-amz-")} - asked.signed:
            return refusal(403, "AccessDenied")  # every header of theirs must be signed
        if asked.method == "PUT":
            return self._put(path, query, asked)
        if asked.method == "POST" and "uploads" in query:
            if asked.headers.get("x-amz-checksum-algorithm") != "SHA256":
                return refusal(400, "InvalidRequest")
            return Answer(
                body=b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            )
        if asked.method == "POST" and "uploadId" in query:
            return self._complete(path, asked)
        if asked.method == "DELETE":
            self.objects.pop(path, None)
            return Answer(204)
        if query == "versioning":
            return Answer(body=b"<VersioningConfiguration/>")
        if query == "object-lock":
            return refusal(404, "ObjectLockConfigurationNotFoundError")
        data = self.objects.get(path)
        return refusal(404, "NoSuchKey") if data is None else Answer(body=data)

    def _put(self, path: str, query: str, asked: Asked) -> Answer:
        """AWS demands a checksum of what is retained, and refuses a wrong one."""
        own = base64.b64encode(hashlib.sha256(asked.body).digest()).decode()
        if asked.headers.get(_SUM) != own:
            return refusal(400, "InvalidRequest" if _SUM not in asked.headers else "BadDigest")
        if found := re.search(r"partNumber=(\d+)", query):
            self._parts[int(found[1])] = asked.body
        elif asked.headers.get(_NAMED) != "SHA256":
            return refusal(400, "InvalidRequest")
        else:
            self.objects[path] = asked.body
        return Answer(headers={_SUM: own})

    def _complete(self, path: str, asked: Asked) -> Answer:
        """AWS demands the checksum of each part again."""
        if asked.body.count(b"<ChecksumSHA256>") != len(self._parts):
            return refusal(400, "InvalidRequest")
        self.objects[path] = b"".join(self._parts[number] for number in sorted(self._parts))
        self._parts.clear()
        return Answer(body=b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>')


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away in the middle of a request is none of the test's business."""


def _handler(store: StrictStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = store.answer(Asked(self.command, self.path, headers, body))
            if answer.after is not None:
                answer.after()
            with contextlib.suppress(OSError):  # the client may have gone
                self._send(answer)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            told = {"etag": '"e"', "last-modified": "Sun, 29 Nov 2026 10:00:00 GMT", **answer.headers}
            for name, value in told.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            if answer.cut is None:
                self.wfile.write(answer.body)
                return
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler
