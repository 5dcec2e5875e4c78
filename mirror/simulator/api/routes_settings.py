"""Routes of settings, downloads, snippets, commit comments and reports."""

from __future__ import annotations

import functools
import io
import mimetypes
from collections.abc import Callable
from typing import Any

from dulwich.objects import Commit, ObjectID
from dulwich.patch import write_tree_diff
from dulwich.repo import Repo
from starlette.responses import Response

from mirror.simulator.api.render_repositories import Document
from mirror.simulator.api.routes_repositories import R, commits_between
from mirror.simulator.api.routing import (
    OCTETS,
    Call,
    Hidden,
    Listing,
    Route,
    RouteResult,
    always,
    need_braces,
)
from mirror.simulator.switches import Switches
from mirror.simulator.world.discussions import Snippet
from mirror.simulator.world.repository import SimRepository

Handler = Callable[[Call], RouteResult]
_W = "/workspaces/{workspace}"
_P = _W + "/projects/{project}"
_C = R + "/commit/{commit}"
_S = "/snippets/{workspace}"
READ = "read:repository:bitbucket"
WORKSPACE = "read:workspace:bitbucket"
SYSTEM_KEY = (
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZpublic\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"
)


def _listed(name: str) -> Handler:
    """A handler for the repository's setting `name`, a list."""

    def handler(call: Call) -> RouteResult:
        repository = call.repository()
        render = call.render
        return Listing(
            repository.settings.get(name, []), lambda one: render.repository_setting(one, repository)
        )

    return handler


def _single(name: str, *, absent: Document | None = None) -> Handler:
    """A handler for the repository's setting `name`, an object; where it is not set, `absent` or 404."""

    def handler(call: Call) -> RouteResult:
        repository = call.repository()
        found = repository.settings.get(name, absent)
        if found is None:
            raise Hidden("Resource not found")
        return call.render.repository_setting(found, repository)

    return handler


def _of_workspace(name: str) -> Handler:
    def handler(call: Call) -> RouteResult:
        workspace = call.workspace()
        return Listing(
            workspace.settings.get(name, []), lambda one: call.render.group_setting(one, workspace, "")
        )

    return handler


_NO_MODEL: dict[str, Any] = {"type": "branching_model", "branch_types": []}


def _of_project(name: str, *, single: bool = False, absent: dict[str, Any] | None = None) -> Handler:
    """A handler for a project's setting: a list, or with `single` an object, `absent` where it is not set."""

    def handler(call: Call) -> RouteResult:
        workspace, key = call.workspace(), call.names["project"]
        if key not in workspace.projects:
            raise Hidden("Project not found")
        found = workspace.project_settings.get(key, {}).get(name, absent)
        if not single:
            return Listing(found or [], lambda one: call.render.group_setting(one, workspace, key))
        if found is None:
            raise Hidden("Resource not found")
        return call.render.group_setting(found, workspace, key)

    return handler


def _environment_variables(call: Call) -> RouteResult:
    repository = call.repository()
    need_braces(call.names["environment"])
    if call.names["environment"] not in {one["uuid"] for one in repository.settings.get("environments", [])}:
        raise Hidden("Environment not found")
    return Listing(
        repository.environment_variables.get(call.names["environment"], []),
        lambda one: call.render.repository_setting(one, repository),
    )


def _schedule_executions(call: Call) -> RouteResult:
    repository, wanted = call.repository(), call.names["schedule"]
    need_braces(wanted)
    if wanted not in {one["uuid"] for one in repository.settings.get("schedules", [])}:
        raise Hidden("Schedule not found")
    return Listing(repository.schedule_executions.get(wanted, []), dict)


def _system_key(call: Call) -> RouteResult:
    """The SSH key of Bitbucket itself, the same for every workspace."""
    call.workspace()
    return Response(SYSTEM_KEY, media_type="text/plain")


def _deployments(call: Call) -> RouteResult:
    if "sort" in dict(call.pairs) and call.switches.deployments_refuse_sort:
        return Response('{"type":"error","error":{"message":"Bad request"}}', 400)
    return _listed("deployments")(call)


