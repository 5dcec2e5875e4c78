"""Git LFS: the batch API on the git origin, and the media store on the storage origin."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mirror.simulator.authentication import ACCESS_TOKENS, ANONYMOUS, can_see, has_scope
from mirror.simulator.storage import denied, ranged
from mirror.simulator.switches import Switches
from mirror.simulator.world.people import Token
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import World

MEDIA_TYPE = "application/vnd.git-lfs+json"
PREFIX = "info/lfs/"
BATCH_MAX = 100
_OID = re.compile(r"[0-9a-f]{64}")


def object_file(repository: SimRepository, oid: str) -> Path:
    """The path of an LFS object of a repository."""
    return repository.git_path / "lfs" / "objects" / oid[:2] / oid[2:4] / oid


def add_object(repository: SimRepository, content: bytes) -> bytes:
    """Store an object; returns the pointer file to commit in its place."""
    oid = hashlib.sha256(content).hexdigest()
    path = object_file(repository, oid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return pointer(oid, len(content))


def pointer(oid: str, size: int) -> bytes:
    """The pointer file of an object, as git-lfs writes it."""
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (oid.encode(), size)


class LfsApp:
    """Serves all repositories. `addresses` returns the URLs of git and of the storage."""

    def __init__(self, world: World, switches: Switches, addresses: Callable[[], tuple[str, str]]) -> None:
        self._world = world
        self._switches = switches
        self._addresses = addresses
        self._secret = secrets.token_bytes(32)
        # Seconds that an action stays valid.
        self.seconds = 900

    # -- on the git origin

    def answer(
        self, request: Request, repository: SimRepository | None, tail: str, token: Token | None, body: bytes
    ) -> Response:
        """The response to a request below `info/lfs/` of a repository."""
        if tail == "objects/verify" and self._is_signed(request):
            return self._verify(repository, json.loads(body))
        if token is None and request.headers.get("authorization"):
            return self._message(401, "Invalid credentials")
        if token is None and (repository is None or repository.private):
            # git-lfs authenticates by itself only after a 401.
            return self._message(403 if self._switches.lfs_anonymous_is_403 else 401, "Access denied")
        if repository is None or not can_see(token or ANONYMOUS, repository):
            return self._message(404, "Repository not found")
        if (request.method, tail) not in (("POST", "objects/batch"), ("POST", "objects/verify")):
            return self._message(404, "Not found")
        kinds = (request.headers.get("accept", ""), request.headers.get("content-type", ""))
        if not all(one.partition(";")[0].strip() == MEDIA_TYPE for one in kinds):
            return self._message(415, f"Only {MEDIA_TYPE} is spoken here")
        try:
            data = json.loads(body)
        except ValueError:
            return self._message(400, "This is no JSON")
        if tail == "objects/verify":
            return self._refused(token, "upload") or self._verify(repository, data)
        return self._batch(repository, token, data)

    def _batch(self, repository: SimRepository, token: Token | None, data: Any) -> Response:
        operation, objects = data.get("operation"), data.get("objects")
        is_known = operation in ("download", "upload") and isinstance(objects, list) and objects
        if not is_known or not all(_is_object(one) for one in objects):
            return self._message(422, "Validation failed")
        if len({one["oid"] for one in objects}) < len(objects) or data.get("hash_algo", "sha256") != "sha256":
            return self._message(422, "Validation failed")
        if "basic" not in data.get("transfers", ["basic"]):
            return self._message(422, "Only the basic transfer is spoken here")
        if len(objects) > BATCH_MAX:
            return self._message(413, f"No more than {BATCH_MAX} objects at a time")
        refused = self._refused(token, operation)
        if refused is not None:
            return refused
        give = self._download if operation == "download" else self._upload
        return self._json({"transfer": "basic", "objects": [give(repository, one) for one in objects]})

    def _refused(self, token: Token | None, operation: str) -> Response | None:
        scope = "repository" if operation == "download" else "repository:write"
        credential = token or ANONYMOUS
        is_of_machine = credential.kind in (*ACCESS_TOKENS, "oauth_token")
        if not has_scope(credential, scope) or (is_of_machine and not self._switches.lfs_takes_access_tokens):
            return self._message(403, "You are not allowed to access LFS objects of this repository.")
        return None

    def _download(self, repository: SimRepository, wanted: dict[str, Any]) -> dict[str, Any]:
        oid, size = wanted["oid"], wanted["size"]
        path = object_file(repository, oid)
        if not path.is_file():
            return {"oid": oid, "size": size, "error": {"code": 404, "message": "Object does not exist"}}
        if path.stat().st_size != size and self._switches.lfs_checks_sizes:
            return {"oid": oid, "size": size, "error": {"code": 422, "message": "The size is another"}}
        return {"oid": oid, "size": size, "actions": {"download": self._media("GET", repository, oid)}}

    def _upload(self, repository: SimRepository, wanted: dict[str, Any]) -> dict[str, Any]:
        oid, size = wanted["oid"], wanted["size"]
        if object_file(repository, oid).is_file():
            return {"oid": oid, "size": size}
        actions = {"upload": self._media("PUT", repository, oid)}
        if self._switches.lfs_wants_verify:
            base, path = self._addresses()[0], f"/{repository.full_name}.git/{PREFIX}objects/verify"
            actions["verify"] = self._action("POST", base, path)
        return {"oid": oid, "size": size, "actions": actions}

    def _verify(self, repository: SimRepository | None, data: Any) -> Response:
        path = object_file(repository, data["oid"]) if repository is not None and _is_object(data) else None
        if path is None or not path.is_file() or path.stat().st_size != data["size"]:
            return self._message(404, "Object does not exist")
        return self._json({})

    def _media(self, method: str, repository: SimRepository, oid: str) -> dict[str, Any]:
        """The actions of an object in a batch response."""
        return self._action(method, self._addresses()[1], f"/storage/lfs/{repository.uuid.strip('{}')}/{oid}")

    def _action(self, method: str, base: str, path: str) -> dict[str, Any]:
        """A signed URL with its headers, valid for some minutes."""
        ends = self._world.clock() + timedelta(seconds=self.seconds)
        until = str(int(ends.timestamp()))
        action: dict[str, Any] = {
            "href": f"{base}{path}?until={until}",
            "header": {"Authorization": f"Bearer {self._sign(method, path, until)}"},
        }
        if self._switches.lfs_expiry_is_a_time:
            action["expires_at"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
        else:
            action["expires_in"] = self.seconds
        return action

    def _is_signed(self, request: Request) -> bool:
        """Whether the signature of a request is valid and not expired."""
        until = request.query_params.get("until", "")
        good = f"Bearer {self._sign(request.method, request.url.path, until)}"
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), good.encode()) and (
            int(until) > self._world.clock().timestamp()
        )

    def _sign(self, method: str, path: str, until: str) -> str:
        return hmac.new(self._secret, f"{method} {path} {until}".encode(), hashlib.sha256).hexdigest()

    def _message(self, status: int, message: str) -> Response:
        response = Response(json.dumps({"message": message}), status, media_type=MEDIA_TYPE)
        if status == 401:
            response.headers["LFS-Authenticate"] = 'Basic realm="Bitbucket.org HTTP"'
        return response

    def _json(self, document: dict[str, Any]) -> Response:
        return Response(json.dumps(document), media_type=MEDIA_TYPE)

    # -- on the storage origin

    def stored(self, request: Request, body: bytes) -> Response:
        """The response of the media store to a signed GET or PUT. Others are refused."""
        if not self._is_signed(request):
            return denied("The request is not signed, or no longer")
        uuid, oid = request.url.path.split("/")[3:5]
        repository = self._world.repository("{}", f"{{{uuid}}}")
        if repository is None:
            return Response("no such bucket", 404)
        if request.method == "PUT":
            if hashlib.sha256(body).hexdigest() != oid:
                return Response("these are other bytes", 400)
            add_object(repository, body)
            return Response(status_code=200)
        file = object_file(repository, oid)
        if not file.is_file():
            return Response("no such key", 404)
        return ranged(file.read_bytes(), dict(request.headers) if self._switches.lfs_ranges else {})


def _is_object(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and _OID.fullmatch(str(data.get("oid"))) is not None
        and type(data.get("size")) is int
        and data["size"] >= 0
    )
