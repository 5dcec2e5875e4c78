"""The routes of the API: which address, which scope, and what is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode

from dulwich.objects import Commit, ObjectID
from dulwich.repo import Repo
from starlette.responses import Response

from mirror.simulator.paging import BadRequest, Document, Pairs
from mirror.simulator.render import Renderer
from mirror.simulator.signin import ACCESS_TOKENS, has_scope, sees
from mirror.simulator.switches import Switches
from mirror.simulator.world import (
    STATES,
    Issue,
    Pipeline,
    PullRequest,
    SimRepository,
    SimWorkspace,
    Token,
    World,
)

Answered = Document | list[Document] | Response
ISSUES_ARE_GONE = "CHANGE-3071 - Functionality has been deprecated"


class Hidden(Exception):
    """There is no such thing, or (with `scope`) the credential may not see it."""

    def __init__(self, message: str, scope: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.scope = scope


class Gone(Exception):
    """Retired."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Moved(Exception):
    """The repository has another name now."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True)
class Call:
    """One call of a route: who asks for what."""

    world: World
    switches: Switches
    render: Renderer
    token: Token
    names: dict[str, str]
    pairs: Pairs
    storage: str

    @property
    def query(self) -> str:
        """The query, as text."""
        return urlencode(list(self.pairs))

    def workspace(self) -> SimWorkspace:
        """The workspace named in the address, if the credential may see it."""
        found = self.world.workspace(self.names["workspace"])
        if found is None or (self.token.workspace is not None and self.token.workspace != found.slug):
            raise Hidden(f"No workspace with identifier '{self.names['workspace']}'.")
        return found

    def repository(self) -> SimRepository:
        """The repository named in the address, if the credential may see it."""
        slug = self.names["repository"]
        workspace = self.world.workspace(self.names["workspace"])
        found = workspace.repository(slug) if workspace is not None else None
        if found is None:
            moved = self.world.moved.get(f"{self.names['workspace']}/{slug}")
            if moved is not None:
                rest = self.names.get("rest", "")
                raise Moved(f"/repositories/{moved}{rest}" + (f"?{self.query}" if self.query else ""))
        if found is None or not sees(self.token, found):
            raise Hidden(f"Repository {self.names['workspace']}/{slug} not found")
        return found

    def pull_request(self) -> PullRequest:
        """The pull request named in the address."""
        found = self.repository().pull_requests.get(_number(self.names["id"]))
        if found is None:
            raise Hidden("Pull request not found")
        return found

    def issue(self) -> Issue:
        """The issue named in the address."""
        repository = self.tracker()
        found = repository.issues.get(_number(self.names["id"]))
        if found is None:
            raise Hidden("Issue not found")
        return found

    def tracker(self) -> SimRepository:
        """The repository, if it still has an issue tracker. That it is gone everybody is told."""
        repository = self.repository()
        if not self.switches.issue_tracker:
            raise Gone(ISSUES_ARE_GONE)
        if not has_scope(self.token, "issue"):
            raise Hidden("no scope", scope="issue")
        return repository

    def pipeline(self) -> Pipeline:
        """The pipeline named in the address, by uuid with braces or by number."""
        key = self.names["pipeline"]
        repository = self.repository()
        if not key.isdigit() and not (key.startswith("{") and key.endswith("}")):
            raise BadRequest(f"{key} is not a valid uuid")
        for one in repository.pipelines.values():
            if one.uuid == key or str(one.number) == key:
                return one
        raise Hidden("Pipeline not found")

    def hidden(self, entry: Document) -> Document:
        """What a list's entry leaves out: the people of a pull request."""
        if entry.get("type") != "pullrequest" or not self.switches.participants_in_lists:
            return {}
        return self.render.people(self.repository().pull_requests[entry["id"]])


def _number(text: str) -> int:
    return int(text) if text.isdigit() else -1