def _forks(call: Call) -> RouteResult:
    repository = call.repository()
    forks = [
        one
        for workspace in call.world.workspaces.values()
        for one in workspace.repositories.values()
        if one.parent is repository
    ]
    return Listing(forks, call.render.repository)


def _downloads(call: Call) -> RouteResult:
    repository = call.repository()
    return Listing(repository.downloads, lambda one: call.render.download(one, repository))


def _download(call: Call) -> RouteResult:
    repository = call.repository()
    if all(one.name != call.names["filename"] for one in repository.downloads):
        raise Hidden("File not found")
    where = f"{call.storage}/storage/downloads/{repository.uuid.strip('{}')}/{call.names['filename']}"
    return Response(status_code=302, headers={"Location": where})


# -- commits


def commit_hash(call: Call, repository: SimRepository) -> str:
    """The full hash of the commit that the path names by its hash or a prefix."""
    wanted = call.names["commit"].encode()
    with Repo(str(repository.git_path)) as repo:
        for value in repo.object_store.iter_prefix(wanted) if 4 <= len(wanted) <= 40 else ():
            if isinstance(repo.object_store[ObjectID(value)], Commit):
                return bytes(value).decode("ascii")
    raise Hidden("Commit not found")


def _commit_comments(call: Call) -> RouteResult:
    repository = call.repository()
    value = commit_hash(call, repository)
    return Listing(
        repository.commit_comments.get(value, []),
        lambda one: call.render.commit_comment(one, repository, value),
    )


def _commit_statuses(call: Call) -> RouteResult:
    repository = call.repository()
    value = commit_hash(call, repository)
    return Listing(
        repository.commit_statuses.get(value, []),
        lambda one: call.render.commit_status(one, repository, value),
    )


def _reports(call: Call) -> RouteResult:
    repository = call.repository()
    value = commit_hash(call, repository)
    return Listing(repository.reports.get(value, []), call.render.report)


def _annotations(call: Call) -> RouteResult:
    repository = call.repository()
    found = report_named(call, repository, commit_hash(call, repository))
    if found is None:
        raise Hidden("Report not found")
    return Listing(found["annotations"], functools.partial(call.render.annotation, found["date"]))


def report_named(call: Call, repository: SimRepository, value: str) -> Document | None:
    """The report on a commit that the path names by uuid or external id."""
    for one in repository.reports.get(value, []):
        if call.names["report"] in (one["uuid"], one.get("fields", {}).get("external_id")):
            return one
    return None


def _patch_of_pull_request(call: Call) -> RouteResult:
    pull = call.pull_request()
    if pull.origin.gone:
        raise Hidden("Repository not found")
    spec = f"{pull.origin.full_name}:{pull.source_hash}%0D{pull.destination_hash}"
    where = f"{call.render.api}/repositories/{pull.repository.full_name}/patch/{spec}"
    return Response(
        status_code=302, headers={"Location": f"{where}?from_pullrequest_id={pull.id}&topic=true"}
    )


def _patch(call: Call) -> RouteResult:
    """The patches of the commits that one hash reaches and another does not."""
    repository, spec = call.repository(), call.names["spec"]
    source, separator, destination = spec.partition("\r" if "\r" in spec else "..")
    if not separator:
        raise Hidden("Commit not found")
    origin = repository
    if ":" in source:
        name, _, source = source.rpartition(":")
        workspace, _, slug = name.partition("/")
        origin = call.world.repository(workspace, slug) or repository
    listing = commits_between(call, origin, _whole(origin, source), _whole(repository, destination))
    content = b"".join(_one_patch(origin, one) for one in reversed(listing.items))
    return Response(content, media_type="text/plain")


def _whole(repository: SimRepository, prefix: str) -> str:
    with Repo(str(repository.git_path)) as repo:
        for value in repo.object_store.iter_prefix(prefix.encode()) if len(prefix) >= 4 else ():
            return bytes(value).decode("ascii")
    raise Hidden("Commit not found")


