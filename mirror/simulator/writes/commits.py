"""Writing routes of commits: comments, approvals, statuses and reports."""

from __future__ import annotations

from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.render_repositories import core_time
from mirror.simulator.api.routes_settings import commit_hash, report_named
from mirror.simulator.api.routing import Hidden
from mirror.simulator.responses import json_response
from mirror.simulator.world.discussions import Comment
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.writes.pull_requests import COMMENT, inline_of, own_comment, parent_id, raw_of
from mirror.simulator.writes.repositories import R
from mirror.simulator.writes.routing import Document, Write, WriteRoute, created, nothing
from mirror.simulator.writes.schemas import AnyValue, Array, Boolean, Integer, Object, Schema, String
from mirror.simulator.writes.setting_lists import new_uuid

_STATUS: dict[str, Schema] = {
    "key": String(), "state": String(("FAILED", "INPROGRESS", "STOPPED", "SUCCESSFUL")), "name": String(),
    "description": String(), "url": String(), "refname": String(),
}  # fmt: skip
REPORT = Object(
    {
        "title": String(), "details": String(), "external_id": String(), "reporter": String(),
        "link": String(),
        "remote_link_enabled": Boolean(), "logo_url": String(),
        "report_type": String(("SECURITY", "COVERAGE", "TEST", "BUG")),
        "result": String(("PASSED", "FAILED", "PENDING")),
        "data": Array(
            Object(
                {
                    "title": String(), "value": AnyValue(),
                    "type": String(
                        ("BOOLEAN", "DATE", "DURATION", "LINK", "NUMBER", "PERCENTAGE", "TEXT")
                    ),
                }
            ),
            most=10,
        ),
    }
)  # fmt: skip
_ANNOTATIONS_MAX = 1000
ANNOTATION = Object(
    {
        "external_id": String(), "annotation_type": String(("VULNERABILITY", "CODE_SMELL", "BUG")),
        "path": String(), "line": Integer(1), "summary": String(), "details": String(),
        "result": String(("PASSED", "FAILED", "SKIPPED", "IGNORED")),
        "severity": String(("CRITICAL", "HIGH", "MEDIUM", "LOW")), "link": String(),
    }
)  # fmt: skip


def _commit(call: Write) -> tuple[SimRepository, str]:
    repository = call.repository()
    return repository, commit_hash(call, repository)


# -- comments and approvals


def _create_comment(call: Write) -> Response:
    repository, value = _commit(call)
    text, parent = raw_of(call), _parent_of(call, repository, value)
    made = repository.comment_on_commit(value, text, author=call.actor)
    made.parent = parent.id if parent is not None else None
    made.inline = parent.inline if parent is not None else inline_of(call)
    return created(call.render.commit_comment(made, repository, value))


def _parent_of(call: Write, repository: SimRepository, commit: str) -> Comment | None:
    """The comment that a new one replies to; it must be on the same commit."""
    wanted = parent_id(call)
    for place, comments in repository.commit_comments.items():
        for one in comments:
            if one.id == wanted and place != commit:
                raise BadRequest("parent: The parent comment is not attached to the same node.")
            if one.id == wanted:
                return one
    if wanted is not None:
        raise Hidden("Parent comment not found")
    return None


def _update_comment(call: Write) -> Response:
    repository, value = _commit(call)
    found = own_comment(call, repository.commit_comments.get(value, []))
    found.text, found.edited = raw_of(call), call.world.now()
    return created(call.render.commit_comment(found, repository, value))


def _delete_comment(call: Write) -> Response:
    repository, value = _commit(call)
    found = own_comment(call, repository.commit_comments.get(value, []))
    found.deleted, found.edited = True, call.world.now()
    return nothing()


def _approve(call: Write) -> Response:
    repository, value = _commit(call)
    if call.actor not in repository.commit_approvals.get(value, []):
        repository.approve_commit(value, call.actor)
    user = call.render.user(call.actor)
    return json_response({"type": "participant", "user": user, "role": "PARTICIPANT", "approved": True})


def _unapprove(call: Write) -> Response:
    repository, value = _commit(call)
    if call.actor not in repository.commit_approvals.get(value, []):
        raise Hidden("You have not approved this commit.")
    repository.commit_approvals[value].remove(call.actor)
    return nothing()


# -- statuses


def _create_status(call: Write) -> Response:
    repository, value = _commit(call)
    given = {name: call.given[name] for name in _STATUS if name in call.given}
    if not given.get("url"):
        raise BadRequest("url: required key not provided")
    now = call.world.now()
    made: Document = {"date": now, **given}
    others = [one for one in repository.commit_statuses.get(value, []) if one["key"] != given["key"]]
    repository.commit_statuses[value] = [*others, made]
    repository.announce_status(value, made, actor=call.actor)
    return created(call.render.commit_status(made, repository, value))