@dataclass(frozen=True)
class Route:
    """One address. `most` is its page cap; `filters` and `sorts` whether `q` and `sort` work."""

    template: str
    scope: str | None
    handler: Callable[[Call], Answered]
    most: int = 100
    filters: bool = False
    sorts: bool = False

    def match(self, raw: str, *, slash_counts: bool) -> dict[str, str] | None:
        """The names in the address, decoded, or None where it is another."""
        template = self.template
        if template.endswith("/") and not slash_counts:
            template, raw = template.rstrip("/"), raw.rstrip("/")
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", re.sub(r"([.])", r"\\\1", template))
        found = re.fullmatch(pattern, raw)
        if found is None:
            return None
        names = {name: unquote(value) for name, value in found.groupdict().items()}
        if "repository" in names:
            names["rest"] = "/" + "/".join(raw.split("/")[4:]) if raw.count("/") > 3 else ""
        return names

    def cap(self, switches: Switches) -> int:
        """The page cap."""
        return 100 if self.most == 50 and not switches.pull_request_page_cap_50 else self.most

    def tells_next(self, switches: Switches) -> bool:
        """Whether its lists have `next`."""
        return switches.pipelines_have_next or "/pipelines/" not in self.template


def _user(call: Call) -> Answered:
    if call.token.user is None:
        raise Hidden("no user", scope="account")
    return call.render.user(call.token.user)


def _user_workspaces(call: Call) -> Answered:
    if call.token.kind in ACCESS_TOKENS and not call.switches.access_tokens_list_workspaces:
        raise Hidden("not for access tokens", scope="account")
    visible = [] if call.token.kind in ACCESS_TOKENS else list(call.world.workspaces.values())
    return [
        {"type": "workspace_access", "administrator": False, "workspace": call.render.slim_workspace(one)}
        for one in visible
        if call.token.workspace in (None, one.slug)
    ]


def _projects(call: Call) -> Answered:
    workspace = call.workspace()
    return [call.render.project(workspace, key) for key in sorted(workspace.projects)]


def _members(call: Call) -> Answered:
    workspace = call.workspace()
    return [
        {
            "type": "workspace_membership",
            "user": call.render.user(user),
            "workspace": call.render.slim_workspace(workspace),
        }
        for user in call.world.users.values()
    ]


def _repositories(call: Call) -> Answered:
    workspace = call.workspace()
    narrow = call.token.kind == "repository_access_token" and not call.switches.narrow_tokens_list
    if narrow and "project.key" not in dict(call.pairs).get("q", ""):
        raise Hidden("narrow", scope="repository")
    login = "x-token-auth" if call.token.kind in ACCESS_TOKENS else None
    return [
        call.render.repository(one, login)
        for one in sorted(workspace.repositories.values(), key=lambda one: one.created)
        if sees(call.token, one)
    ]


def _repository(call: Call) -> Answered:
    login = "x-token-auth" if call.token.kind in ACCESS_TOKENS else None
    return call.render.repository(call.repository(), login)


def _pull_requests(call: Call) -> Answered:
    states = [value for name, value in call.pairs if name == "state"] or ["OPEN"]
    if not set(states) <= set(STATES):
        raise BadRequest("Invalid state")
    if call.switches.sort_with_states_fails and len(states) > 1 and "sort" in dict(call.pairs):
        return Response(status_code=500, content="{}", media_type="application/json")
    pulls = call.repository().pull_requests.values()
    newest = sorted(pulls, key=lambda one: -one.id)
    return [call.render.pull_request(one, listed=True) for one in newest if one.state in states]


def _pull_activity(call: Call) -> Answered:
    pull = call.pull_request()
    return [call.render.activity(entry, pull) for entry in pull.activity]


def _all_activity(call: Call) -> Answered:
    pulls = call.repository().pull_requests.values()
    return [call.render.activity(entry, pull) for pull in pulls for entry in pull.activity]


def _commits(call: Call) -> Answered:
    """The commits of a pull request that its destination does not have, newest first."""
    pull = call.pull_request()
    found: list[Document] = []
    with Repo(str(pull.repository.git_path)) as repo:
        value: ObjectID | None = ObjectID(pull.source_hash.encode())
        while value is not None and value.decode() != pull.destination_hash and len(found) < 250:
            commit = repo.object_store[value]
            assert isinstance(commit, Commit)
            message = commit.message.decode("utf-8", "replace")
            found.append(call.render.commit(pull.repository, value.decode(), message))
            value = commit.parents[0] if commit.parents else None
    return found


