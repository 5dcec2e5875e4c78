"""Writing routes of projects, repositories and refs."""

from __future__ import annotations

import re
from typing import Any

from dulwich.objects import Commit, ObjectID
from dulwich.repo import Repo
from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.routing import NOT_YOURS, Forbidden, Hidden
from mirror.simulator.authentication import can_see
from mirror.simulator.responses import json_response
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import SimWorkspace
from mirror.simulator.writes.routing import Document, Write, WriteRoute, created, nothing
from mirror.simulator.writes.schemas import Boolean, Object, Schema, String

R = "/repositories/{workspace}/{repository}"
W = "/workspaces/{workspace}"
P = W + "/projects/{project}"
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PROJECT: dict[str, Schema] = {
    "key": String(), "name": String(), "description": String(), "is_private": Boolean(), "uuid": String(),
    "links": Object({"avatar": Object({"href": String()})}),
}  # fmt: skip
PROJECT = Object(_PROJECT)
REPOSITORY = Object(
    {
        "name": String(), "description": String(), "is_private": Boolean(), "scm": String(("git",)),
        "fork_policy": String(("allow_forks", "no_public_forks", "no_forks")), "language": String(),
        "has_issues": Boolean(), "has_wiki": Boolean(),
        "project": Object({"key": String(), "uuid": String()}),
        "mainbranch": Object({"name": String()}),
    }
)  # fmt: skip
REF = Object(
    {"name": String(), "target": Object({"hash": String()}, needs=("hash",)), "message": String()},
    needs=("name", "target"),
)


