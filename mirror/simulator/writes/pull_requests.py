"""Writing routes of pull requests, their comments and tasks."""

from __future__ import annotations

from dulwich.graph import can_fast_forward
from dulwich.objects import ObjectID
from dulwich.repo import Repo
from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.render_repositories import core_time
from mirror.simulator.api.routing import Forbidden, Hidden, number
from mirror.simulator.responses import json_response
from mirror.simulator.world.discussions import Comment, PullRequest, Task
from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import User
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.writes.repositories import R
from mirror.simulator.writes.routing import Document, Refused, Write, WriteRoute, created, nothing
from mirror.simulator.writes.schemas import Array, Boolean, Integer, Object, Schema, String

_COMMENT_MAX = 32_768
_LINES: dict[str, Schema] = {name: Integer(1) for name in ("from", "to", "start_from", "start_to")}
CONTENT = Object(
    {"raw": String(), "markup": String(("markdown", "creole", "plaintext")), "html": String()}, closed=True
)
COMMENT: dict[str, Schema] = {
    "content": CONTENT,
    "parent": Object({"id": Integer()}),
    "inline": Object({"path": String(), **_LINES}, needs=("path",), closed=True),
}
_END = Object(
    {
        "branch": Object(
            {"name": String(), "merge_strategies": Array(String()), "default_merge_strategy": String()},
            closed=True,
        ),
        "repository": Object({"full_name": String(), "uuid": String()}),
        "commit": Object({"hash": String()}, closed=True),
    },
    closed=True,
)
_PULL: dict[str, Schema] = {
    "title": String(), "description": String(), "source": _END, "destination": _END,
    "reviewers": Array(Object({"uuid": String(), "account_id": String()})), "close_source_branch": Boolean(),
    "draft": Boolean(),
}  # fmt: skip
_RAW = Object({"raw": String()}, needs=("raw",), closed=True)
NEW_TASK = Object(
    {"content": _RAW, "comment": Object({"id": Integer()}), "pending": Boolean()}, ("content",), closed=True
)
TASK = Object({"content": _RAW, "state": String(("RESOLVED", "UNRESOLVED"))}, closed=True)
STRATEGIES = (
    "merge_commit", "squash", "fast_forward", "squash_fast_forward", "rebase_fast_forward", "rebase_merge",
)  # fmt: skip
MERGE = Object({"message": String(), "close_source_branch": Boolean(), "merge_strategy": String(STRATEGIES)})


# -- pull requests


def _create(call: Write) -> Response:
    repository, given = call.repository(), call.given
    source = given["source"].get("branch", {}).get("name")
    if not given["title"].strip() or not source:
        raise BadRequest("title, source: required key not provided")
    origin = _origin(call, repository)
    destination = _branch_named(given.get("destination"), repository.main_branch() or "")
    for owner, branch in ((origin, source), (repository, destination)):
        if not owner.has_branch(branch):
            raise BadRequest(f"branch not found: {branch}")
    reviewers = _reviewers(call, repository, call.actor)
    for open_one in repository.pull_requests.values():
        ends = (open_one.source, open_one.destination, open_one.origin)
        if open_one.state == "OPEN" and ends == (source, destination, origin):
            return _same(call, open_one)
    if origin is repository and _has_all(repository, source, destination):
        raise BadRequest("There are no changes to be pulled")
    pull = repository.open_pull_request(
        source=source, destination=destination, title=given["title"], author=call.actor,
        description=given.get("description", ""), fork=origin if origin is not repository else None,
    )  # fmt: skip
    pull.reviewers = reviewers
    pull.draft = given.get("draft", False)
    pull.close_source_branch = given.get("close_source_branch", False)
    return created(call.render.pull_request(pull, listed=False))


def _same(call: Write, pull: PullRequest) -> Response:
    """The response to a second pull request between the same branches."""
    if not call.switches.same_pull_request_is_updated:
        raise BadRequest("There is an open pull request between these branches already.")
    _change(call, pull)
    return created(call.render.pull_request(pull, listed=False))


def _origin(call: Write, repository: SimRepository) -> SimRepository:
    """The repository of the source branch: this one, unless a fork is named."""
    named = call.given["source"].get("repository") or {}
    wanted = named.get("full_name") or named.get("uuid")
    if wanted in (None, repository.full_name, repository.uuid):
        return repository
    workspace, _, slug = wanted.partition("/") if "/" in wanted else ("{}", "", wanted)
    found = call.world.repository(workspace, slug)
    if found is None or found.parent is not repository:
        raise BadRequest("source: The repository is no fork of this one.")
    return found


def _branch_named(end: Document | None, default: str) -> str:
    name: str = ((end or {}).get("branch") or {}).get("name") or default
    return name


def _has_all(repository: SimRepository, source: str, destination: str) -> bool:
    """Whether a branch has all the commits of another."""
    head, base = repository.branch(source), repository.branch(destination)
    assert head is not None and base is not None
    with Repo(str(repository.git_path)) as repo:
        return can_fast_forward(repo, ObjectID(head.encode()), ObjectID(base.encode()))