def _one_patch(repository: SimRepository, commit: Commit) -> bytes:
    out = io.BytesIO()
    out.write(b"From %s Mon Sep 17 00:00:00 2001\nFrom: %s\n" % (commit.id, commit.author))
    out.write(b"Subject: [PATCH] %s\n---\n" % commit.message.strip())
    with Repo(str(repository.git_path)) as repo:
        parent = repo.object_store[commit.parents[0]] if commit.parents else None
        before = parent.tree if isinstance(parent, Commit) else None
        write_tree_diff(out, repo.object_store, before, commit.tree)
    return out.getvalue()


# -- the issue tracker


def _of_tracker(name: str) -> Handler:
    def handler(call: Call) -> RouteResult:
        repository = call.tracker()
        named = list(enumerate(repository.tracker.get(name, []), 1))
        return Listing(named, lambda one: call.render.of_tracker(name, one[0], one[1], repository))

    return handler


# -- snippets


def named_snippet(call: Call) -> Snippet:
    found = call.workspace().snippets.get(call.names["snippet"])
    if found is None:
        raise Hidden("Snippet not found")
    return found


def _snippets(call: Call) -> RouteResult:
    workspace = call.workspace()
    shown = sorted(workspace.snippets.values(), key=lambda one: one.updated, reverse=True)
    return Listing(shown, lambda one: call.render.snippet(one, workspace.slug, listed=True))


def _one_snippet(call: Call) -> RouteResult:
    return call.render.snippet(named_snippet(call), call.workspace().slug, listed=False)


def _snippet_comments(call: Call) -> RouteResult:
    snippet = named_snippet(call)
    return Listing(snippet.comments, lambda one: call.render.snippet_comment(one, snippet))


def _snippet_commits(call: Call) -> RouteResult:
    snippet = named_snippet(call)
    return Listing([snippet], call.render.snippet_commit)


def _snippet_file_now(call: Call) -> RouteResult:
    """A redirect to the newest revision."""
    snippet = named_snippet(call)
    if call.names["path"] not in snippet.files:
        raise Hidden("File not found")
    where = call.render.snippet_file(snippet, call.workspace().slug, call.names["path"])
    return Response(status_code=302, headers={"Location": where})


def _snippet_file(call: Call) -> RouteResult:
    snippet = named_snippet(call)
    content = snippet.files.get(call.names["path"])
    if content is None or call.names["node"] not in (snippet.commit, snippet.commit[:7]):
        raise Hidden("File not found")
    kind, _ = mimetypes.guess_type(call.names["path"])
    headers = {"Content-Disposition": "attachment"}
    return Response(content, headers=headers, media_type=kind or OCTETS)


def _numbered(switches: Switches) -> bool:
    return switches.pipelines_have_next


def _setting(path: str, scope: str, name: str, **more: Any) -> Route:
    return Route(R + path, scope, _listed(name), **more)