def slug_of(name: str) -> str:
    """The slug of a name."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-")


# -- projects


def _create_project(call: Write) -> Response:
    workspace = call.workspace()
    key = call.given.get("key")
    if key in workspace.projects:
        raise BadRequest("Project with this Owner and Key already exists.")
    return created(_put_project(call, workspace, key))


def _update_project(call: Write) -> Response:
    workspace, key = call.workspace(), call.names["project"]
    if call.given.get("key", key) != key:
        raise BadRequest("The key of a project cannot be changed here.")
    is_new = key not in workspace.projects
    return json_response(_put_project(call, workspace, key), 201 if is_new else 200)


def _put_project(call: Write, workspace: SimWorkspace, key: str | None) -> Document:
    _check_reach(call, key)
    if key is None or not _KEY.fullmatch(key):
        raise BadRequest(
            "key: A project's key has letters, digits and underscores, and begins with a letter."
        )
    name = call.given.get("name", workspace.projects.get(key))
    if not name:
        raise BadRequest("name: required key not provided")
    workspace.projects[key] = name
    details = workspace.project_details.setdefault(key, {})
    details.update({one: call.given[one] for one in ("description", "is_private") if one in call.given})
    return call.render.full_project(workspace, key)


def _delete_project(call: Write) -> Response:
    workspace, key = call.workspace(), call.names["project"]
    if key not in workspace.projects:
        raise Hidden("Project not found")
    if any(one.project == key for one in workspace.repositories.values()):
        raise Forbidden("Cannot delete a project that has repositories.")
    for documents in (workspace.projects, workspace.project_details, workspace.project_settings):
        documents.pop(key, None)
    return nothing()


def _check_reach(call: Write, project: str | None) -> None:
    """Refuse a token that is limited to a project or repository."""
    token = call.token
    if token.repository is not None or token.project not in (None, project):
        raise Forbidden("Your credentials do not give access to this project.")


# -- repositories


def _create_repository(call: Write) -> Response:
    workspace, slug = call.workspace(), call.names["repository"]
    if slug in workspace.repositories:
        raise BadRequest("Repository with this Slug and Owner already exists.")
    return json_response(_new_repository(call, workspace, slug))


def _new_repository(call: Write, workspace: SimWorkspace, slug: str) -> Document:
    if slug != slug_of(slug) or not slug:
        raise BadRequest("slug: Enter a valid 'slug' consisting of lower-case letters, numbers, or .-_")
    project = _project_of(call, workspace)
    _check_reach(call, project)
    if call.given.get("mainbranch", {}).get("name") is not None:
        raise BadRequest("mainbranch: The repository has no branch of this name.")
    made = workspace.add_repository(slug, project=project, private=call.given.get("is_private", True))
    made.pipelines_enabled = False
    _describe(call, made)
    return call.render.repository(made)


def _project_of(call: Write, workspace: SimWorkspace) -> str:
    """The key of the project in the body; without one, the oldest project."""
    wanted = call.given.get("project", {})
    if not wanted.get("key") and not wanted.get("uuid"):
        return next(iter(workspace.projects), "PROJ")
    for key in workspace.projects:
        uuid = call.render.project(workspace, key)["uuid"]
        if wanted.get("key") in (key, uuid) or wanted.get("uuid") == uuid:
            return key
    raise BadRequest("project: The requested project does not exist.")


def _describe(call: Write, repository: SimRepository) -> None:
    given = call.given
    repository.description = given.get("description", repository.description)
    repository.private = given.get("is_private", repository.private)
    for name in ("name", "language", "fork_policy"):
        if name in given:
            repository.details[name] = given[name]


def _update_repository(call: Write) -> Response:
    workspace, slug = call.workspace(), call.names["repository"]
    found = workspace.repository(slug)
    if found is None:
        return json_response(_new_repository(call, workspace, slug), 201)
    if not can_see(call.token, found):
        raise Hidden(NOT_YOURS)
    given = call.given
    branch = given.get("mainbranch", {}).get("name")
    if branch is not None and not found.has_branch(branch):
        raise BadRequest("mainbranch: The repository has no branch of this name.")
    renamed = slug_of(given["name"]) if "name" in given else found.slug
    if renamed != found.slug and renamed in workspace.repositories:
        raise BadRequest("Repository with this Slug and Owner already exists.")
    if "project" in given:
        found.project = _project_of(call, workspace)
    _describe(call, found)
    if branch is not None:
        found.set_head(branch)
    if renamed == found.slug:
        call.world.announce("repo:updated", found, call.actor)
        return json_response(call.render.repository(found))
    workspace.rename_repository(found.slug, renamed)
    response = json_response(call.render.repository(found))
    response.headers["Location"] = f"{call.render.api}/repositories/{found.full_name}"
    return response


def _delete_repository(call: Write) -> Response:
    repository = call.repository()
    repository.workspace.delete_repository(repository.slug)
    return nothing()


def _fork(call: Write) -> Response:
    parent = call.repository()
    wanted: Any = call.body.get("workspace") or {}
    slug = wanted.get("slug", parent.workspace.slug) if isinstance(wanted, dict) else ""
    workspace = call.world.workspace(slug)
    if workspace is None:
        raise BadRequest("workspace: There is no such workspace.")
    name = slug_of(call.given.get("name", parent.slug))
    if name in workspace.repositories:
        raise BadRequest("Repository with this Slug and Owner already exists.")
    project = _project_of(call, workspace)
    made = workspace.add_repository(name, project=project, private=parent.private, parent=parent)
    made.pipelines_enabled = False
    _describe(call, made)
    return created(call.render.repository(made))


# -- refs


def _create_ref(prefix: bytes, kind: str) -> Any:
    def handler(call: Write) -> Response:
        repository, name = call.repository(), call.given["name"]
        ref = prefix + name.encode()
        if ref in repository.refs():
            raise BadRequest(f'{kind} "{name}" already exists.')
        value = _commit_of(repository, call.given["target"]["hash"])
        if kind == "tag":
            message = call.given.get("message") or f"Added tag {name} for changeset {value[:12]}"
            repository.tag(name, value, message)
        else:
            repository.set_ref(ref, value)
        target = call.render.slim_commit(repository, value)
        return created(call.render.ref(repository, kind, name, target))

    return handler


def _commit_of(repository: SimRepository, wanted: str) -> str:
    """The commit that a hash, its prefix or a branch names."""
    value = repository.branch(wanted)
    if value is not None:
        return value
    with Repo(str(repository.git_path)) as repo:
        found = list(repo.object_store.iter_prefix(wanted.encode())) if 4 <= len(wanted) <= 40 else []
        commits = [one for one in found if isinstance(repo.object_store[ObjectID(one)], Commit)]
    if len(commits) != 1:
        raise BadRequest(f"{wanted} is not a commit of this repository.")
    return bytes(commits[0]).decode("ascii")


def _delete_ref(prefix: bytes, kind: str) -> Any:
    def handler(call: Write) -> Response:
        repository = call.repository()
        ref = prefix + call.names[kind].encode()
        if ref not in repository.refs():
            raise Hidden("There is no such ref")
        if ref == b"refs/heads/" + (repository.main_branch() or "").encode():
            raise BadRequest("The main branch cannot be deleted.")
        repository.delete_ref(ref)
        return nothing()

    return handler


_PROJECTS = ("project:admin",), ("admin:project:bitbucket",)
_ADMIN = ("repository:admin",), ("admin:repository:bitbucket",)
_WRITE = ("repository:write",), ("write:repository:bitbucket",)
_READ_WRITE = ("repository:write",), ("read:repository:bitbucket", "write:repository:bitbucket")
PLACES: tuple[WriteRoute, ...] = (
    WriteRoute("POST", W + "/projects", *_PROJECTS, _create_project, Object(_PROJECT, ("key", "name"))),
    WriteRoute("PUT", P, *_PROJECTS, _update_project, PROJECT),
    WriteRoute("DELETE", P, *_PROJECTS, _delete_project),
    WriteRoute("POST", R, *_ADMIN, _create_repository, REPOSITORY),
    WriteRoute("PUT", R, *_ADMIN, _update_repository, REPOSITORY),
    WriteRoute("DELETE", R, ("repository:delete",), ("delete:repository:bitbucket",), _delete_repository),
    WriteRoute("POST", R + "/forks", *_READ_WRITE, _fork, REPOSITORY),
    WriteRoute("POST", R + "/refs/branches", *_READ_WRITE, _create_ref(b"refs/heads/", "branch"), REF),
    WriteRoute("DELETE", R + "/refs/branches/{branch}", *_WRITE, _delete_ref(b"refs/heads/", "branch")),
    WriteRoute("POST", R + "/refs/tags", *_READ_WRITE, _create_ref(b"refs/tags/", "tag"), REF),
    WriteRoute("DELETE", R + "/refs/tags/{tag}", *_WRITE, _delete_ref(b"refs/tags/", "tag")),
)