def _reviewers(call: Write, repository: GitRepository, author: User) -> list[User]:
    """The reviewers in the body. An invalid one is refused or, by a switch, left out."""
    found: list[User] = []
    for one in call.given.get("reviewers", []):
        user = call.world.account(one.get("uuid") or one.get("account_id") or "")
        if user is not None and user is not author and user.belongs_to(repository.workspace.slug):
            found.append(user)
        elif call.switches.bad_reviewers_refused:
            name = user.name if user is not None else "Malformed reviewers list: this user"
            why = "is the author" if user is author else "does not have access to the repository"
            raise BadRequest(f"{name} {why} and cannot be included as a reviewer.")
    return found


def _update(call: Write) -> Response:
    pull = call.pull_request()
    if pull.state != "OPEN":
        raise BadRequest("Only open pull requests can be mutated.")
    _change(call, pull)
    return json_response(call.render.pull_request(pull, listed=False))


def _change(call: Write, pull: PullRequest) -> None:
    given, repository = call.given, pull.repository
    destination = _branch_named(given.get("destination"), pull.destination)
    value = repository.branch(destination)
    if value is None and destination != pull.destination:
        raise BadRequest(f"branch not found: {destination}")
    if call.switches.changes_clear_what_they_omit:
        given = {"reviewers": [], "close_source_branch": False, **given}
    if "reviewers" in given:
        pull.reviewers = _reviewers(call, repository, pull.author)
    if destination != pull.destination and value is not None:
        pull.destination, pull.destination_hash = destination, value
    pull.description = given.get("description", pull.description)
    pull.draft = given.get("draft", pull.draft)
    pull.close_source_branch = given.get("close_source_branch", pull.close_source_branch)
    pull.edit(title=given.get("title", pull.title), author=call.actor)


def _merge(call: Write) -> Response:
    pull = _open(call)
    pull.close_source_branch = call.given.get("close_source_branch", pull.close_source_branch)
    pull.merge(author=call.actor, squash="squash" in call.given.get("merge_strategy", ""))
    return json_response(call.render.pull_request(pull, listed=False))


def _decline(call: Write) -> Response:
    pull = _open(call)
    pull.decline(author=call.actor)
    return json_response(call.render.pull_request(pull, listed=False))


def _open(call: Write) -> PullRequest:
    pull = call.pull_request()
    if pull.state != "OPEN":
        raise Refused(409, "This pull request is already closed.")
    return pull


# -- approvals


def _approve(call: Write) -> Response:
    pull = call.pull_request()
    pull.approve(call.actor)
    return json_response(_participant(call, pull))


def _participant(call: Write, pull: PullRequest) -> Document:
    several = call.render.people(pull)["participants"]
    found: Document = next(one for one in several if one["user"]["uuid"] == call.actor.uuid)
    return found


def _unapprove(call: Write) -> Response:
    pull = call.pull_request()
    if not pull.unapprove(call.actor):
        raise Hidden("You have not approved this pull request.")
    return nothing()


def _request_changes(call: Write) -> Response:
    pull = call.pull_request()
    pull.request_changes(call.actor)
    user = call.render.user(call.actor)
    return json_response(
        {"type": "participant", "user": user, "approved": False, "state": "changes_requested"}
    )


def _unrequest_changes(call: Write) -> Response:
    call.pull_request().announce("changes_request_removed", call.actor, date=call.world.now())
    return nothing()


# -- comments


def raw_of(call: Write) -> str:
    """The text of a comment in the body."""
    text: str = call.given["content"].get("raw") or ""
    if not text.strip():
        raise BadRequest("content.raw: required key not provided")
    if call.switches.long_comments_refused and len(text) > _COMMENT_MAX:
        raise BadRequest(f"content.raw: ensure this value has at most {_COMMENT_MAX} characters")
    return text


def inline_of(call: Write) -> Document | None:
    """The line of a file that a comment is attached to."""
    given = call.given.get("inline")
    if given is None:
        return None
    return {"from": None, "to": None, **{name: one for name, one in given.items() if one is not None}}


def parent_id(call: Write) -> int | None:
    """The id of the comment that this one replies to."""
    found: int | None = call.given.get("parent", {}).get("id")
    return found


def parent_of(call: Write, comments: list[Comment]) -> Comment | None:
    """The comment of `comments` that this one replies to."""
    wanted = parent_id(call)
    found = next((one for one in comments if one.id == wanted), None)
    if wanted is not None and found is None:
        raise Refused(500 if call.switches.unknown_parents_are_500 else 400, "Something went wrong")
    return found


def _create_comment(call: Write) -> Response:
    pull, text = call.pull_request(), raw_of(call)
    parent = parent_of(call, pull.comments)
    inline = parent.inline if parent is not None else inline_of(call)
    if inline is not None and parent is None and call.switches.comments_need_their_file:
        sides = (pull.origin, pull.source_hash), (pull.repository, pull.destination_hash)
        if not any(inline["path"] in where.files(value) for where, value in sides):
            raise BadRequest("inline.path: The file is not in the diff.")
    made = pull.comment(text, author=call.actor, parent=parent, inline=inline)
    made.pending = call.given.get("pending", False)
    return created(call.render.comment(made, pull))


