"""The minimal API that Mirror can back up. It is independent of the simulator.

An unknown server behaves differently from the one that a program was developed with. This one returns each
list in one page with only the promised keys. It has no rate-limit headers, no `size`, and empty lists for
what every repository and workspace has. It answers 404 to everything else.
"""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

TOKEN = "a-workspace-token-for-the-minimal-server"
SPACE = uuid.UUID(int=0x5EED)
# What every repository has, by the last names of its URL; a workspace has some of it, too.
EMPTY = {
    "branch-restrictions", "default-reviewers", "deploy-keys", "hooks", "users", "groups", "watchers",
    "forks", "downloads", "environments", "deployments", "variables", "schedules", "known_hosts", "caches",
    "runners", "comments", "reports", "statuses", "members", "permissions", "repositories", "projects",
}  # fmt: skip
PLAIN = {"branching-model", "settings", "override-settings", "public-key"}


def braced(value: uuid.UUID) -> str:
    """A uuid as Bitbucket writes it."""
    return "{" + str(value) + "}"


class MinimalApi:
    """Serves one workspace with the given repositories; `lose` removes one."""

    def __init__(self, workspace: str, slugs: list[str]) -> None:
        self.workspace = workspace
        self.uuids = {slug: braced(uuid.uuid5(SPACE, slug)) for slug in slugs}
        self.refused: list[str] = []

    def lose(self, slug: str) -> None:
        """Delete the repository."""
        del self.uuids[slug]

    def repository(self, slug: str) -> dict[str, Any]:
        """A repository with only the keys that a client can rely on."""
        return {
            "type": "repository",
            "uuid": self.uuids[slug],
            "name": slug,
            "full_name": f"{self.workspace}/{slug}",
            "slug": slug,
            "is_private": True,
            "scm": "git",
            "mainbranch": None,
            "workspace": {"type": "workspace", "uuid": braced(SPACE), "slug": self.workspace},
        }

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and body for a GET of `path` below the API's root."""
        parts = [part for part in path.split("/") if part]
        if parts == ["workspaces", self.workspace]:
            return 200, {"type": "workspace", "uuid": braced(SPACE), "slug": self.workspace, "name": "W"}
        if parts == ["repositories", self.workspace]:
            return 200, {"values": [self.repository(slug) for slug in self.uuids]}
        if parts[:2] == ["repositories", self.workspace] and len(parts) > 2 and parts[2] in self.uuids:
            rest = parts[3:]
            if not rest:
                return 200, self.repository(parts[2])
            if rest in (["pullrequests"], ["pipelines"]):
                return 200, {"values": []}
            if rest == ["issues"]:
                return 410, {"type": "error", "error": {"message": "CHANGE-3071 - removed"}}
            if rest[0] == "commit" and len(rest) == 2:
                return 200, {"type": "commit", "hash": rest[1], "participants": []}
        if parts[:2] in (["repositories", self.workspace], ["workspaces", self.workspace]):
            if parts[-1] in EMPTY:
                return 200, {"values": []}
            if parts[-1] in PLAIN:
                return 200, {"type": parts[-1]}
        if parts == ["snippets", self.workspace]:
            return 200, {"values": []}
        return 404, {"type": "error", "error": {"message": "There is no API hosted at this URL."}}

    def __enter__(self) -> MinimalApi:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    status, body = 401, {"type": "error", "error": {"message": "Token is invalid"}}
                else:
                    status, body = api.answer(urlsplit(self.path).path.removeprefix("/2.0"))
                if status >= 400:
                    api.refused.append(f"{status} {self.path}")
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing: the tests read `refused`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/2.0"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
