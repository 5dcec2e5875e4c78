"""The addresses of repositories and workspaces. They last: by folder or by name, and by snapshot."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import Route

from mirror.web.repository import code, documents, files, home, search
from mirror.web.repository.here import At, Here, of_folder, of_snapshot

_REPOSITORY = "/repositories/{workspace}/{repository}"
_WORKSPACE = "/workspaces/{workspace}"

_OF_FOLDERS: tuple[tuple[str, Callable[[Here], Response]], ...] = (
    ("", home.home), ("/snapshots", home.history), ("/as-of", home.as_of), ("/compare", home.compare),
)  # fmt: skip
_OF_BOTH: tuple[tuple[str, Callable[[At], Response]], ...] = (
    ("", home.overview), ("/settings", home.settings), ("/files/{sha256}/{name}", files.stored_file),
    ("/search", search.show),
)  # fmt: skip
_OF_REPOSITORIES: tuple[tuple[str, Callable[[At], Response]], ...] = (
    *((f"/{kind}", documents.numbered(kind)) for kind in ("pull-requests", "issues", "pipelines")),
    *((f"/{kind}/{{number}}", documents.one(kind)) for kind in ("pull-requests", "issues", "pipelines")),
    ("/commits", documents.commits), ("/commits/{hash}", documents.commit),
    ("/deployments", documents.deployments), ("/downloads", documents.downloads),
    ("/code", code.refs), ("/code/log", code.of_code(code.log)), ("/code/commit", code.of_code(code.commit)),
    ("/code/tree", code.of_code(code.tree)), ("/code/raw", code.of_code(code.raw)),
)  # fmt: skip
_OF_WORKSPACES: tuple[tuple[str, Callable[[At], Response]], ...] = (
    ("/snippets", documents.snippets), ("/snippets/{name}", documents.snippet),
)  # fmt: skip


def _routes(base: str, several: tuple[tuple[str, Callable[[At], Response]], ...]) -> list[Route]:
    found = [Route(base + path, of_folder(show)) for path, show in _OF_FOLDERS]
    return found + [Route(f"{base}/{{snapshot}}{path}", of_snapshot(show)) for path, show in several]


ROUTES = (
    *_routes(_REPOSITORY, _OF_BOTH + _OF_REPOSITORIES),
    *_routes(_WORKSPACE, _OF_BOTH + _OF_WORKSPACES),
)
