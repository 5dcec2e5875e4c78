"""The git URLs: which repository they name, and who may use it."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response

from mirror.simulator.authentication import ANONYMOUS, SignIn, can_see, has_scope
from mirror.simulator.git import protocol_v2, smart_http
from mirror.simulator.git.lfs import PREFIX, LfsApp
from mirror.simulator.git.push import Rules
from mirror.simulator.rate_limits import RateLimits
from mirror.simulator.switches import Switches
from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import Token
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import World

CHALLENGE = {"WWW-Authenticate": 'Basic realm="Bitbucket.org HTTP"'}
NOT_FOUND = "Repository not found"
NO_SCOPE = "Your credentials lack one or more required privilege scopes."


class GitApp:
    """Smart HTTP over the world's repositories."""

    def __init__(
        self, world: World, switches: Switches, sign_in: SignIn, limits: RateLimits, lfs: LfsApp
    ) -> None:
        self._lfs = lfs
        self._world = world
        self._switches = switches
        self._sign_in = sign_in
        self._limits = limits
        self._announced: set[str] = set()

    def answer(self, request: Request, path: str, body: bytes) -> tuple[Response, str | None]:
        """The response, and the identity that the request was counted for."""
        if "//" in path:
            return Response("Method not allowed", 405), None
        authorization = request.headers.get("authorization")
        token = self._sign_in.git(authorization)
        says_gone = self._switches.dead_passwords_are_410
        if token is None and says_gone and self._sign_in.is_dead_password(authorization):
            return Response("App passwords are no longer supported.", 410), None
        credential = token or ANONYMOUS
        count = self._limits.count(credential, path)
        if count.is_over:
            return self._limits.refuse(credential, count), credential.identity
        head, _, tail = path.strip("/").partition(f".git/{PREFIX}")
        if tail:
            workspace, _, slug = unquote(head).partition("/")
            found = self._world.repository(workspace, slug)
            return self._lfs.answer(request, found, tail, token, body), credential.identity
        # Bitbucket once required `git` in the user agent, and every git client still sends it.
        if "git/" not in request.headers.get("user-agent", ""):
            return Response("unsupported client", 403), credential.identity
        return self._repository(request, path, body, token), credential.identity

    def _repository(self, request: Request, path: str, body: bytes, token: Token | None) -> Response:
        head, _, tail = path.strip("/").partition(".git/")
        wiki = tail.startswith("wiki/")
        action = tail.removeprefix("wiki/")
        service = dict(parse_qsl(request.url.query)).get("service", "") if action == "info/refs" else action
        if service not in smart_http.SERVICES:
            return Response("not found", 404)
        first, _, rest = unquote(head).partition("/")
        if first == "snippets":
            return self._snippet(request, rest, service, body, token)
        repository = self._world.repository(first, rest)
        if repository is None and self._switches.renamed_repositories_redirect:
            moved = self._world.moved_to(first, rest)
            if moved is not None:
                more = f"?{request.url.query}" if request.url.query else ""
                where = f"/{moved.full_name}.git/{tail}{more}"
                return Response(status_code=301, headers={"Location": where})
        if token is None and (repository is None or repository.private or service == "git-receive-pack"):
            return Response("", 401, CHALLENGE)
        if repository is None:
            return Response(NOT_FOUND, 404)
        refused = self._refusal(token or ANONYMOUS, repository, service)
        if refused is not None:
            return refused
        return (
            self._wiki(request, repository, service, body, token)
            if wiki
            else self._serve(request, repository, service, body)
        )

    def _wiki(
        self, request: Request, repository: SimRepository, service: str, body: bytes, token: Token | None
    ) -> Response:
        if self._switches.wikis_need_scope and not has_scope(token or ANONYMOUS, "wiki"):
            return Response(NO_SCOPE, 403)
        if self._switches.wikis and repository.wiki is not None:
            return self._serve(request, repository.wiki, service, body)
        if self._switches.absent_wikis_are_401:
            return Response("", 401, CHALLENGE)
        return Response(NOT_FOUND, 410 if self._switches.absent_wikis_are_410 else 404)

    def _snippet(
        self, request: Request, name: str, service: str, body: bytes, token: Token | None
    ) -> Response:
        """A snippet at `snippets/<workspace>/<id>/<title>.git`."""
        slug, _, rest = name.partition("/")
        workspace = self._world.workspace(slug)
        snippet = workspace.snippets.get(rest.partition("/")[0]) if workspace is not None else None
        if token is None:
            return Response("", 401, CHALLENGE)
        if snippet is None or not can_see(token, snippet.git):
            return Response(NOT_FOUND, 404)
        scope = "snippet" if service == "git-upload-pack" else "snippet:write"
        if not has_scope(token, scope):
            return Response(NO_SCOPE, 403)
        return self._serve(request, snippet.git, service, body)

    def _refusal(self, token: Token, repository: GitRepository, service: str) -> Response | None:
        if not can_see(token, repository):
            return Response(NOT_FOUND, 404)
        scope = "repository" if service == "git-upload-pack" else "repository:write"
        return None if has_scope(token, scope) else Response(NO_SCOPE, 403)

    def _serve(self, request: Request, repository: GitRepository, service: str, body: bytes) -> Response:
        is_v2 = (
            self._switches.git_protocol_v2
            and service == "git-upload-pack"
            and "version=2" in request.headers.get("git-protocol", "").split(":")
        )
        if request.method == "GET":
            self._announced.add(repository.uuid)
            content = (
                protocol_v2.advertise(self._switches)
                if is_v2
                else smart_http.advertise(repository.git_path, service, self._switches)
            )
            return Response(content, media_type=f"application/x-{service}-advertisement")
        if self._switches.git_needs_get_first and repository.uuid not in self._announced:
            return Response("ask for info/refs first", 400)
        data = smart_http.plain(body, request.headers.get("content-encoding", ""))
        if is_v2:
            content = protocol_v2.serve(repository.git_path, data, self._switches)
        else:
            before = repository.refs()
            token = self._sign_in.git(request.headers.get("authorization")) or ANONYMOUS
            rules = Rules.of(repository, token, self._switches)
            content = smart_http.serve(repository.git_path, service, data, self._switches, rules)
            if service == "git-receive-pack" and (after := repository.refs()) != before:
                names = before.keys() | after.keys()
                pairs = {name: (before.get(name), after.get(name)) for name in sorted(names)}
                moves = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
                repository.moved(moves, self._world.actor(token) if token.kind != "anonymous" else None)
        return Response(content, media_type=f"application/x-{service}-result")
