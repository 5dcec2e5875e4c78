"""A local Forgejo over a real socket: its API, C git's `http-backend` behind it, and LFS.

Every request and every answer is held against the published description; what it does not allow is in
`violations`. Facts that a restore may meet are switches.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.forgejo.description import API, Description
from tests.forgejo.forge import Asking, Forge, Refused
from tests.git.backend import GitBackend

_LISTS_WITHOUT_PAGES = ("comments", "assets", "branch_protections")


class FakeForgejo:
    """Serves a `forge`. Use it as a context manager.

    Switches: `page_most`, the largest page; `refuse`, which may answer an operation with a status and a
    message; `silent_after`, the number of writes after which one is done and its connection dropped without
    an answer, as that of every later request is then (`is_down`); `busy`, how many of the next requests are
    refused (429) first. `asked` are the names of all operations so far.
    """

    def __init__(self, root: Path, *, token: str = "f0r9ej0-t0ken-word", login: str = "restorer") -> None:
        self.forge = Forge(root, login=login, organisations=("acme",))
        self.token = token
        self.page_most = 50
        self.refuse: Callable[[str, dict[str, Any]], tuple[int, str] | None] | None = None
        self.silent_after: int | None = None
        self.is_down = False
        self.busy = 0
        self.violations: list[str] = []
        self.asked: list[str] = []
        self.objects: dict[str, bytes] = {}
        self._writes = 0
        self._lock = threading.Lock()
        self._description = Description()
        self._git = GitBackend(root, user=login, password=token)
        self._git.instead = self._answer

    def __enter__(self) -> FakeForgejo:
        self._git.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._git.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return self._git.url

    @property
    def requests(self) -> list[tuple[str, dict[str, str]]]:
        """Every request so far: its path, and its headers."""
        return self._git.requests

    def writes(self) -> list[str]:
        """The operations so far that may have changed something."""
        return [one for one in self.asked if not one.startswith("GET ")]

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        """Answer what is not git's own; returns whether it did."""
        path = urlsplit(handler.path).path
        if self.is_down:
            handler.close_connection = True
            return True
        if path.startswith(API):
            with self._lock:
                self._answer_api(handler, body)
            return True
        if "/info/lfs/" in path:
            if handler.headers.get("Authorization") != self._git.expected:
                self._send(handler, 401, {"message": "Unauthorized"})
            else:
                self._answer_lfs(handler, path, body)
            return True
        # As Forgejo does: neither names of owners nor of repositories tell case apart.
        handler.path = handler.path.replace(path, path.lower())
        place = self._git.root / path.lower().strip("/").partition(".git/")[0]
        if path.endswith("/info/refs") and not place.with_name(place.name + ".git").exists():
            # What Forgejo sends for a wiki without a page: the head of an advertisement, and nothing more.
            data = b"001f# service=git-receive-pack\n0000"
            self._raw(handler, 200, data, "application/x-git-receive-pack-advertisement")
            return True
        return False

    # -- the API

    def _answer_api(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        parts = urlsplit(handler.path)
        found = self._description.find(handler.command, parts.path)
        if found is None:
            self.violations.append(f"{handler.command} {parts.path} is not described")
            self._send(handler, 404, {"message": "not found"})
            return
        self.asked.append(found.operation)
        if handler.headers.get("Authorization") != f"token {self.token}":
            self._send(handler, 401, {"message": "invalid username, password or token", "url": ""})
            return
        if self.busy:
            self.busy -= 1
            self._send(handler, 429, {"message": "slow down"}, {"Retry-After": "0"})
            return
        query = parse_qs(parts.query, keep_blank_values=True)
        status, answer, headers = self._judged(handler, found.operation, found.parts, query, body)
        faults = self._description.faults_of_answer(found.operation, status, answer)
        self.violations += [f"answer {status} of {found.operation}: {one}" for one in faults]
        if handler.command != "GET":
            self._writes += 1
            if self.silent_after is not None and self._writes > self.silent_after:
                self.silent_after, self.is_down = None, True
                handler.close_connection = True
                return
        self._send(handler, status, answer, headers)

    def _judged(
        self,
        handler: BaseHTTPRequestHandler,
        operation: str,
        parts: Any,
        query: dict[str, list[str]],
        body: bytes,
    ) -> tuple[int, Any, dict[str, str]]:
        content_type = handler.headers.get("Content-Type", "")
        files = _files(content_type, body) if content_type.startswith("multipart/") else {}
        data: Any = None
        if body and not files:
            data = json.loads(body)
        faults = self._description.faults_of_request(operation, query, content_type, data, set(files))
        if faults:
            self.violations += [f"{operation}: {one}" for one in faults]
            return 422, {"message": "; ".join(faults), "url": ""}, {}
        refusal = self.refuse(operation, data or {}) if self.refuse is not None else None
        if refusal is not None:
            return refusal[0], {"message": refusal[1], "url": ""}, {}
        flat = {name: values[0] for name, values in query.items()}
        try:
            status, answer = self.forge.answer(operation, Asking(parts, flat, data or {}, files))
        except Refused as refused:
            return refused.status, {"message": refused.message, "url": f"{self.url}/api/swagger"}, {}
        if isinstance(answer, list) and not operation.endswith(_LISTS_WITHOUT_PAGES):
            return status, *self._page(handler.path, answer, flat)
        return status, answer, {}

    def _page(self, path: str, answer: list[Any], query: dict[str, str]) -> tuple[list[Any], dict[str, str]]:
        number = max(1, int(query.get("page", "1")))
        size = min(int(query.get("limit") or 30) or 30, self.page_most)
        headers = {"X-Total-Count": str(len(answer))}
        if number * size < len(answer):
            parts = urlsplit(path)
            again = "&".join(
                [
                    *(f"{name}={value}" for name, value in query.items() if name != "page"),
                    f"page={number + 1}",
                ]
            )
            headers["Link"] = f'<{self.url}{parts.path}?{again}>; rel="next"'
        return answer[(number - 1) * size : number * size], headers

    # -- LFS

    def _answer_lfs(self, handler: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        if handler.command == "PUT":
            oid = path.rpartition("/")[2]
            assert hashlib.sha256(body).hexdigest() == oid
            self.objects[oid] = body
            self._send(handler, 200, {})
        elif path.endswith("/objects/batch"):
            asked = json.loads(body)
            root = f"{self.url}{path.removesuffix('/batch')}"
            found = []
            for one in asked["objects"]:
                action = {"upload": {"href": f"{root}/{one['oid']}", "header": {
                    "Authorization": handler.headers["Authorization"]
                }}}  # fmt: skip
                found.append({**one, **({} if one["oid"] in self.objects else {"actions": action})})
            data = json.dumps({"transfer": "basic", "objects": found}).encode()
            self._raw(handler, 200, data, "application/vnd.git-lfs+json")
        else:
            self._send(handler, 404, {"message": "not found"})

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, data: Any, headers: dict[str, str] | None = None
    ) -> None:
        content = json.dumps(data).encode()
        self._raw(handler, status, content, "application/json;charset=utf-8", headers)

    def _raw(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        content_type: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)


def _files(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """The fields of a multipart body, each with its file name and content."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    found = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(name, str)
        assert isinstance(content, bytes)
        found[name] = (part.get_filename() or "", content)
    return found
