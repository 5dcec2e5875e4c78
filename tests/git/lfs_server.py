"""The batch API of Git LFS beside `git http-backend`, as far as git-lfs itself needs it.

Objects lie where git-lfs keeps those of a bare repository, so `git lfs fsck` there is a second opinion.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

_TYPE = "application/vnd.git-lfs+json"
_STORAGE = "/storage/"


class LfsServer:
    """Answers the LFS requests of a GitBackend: `backend.instead = LfsServer(backend.root)`. `order` has what
    was asked for, pushes of refs too."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.order: list[str] = []

    def __call__(self, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        """Answer the request, if it is one of LFS; returns whether it was."""
        repository, found, _ = handler.path.lstrip("/").partition("/info/lfs/objects/batch")
        if found:
            self._json(handler, self._batch(handler, repository, json.loads(body)))
        elif handler.path.startswith(_STORAGE):
            self._transfer(handler, body)
        else:
            if handler.path.endswith("/git-receive-pack"):
                self.order.append("push")
            return False
        return True

    def _file(self, repository: str, oid: str) -> Path:
        return self._root / repository / "lfs" / "objects" / oid[:2] / oid[2:4] / oid

    def _batch(self, handler: BaseHTTPRequestHandler, repository: str, asked: Any) -> Any:
        base = f"http://{handler.headers['Host']}{_STORAGE}{repository}/"
        objects = []
        for one in asked["objects"]:
            has = self._file(repository, one["oid"]).exists()
            wanted = has if asked["operation"] == "download" else not has
            actions = {asked["operation"]: {"href": base + one["oid"]}} if wanted else {}
            objects.append({"oid": one["oid"], "size": one["size"], "actions": actions})
        return {"transfer": "basic", "objects": objects}

    def _transfer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        repository, _, oid = handler.path.removeprefix(_STORAGE).rpartition("/")
        file = self._file(repository, oid)
        content = b""
        if handler.command == "PUT":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
            self.order.append("object")
        else:
            content = file.read_bytes()
        self._send(handler, content, "application/octet-stream")

    def _json(self, handler: BaseHTTPRequestHandler, value: Any) -> None:
        self._send(handler, json.dumps(value).encode(), _TYPE)

    def _send(self, handler: BaseHTTPRequestHandler, content: bytes, kind: str) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