def _update_status(call: Write) -> Response:
    repository, value = _commit(call)
    for one in repository.commit_statuses.get(value, []):
        if one["key"] == call.names["key"]:
            one.update({name: call.given[name] for name in _STATUS if name in call.given})
            one["updated"] = call.world.now()
            repository.announce_status(value, one, is_new=False, actor=call.actor)
            return json_response(call.render.commit_status(one, repository, value))
    raise Hidden("Build status not found")


# -- reports


def _put_report(call: Write) -> Response:
    repository, value = _commit(call)
    found = report_named(call, repository, value)
    if found is None:
        if not call.given.get("title"):
            raise BadRequest("title: required key not provided")
        found = {
            "uuid": new_uuid(), "title": call.given["title"], "date": call.world.now(), "annotations": [],
            "fields": {"external_id": call.names["report"]},
        }  # fmt: skip
        repository.reports.setdefault(value, []).append(found)
    found["fields"] = {**found.get("fields", {}), **_fields_of(REPORT, call.given)}
    return json_response(call.render.report(found))


def _fields_of(schema: Object, given: Document) -> Document:
    return {name: one for name, one in given.items() if name in schema.fields and one is not None}


def _delete_report(call: Write) -> Response:
    repository, value = _commit(call)
    found = report_named(call, repository, value)
    if found is not None:
        repository.reports[value].remove(found)
    return nothing()


def _the_report(call: Write) -> Document:
    repository, value = _commit(call)
    found = report_named(call, repository, value)
    if found is None:
        raise Hidden("Report not found")
    return found


def _add_annotations(call: Write) -> Response:
    report = _the_report(call)
    if any(not one.get("external_id") for one in call.body):
        raise BadRequest("external_id: required key not provided")
    shown = [_annotate(call, report, one["external_id"], one) for one in call.body]
    return json_response(shown)


def _put_annotation(call: Write) -> Response:
    return json_response(_annotate(call, _the_report(call), call.names["annotation"], call.given))


def _annotate(call: Write, report: Document, key: str, given: Document) -> Document:
    """Add an annotation, or change the one that has this id."""
    old = next((one for one in report["annotations"] if _is_called(one, key)), None)
    if old is None and not (given.get("summary") and given.get("annotation_type")):
        raise BadRequest("annotation_type, summary: required key not provided")
    now = core_time(call.world.now())
    blank = {"type": "report_annotation", "uuid": new_uuid(), "external_id": key, "created_on": now}
    new = {**(old or blank), **_fields_of(ANNOTATION, given), "updated_on": now}
    report["annotations"] = [*(one for one in report["annotations"] if one is not old), new]
    if len(report["annotations"]) > _ANNOTATIONS_MAX:
        raise BadRequest(f"A report can contain up to {_ANNOTATIONS_MAX} annotations.")
    return new


def _is_called(annotation: Document | tuple[str, str], key: str) -> bool:
    return isinstance(annotation, dict) and key in (annotation["uuid"], annotation["external_id"])


def _delete_annotation(call: Write) -> Response:
    report, key = _the_report(call), call.names["annotation"]
    report["annotations"] = [one for one in report["annotations"] if not _is_called(one, key)]
    return nothing()


_READ = ("repository",), ("read:repository:bitbucket",)
_BOTH = ("repository:write",), ("read:repository:bitbucket", "write:repository:bitbucket")
_WRITE = ("repository:write",), ("write:repository:bitbucket",)
_C = R + "/commit/{commit}"
_REPORT = _C + "/reports/{report}"
_ANNOTATION = _REPORT + "/annotations/{annotation}"
_COMMENT = Object(COMMENT, ("content",))
COMMITS: tuple[WriteRoute, ...] = (
    WriteRoute("POST", _C + "/comments", *_READ, _create_comment, _COMMENT),
    WriteRoute("PUT", _C + "/comments/{comment}", *_READ, _update_comment, _COMMENT),
    WriteRoute("DELETE", _C + "/comments/{comment}", *_READ, _delete_comment),
    WriteRoute("POST", _C + "/approve", *_BOTH, _approve),
    WriteRoute("DELETE", _C + "/approve", *_WRITE, _unapprove),
    WriteRoute("POST", _C + "/statuses/build", *_READ, _create_status, Object(_STATUS, ("key", "state"))),
    WriteRoute("PUT", _C + "/statuses/build/{key}", *_READ, _update_status, Object(_STATUS)),
    WriteRoute("PUT", _REPORT, *_READ, _put_report, REPORT),
    WriteRoute("DELETE", _REPORT, *_READ, _delete_report),
    WriteRoute("POST", _REPORT + "/annotations", *_READ, _add_annotations, Array(ANNOTATION, 1, 100)),
    WriteRoute("PUT", _ANNOTATION, *_READ, _put_annotation, ANNOTATION),
    WriteRoute("DELETE", _ANNOTATION, *_READ, _delete_annotation),
)