def _attachments(call: Call) -> Answered:
    call.issue()
    return []


def _changes(call: Call) -> Answered:
    issue = call.issue()
    return [
        {
            "type": "issue_change",
            "id": issue.id * 1000,
            "created_on": call.render.issue(issue)["created_on"],
            "user": call.render.user(issue.author),
            "changes": {"state": {"old": "", "new": issue.state}},
            "message": call.render.issue(issue)["content"],
            "issue": {"type": "issue", "id": issue.id, "title": issue.title},
        }
    ]


def _pipelines(call: Call) -> Answered:
    pipelines = sorted(call.repository().pipelines.values(), key=lambda one: one.created)
    return [call.render.pipeline(one) for one in pipelines]


def _log(call: Call) -> Answered:
    pipeline = call.pipeline()
    step = next((one for one in pipeline.steps if one.uuid == call.names["step"]), None)
    if step is None or step.log is None:
        raise Hidden("The log does not exist")
    if pipeline.result is None:
        return Response(step.log, media_type="application/octet-stream")
    # Finished logs lie in long-term storage on another host.
    repository = pipeline.repository
    where = f"{repository.full_name}/{pipeline.number}/{step.uuid.strip('{}')}"
    return Response(status_code=307, headers={"Location": f"{call.storage}/storage/{where}"})


def _each(items: Any, one: Callable[[Any], Document]) -> list[Document]:
    return [one(item) for item in items]


_R = "/repositories/{workspace}/{repository}"
_PR = _R + "/pullrequests/{id}"
_I = _R + "/issues/{id}"
ROUTES: tuple[Route, ...] = (
    Route("/user", "account", _user),
    Route("/user/workspaces", "account", _user_workspaces, filters=True),
    Route("/workspaces/{workspace}", None, lambda c: c.render.workspace(c.workspace())),
    Route("/workspaces/{workspace}/members", "account", _members),
    Route("/workspaces/{workspace}/projects", "project", _projects, filters=True, sorts=True),
    Route("/repositories/{workspace}", "repository", _repositories, filters=True, sorts=True),
    Route(_R, "repository", _repository),
    Route(_R + "/pullrequests", "pullrequest", _pull_requests, 50, filters=True, sorts=True),
    Route(_R + "/pullrequests/activity", "pullrequest", _all_activity, 50),
    Route(_PR, "pullrequest", lambda c: c.render.pull_request(c.pull_request(), listed=False)),
    Route(
        _PR + "/comments", "pullrequest",
        lambda c: _each(c.pull_request().comments, lambda one: c.render.comment(one, c.pull_request())),
        filters=True, sorts=True,
    ),
    Route(
        _PR + "/tasks", "pullrequest",
        lambda c: _each(c.pull_request().tasks, lambda one: c.render.task(one, c.pull_request())),
        filters=True, sorts=True,
    ),
    Route(_PR + "/activity", "pullrequest", _pull_activity, 50),
    Route(
        _PR + "/statuses", "pullrequest",
        lambda c: _each(c.pull_request().statuses, c.render.status), filters=True, sorts=True,
    ),
    Route(_PR + "/commits", "pullrequest", _commits),
    Route(
        _R + "/issues", None, lambda c: _each(c.tracker().issues.values(), c.render.issue),
        filters=True, sorts=True,
    ),
    Route(
        _I + "/comments", None,
        lambda c: _each(c.issue().comments, lambda one: c.render.issue_comment(one, c.issue())),
        filters=True,
    ),
    Route(_I + "/changes", None, _changes),
    Route(_I + "/attachments", None, _attachments),
    # `q` is ignored for pipelines.
    Route(_R + "/pipelines/", "pipeline", _pipelines, sorts=True),
    Route(
        _R + "/pipelines/{pipeline}/steps/", "pipeline",
        lambda c: _each(c.pipeline().steps, lambda one: c.render.step(one, c.pipeline())),
    ),
    Route(_R + "/pipelines/{pipeline}/steps/{step}/log", "pipeline", _log),
)  # fmt: skip
