"""Comments on commits, and reports of code insights. Statuses and approvals are losses.

A report is sent under the id that its author gave it, so that the next one replaces it. Annotations go by the
hundred, as the API takes them. What belongs to a commit that the target lacks is a loss.
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.bitbucket import endpoints
from mirror.bitbucket.failures import plain
from mirror.bitbucket.readable.parts import get, objects, string
from mirror.model import Json, JsonObject
from mirror.restore.plan.discussion import Discussion, Where
from mirror.restore.plan.source import Options, Source, Target
from mirror.restore.plan.steps import Call, Excuse, Find, Loss, Stage, Step, Why
from mirror.restore.plan.texts import counted

_COMMENTS = "commit comments"
_REPORTS = "code insights"
_AT_ONCE = 100
_REPORT = (
    "title", "details", "external_id", "reporter", "link", "remote_link_enabled", "logo_url", "report_type",
    "result", "data",
)  # fmt: skip
_ANNOTATION = (
    "external_id", "annotation_type", "path", "line", "summary", "details", "result", "severity", "link",
)  # fmt: skip
_NO_COMMIT = (Excuse(404, "commit not found", Why.ARCHIVED, "the target does not have the commit"),)


def steps_of_commits(source: Source, target: Target, _options: Options) -> Iterator[Step | Loss]:
    """The steps for the comments and reports of commits. Raises StoreDamaged."""
    statuses = approvals = 0
    for path in source.paths("commit-comments"):
        document = source.object(path)
        commit = string(document, "commit")
        statuses += len(objects(document, "statuses"))
        approvals += sum(get(one, "approved") is True for one in objects(document, "participants"))
        yield from _comments(source, target, commit, document)
        for index, one in enumerate(objects(document, "reports")):
            yield from _report(source, target, commit, one, index)
    if approvals:
        label = f"{counted(approvals, 'approval')} of commits of {source.title}"
        yield Loss(source.key("commit-approvals"), "commit approvals", label, Why.NEVER)
    if statuses:
        key, label = (
            source.key("commit-statuses"),
            f"{counted(statuses, 'status')} of commits of {source.title}",
        )
        yield Loss(key, "commit statuses", label, Why.ARCHIVED, "builds set them anew")


def _comments(source: Source, target: Target, commit: str, document: JsonObject) -> Iterator[Step | Loss]:
    where = Where(
        _COMMENTS, f"commit {commit[:12]} of {source.title}", source.key("commit", commit),
        {**target.parts, "commit": commit}, endpoints.COMMIT_COMMENTS, endpoints.COMMIT_COMMENT,
        (source.key("repository"), source.key("branches")), _NO_COMMIT,
    )  # fmt: skip
    yield from Discussion.of(where, document).steps()


def _report(
    source: Source, target: Target, commit: str, entry: JsonObject, index: int
) -> Iterator[Step | Loss]:
    given = get(entry, "report")
    identifier = string(given, "external_id") or string(given, "uuid").strip("{}") or str(index)
    key = source.key("commit", commit, "report", identifier)
    label = f"report {plain(string(given, 'title'))} on commit {commit[:12]} of {source.title}"
    body = {**_settable(given, _REPORT), "external_id": identifier}
    parts = {**target.parts, "commit": commit}
    place = {**parts, "report": identifier}
    put = Call("PUT", endpoints.COMMIT_REPORT, place, body)
    yield Step(
        key, _REPORTS, label, put, Stage.COMMENTS, (source.key("repository"), source.key("branches")),
        Find(endpoints.COMMIT_REPORTS, parts, {"external_id": identifier}), change=put, wanted=body,
        excuses=_NO_COMMIT,
    )  # fmt: skip
    annotations = [_annotation(one, number) for number, one in enumerate(objects(entry, "annotations"))]
    for start in range(0, len(annotations), _AT_ONCE):
        some = annotations[start : start + _AT_ONCE]
        # Sent whole or not at all: the first stands for them.
        first = {"external_id": some[0]["external_id"]}
        post = Call("POST", endpoints.REPORT_ANNOTATIONS, place, some)
        yield Step(
            f"{key}/annotations/{start}", _REPORTS, f"{counted(len(some), 'annotation')} of {label}", post,
            Stage.COMMENTS, (key,), Find(endpoints.REPORT_ANNOTATIONS, place, first), change=post,
            wanted=some[0],
        )  # fmt: skip


def _annotation(given: JsonObject, number: int) -> JsonObject:
    identifier = string(given, "external_id") or string(given, "uuid").strip("{}") or str(number)
    return {**_settable(given, _ANNOTATION), "external_id": identifier}


def _settable(given: JsonObject, names: tuple[str, ...]) -> JsonObject:
    """The fields of these names. An annotation of a whole file has the line 0, and is made without a line."""
    return {name: given[name] for name in names if _is_set(name, get(given, name))}


def _is_set(name: str, value: Json) -> bool:
    return value is not None and not (name == "line" and value == 0)