_ADMIN = "repository:admin"
_PERMISSION: dict[str, Any] = {"long": READ, "permissions": True}
SETTINGS: tuple[Route, ...] = (
    _setting("/branch-restrictions", _ADMIN, "branch_restrictions"),
    Route(
        R + "/branching-model", "repository",
        _single("branching_model", absent={"type": "branching_model", "branch_types": []}), public=True,
    ),
    Route(
        R + "/branching-model/settings", _ADMIN,
        _single("branching_model_settings", absent={"type": "branching_model_settings", "branch_types": []}),
    ),
    _setting("/default-reviewers", "pullrequest", "default_reviewers"),
    _setting("/deploy-keys", _ADMIN, "deploy_keys"),
    _setting("/hooks", "webhook", "hooks"),
    _setting("/permissions-config/users", _ADMIN, "permissions_users", **_PERMISSION),
    _setting("/permissions-config/groups", _ADMIN, "permissions_groups", **_PERMISSION),
    Route(
        R + "/override-settings", _ADMIN,
        _single("override_settings",
            absent={"type": "repository_inheritance_state", "override_settings": {}}),
    ),
    _setting("/watchers", "repository", "watchers", public=True),
    Route(R + "/forks", "repository", _forks, filters=True, sorts=always, public=True),
    Route(R + "/downloads", "repository", _downloads, public=True),
    Route(
        R + "/downloads/{filename}", "repository", _download, public=True, media=None, only_redirects=True
    ),
    _setting("/environments", "pipeline", "environments", has_next=_numbered, numbered=True),
    Route(
        R + "/deployments_config/environments/{environment}/variables", "pipeline", _environment_variables,
        has_next=_numbered, numbered=True,
    ),
    Route(
        R + "/deployments/", "pipeline", _deployments, has_next=_numbered, numbered=True,
    ),
    Route(R + "/pipelines_config", _ADMIN, _single("pipelines_config")),
    _setting("/pipelines_config/variables", "pipeline", "variables", has_next=_numbered, numbered=True),
    _setting("/pipelines_config/schedules", "pipeline", "schedules", has_next=_numbered, numbered=True),
    Route(
        R + "/pipelines_config/schedules/{schedule}/executions", "pipeline", _schedule_executions,
        has_next=_numbered, numbered=True,
    ),
    _setting(
        "/pipelines_config/ssh/known_hosts", "pipeline", "known_hosts", has_next=_numbered, numbered=True
    ),
    Route(R + "/pipelines_config/ssh/key_pair", "pipeline", _single("key_pair")),
    _setting("/pipelines-config/caches", "pipeline", "caches", has_next=_numbered, numbered=True),
    _setting("/pipelines-config/runners", "runner", "runners", has_next=_numbered, numbered=True),
    Route(_C + "/comments", "repository", _commit_comments, filters=True, sorts=always, public=True),
    Route(
        _C + "/statuses", "repository", _commit_statuses, filters=True, sorts=always, public=True
    ),
    Route(_C + "/reports", "repository", _reports),
    Route(_C + "/reports/{report}/annotations", "repository", _annotations),
    Route(
        R + "/pullrequests/{id}/patch", "pullrequest", _patch_of_pull_request, public=True,
        media="text/plain", only_redirects=True, is_of_diff=True,
    ),
    Route(R + "/patch/{spec}", "repository", _patch, public=True, media="text/plain", is_of_diff=True),
    Route(R + "/milestones", None, _of_tracker("milestones"), public=True),
    Route(R + "/versions", None, _of_tracker("versions"), public=True),
    Route(R + "/components", None, _of_tracker("components"), public=True),
    Route(
        _W + "/permissions/repositories", "account", _of_workspace("repository_permissions"), filters=True,
        **_PERMISSION,
    ),
    Route(_W + "/settings/gpg/public-key", "account", _system_key, long=WORKSPACE, media="text/plain"),
    Route(_W + "/hooks", "webhook", _of_workspace("hooks")),
    Route(_W + "/pipelines-config/variables", "pipeline", _of_workspace("variables")),
    Route(_W + "/pipelines-config/runners", "runner", _of_workspace("runners")),
    Route(
        _P + "/default-reviewers", "project:admin", _of_project("default_reviewers"),
        long="read:pullrequest:bitbucket",
    ),
    Route(
        _P + "/branching-model", "project:admin",
        _of_project("branching_model", single=True, absent=_NO_MODEL), long=READ,
    ),
    Route(
        _P + "/branching-model/settings", "project:admin",
        _of_project(
            "branching_model_settings", single=True,
            absent={"type": "branching_model_settings", "branch_types": []},
        ),
    ),
    Route(_P + "/deploy-keys", "project:admin", _of_project("deploy_keys")),
    Route(
        _P + "/permissions-config/users", "project:admin", _of_project("permissions_users"),
        long="read:project:bitbucket", permissions=True,
    ),
    Route(
        _P + "/permissions-config/groups", "project:admin", _of_project("permissions_groups"),
        long="read:project:bitbucket", permissions=True,
    ),
    Route(_S, "snippet", _snippets),
    Route(_S + "/{snippet}", "snippet", _one_snippet),
    Route(_S + "/{snippet}/comments", "snippet", _snippet_comments, sorts=always),
    Route(_S + "/{snippet}/commits", "snippet", _snippet_commits),
    Route(_S + "/{snippet}/files/{path}", "snippet", _snippet_file_now, media=None, only_redirects=True),
    Route(_S + "/{snippet}/{node}/files/{path}", "snippet", _snippet_file, media=None),
    Route(_S + "/{snippet}/files/{node}/{path}", "snippet", _snippet_file, media=None),
)  # fmt: skip