def _comment(call: Write, comments: list[Comment]) -> Comment:
    """The comment of `comments` that the path names."""
    for one in comments:
        if one.id == number(call.names["comment"]) and not one.deleted:
            return one
    raise Hidden("Comment not found")


def own_comment(call: Write, comments: list[Comment]) -> Comment:
    """The comment that the path names. Only its author may change it."""
    found = _comment(call, comments)
    if found.author is not call.actor:
        raise Forbidden("You can only change your own comments.")
    return found


def _update_comment(call: Write) -> Response:
    pull = call.pull_request()
    found = own_comment(call, pull.comments)
    pull.edit_comment(found, raw_of(call), pending=call.given.get("pending", found.pending))
    return json_response(call.render.comment(found, pull))


def _delete_comment(call: Write) -> Response:
    pull = call.pull_request()
    pull.delete_comment(own_comment(call, pull.comments))
    return nothing()


def _resolve(call: Write) -> Response:
    pull = call.pull_request()
    found = _comment(call, pull.comments)
    if found.parent is not None or found.inline is None:
        raise Forbidden("Only top-level comments on the diff can be resolved.")
    if found.resolved is not None:
        raise Refused(409, "The comment has already been resolved.")
    pull.resolve(found, by=call.actor)
    assert found.resolved is not None
    user, when = found.resolved
    shown = {"user": call.render.user(user), "created_on": core_time(when)}
    return json_response({"type": "comment_resolution", **shown})


def _reopen(call: Write) -> Response:
    pull = call.pull_request()
    found = _comment(call, pull.comments)
    if found.resolved is None:
        raise Hidden("The comment is not resolved.")
    pull.reopen(found, by=call.actor)
    return nothing()


# -- tasks


def _create_task(call: Write) -> Response:
    pull, wanted = call.pull_request(), call.given.get("comment", {}).get("id")
    comment = next((one for one in pull.comments if one.id == wanted), None)
    if wanted is not None and comment is None:
        raise BadRequest("comment: There is no such comment.")
    made = pull.add_task(_task_text(call.given["content"]), author=call.actor, comment=comment)
    made.pending = call.given.get("pending", False)
    return created(call.render.task(made, pull))


def _task_text(content: Document) -> str:
    text: str = content["raw"]
    if not text.strip():
        raise BadRequest("content.raw: the task content is blank")
    return text


def _task(call: Write, pull: PullRequest) -> Task:
    for one in pull.tasks:
        if one.id == number(call.names["task"]):
            return one
    raise Hidden("Task not found")


def _update_task(call: Write) -> Response:
    pull = call.pull_request()
    found = _task(call, pull)
    if "content" in call.given:
        found.text = _task_text(call.given["content"])
    found.resolved = call.given.get("state", "RESOLVED" if found.resolved else "UNRESOLVED") == "RESOLVED"
    found.edited = call.world.now()
    return json_response(call.render.task(found, pull))


def _delete_task(call: Write) -> Response:
    pull = call.pull_request()
    pull.tasks.remove(_task(call, pull))
    return nothing()


_PULLS = ("pullrequest:write",), ("read:pullrequest:bitbucket", "write:pullrequest:bitbucket")
_UNDO = ("pullrequest:write",), ("write:pullrequest:bitbucket",)
_TALK = ("pullrequest",), ("read:pullrequest:bitbucket",)
_PR = R + "/pullrequests/{id}"
_COMMENT = Object({**COMMENT, "pending": Boolean()}, ("content",))
PULLS: tuple[WriteRoute, ...] = (
    WriteRoute("POST", R + "/pullrequests", *_PULLS, _create, Object(_PULL, ("title", "source"))),
    WriteRoute("PUT", _PR, *_PULLS, _update, Object(_PULL)),
    WriteRoute("POST", _PR + "/approve", *_PULLS, _approve),
    WriteRoute("DELETE", _PR + "/approve", *_UNDO, _unapprove),
    WriteRoute("POST", _PR + "/request-changes", *_PULLS, _request_changes),
    WriteRoute("DELETE", _PR + "/request-changes", *_UNDO, _unrequest_changes),
    WriteRoute("POST", _PR + "/decline", *_PULLS, _decline),
    WriteRoute("POST", _PR + "/merge", *_PULLS, _merge, MERGE),
    WriteRoute("POST", _PR + "/comments", *_TALK, _create_comment, _COMMENT),
    WriteRoute("PUT", _PR + "/comments/{comment}", *_TALK, _update_comment, _COMMENT),
    WriteRoute("DELETE", _PR + "/comments/{comment}", *_TALK, _delete_comment),
    WriteRoute("POST", _PR + "/comments/{comment}/resolve", *_TALK, _resolve),
    WriteRoute("DELETE", _PR + "/comments/{comment}/resolve", *_TALK, _reopen),
    WriteRoute("POST", _PR + "/tasks", *_TALK, _create_task, NEW_TASK),
    WriteRoute("PUT", _PR + "/tasks/{task}", *_TALK, _update_task, TASK),
    WriteRoute("DELETE", _PR + "/tasks/{task}", *_TALK, _delete_task),
)
