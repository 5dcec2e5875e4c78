"""Every field of pull requests, and of what is said, that Bitbucket lets anyone set is sent as it was.

The list of fields comes from the request schemas, so a field that the planner does not know fails here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mirror.bitbucket import endpoints
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.settable import settable_fields
from mirror.model import value_at
from mirror.restore.plan.commits import steps_of_commits
from mirror.restore.plan.pull_requests import steps_of_pull_requests
from mirror.restore.plan.steps import Call, Made
from tests.restore.plan.given import (
    ANN,
    BOB,
    EVERYTHING,
    TARGET,
    A,
    comment,
    document,
    given,
    pull,
    steps,
)  # fmt: skip

_R = "/repositories/{workspace}/{repo_slug}"
PULL = f"POST {_R}/pullrequests"
COMMENT = f"{PULL}/{{pull_request_id}}/comments"
TASK = f"{PULL}/{{pull_request_id}}/tasks"
STATE = f"PUT {_R}/pullrequests/{{pull_request_id}}/tasks/{{task_id}}"
REMARK = f"POST {_R}/commit/{{commit}}/comments"
STATUS = f"POST {_R}/commit/{{commit}}/statuses/build"
REPORT = f"PUT {_R}/commit/{{commit}}/reports/{{reportId}}"
FINDING = f"{REPORT}/annotations/{{annotationId}}"
SENT: Mapping[str, tuple[str, Endpoint]] = {
    PULL: ("POST", endpoints.NEW_PULL_REQUEST),
    COMMENT: ("POST", endpoints.PULL_REQUEST_COMMENTS),
    TASK: ("POST", endpoints.PULL_REQUEST_TASKS),
    STATE: ("PUT", endpoints.PULL_REQUEST_TASK),
    REMARK: ("POST", endpoints.COMMIT_COMMENTS),
    REPORT: ("PUT", endpoints.COMMIT_REPORT),
    # By the hundred, which the same fields are sent for.
    FINDING: ("POST", endpoints.REPORT_ANNOTATIONS),
}
# Reviewers are asked after the discussion.
LATER: Mapping[tuple[str, str], tuple[str, Endpoint]] = {
    (PULL, "reviewers"): ("PUT", endpoints.CHANGED_PULL_REQUEST)
}
# Fields that are left out on purpose.
LEFT_OUT = {
    COMMENT: {"pending": "what nobody has published is told"},
    TASK: {"pending": "what nobody has published is told"},
}
WHERE = {"path": "a.py", "from": 4, "to": 3, "start_from": 2, "start_to": 1}
ITS_REPORT = {
    "title": "Scan", "details": "All", "external_id": "scan-1", "reporter": "scanner", "result": "FAILED",
    "link": "https://x.example/", "remote_link_enabled": False, "logo_url": "https://x.example/l.png",
    "report_type": "SECURITY", "data": [{"title": "Safe", "value": False}],
}  # fmt: skip
ITS_FINDING = {
    "external_id": "f1", "annotation_type": "BUG", "path": "a.py", "line": 2, "summary": "Bad",
    "details": "Very", "result": "FAILED", "severity": "LOW", "link": "https://x.example/f",
}  # fmt: skip
THREAD = [comment(1, "Why?", inline=WHERE), comment(2, "So.", parent={"id": 1})]
ITS_TASK = {"id": 3, "content": {"raw": "Do"}, "creator": ANN, "state": "RESOLVED", "comment": {"id": 1}}
SHOWN = pull(draft=True, close_source_branch=False, reviewers=[BOB])
KEY, COMMIT = "website/pull-request/12", f"website/commit/{A}"
# What must be sent, by request and field, where that is not the original's own value.
INSTEAD: Mapping[str, Mapping[str, Any]] = {
    PULL: {"reviewers": [{"uuid": "{bob}"}]},
    COMMENT: {"parent.id": Made(f"{KEY}/comment/1", "id")},
    TASK: {"comment.id": Made(f"{KEY}/comment/1", "id")},
    REMARK: {"parent.id": Made(f"{COMMIT}/comment/1", "id")},
}
ORIGINALS: Mapping[str, Mapping[str, Any]] = {
    PULL: SHOWN, COMMENT: THREAD[0], TASK: ITS_TASK, STATE: ITS_TASK, REMARK: THREAD[0], REPORT: ITS_REPORT,
    FINDING: ITS_FINDING,
}  # fmt: skip


def _bodies(request: str, name: str) -> Iterator[Any]:
    """The bodies of what is sent for a field of a request; for the state of a task, those of changes too."""
    wanted = LATER.get((request, name), SENT[request])
    reports = [{"report": ITS_REPORT, "annotations": [ITS_FINDING]}]
    source = given(
        {
            "pull-requests/0/12.json": document(SHOWN, comments=THREAD, tasks=[ITS_TASK]),
            f"commit-comments/aa/{A}.json": {"commit": A, "comments": THREAD, "reports": reports},
        }
    )
    planned = steps(steps_of_pull_requests(source, TARGET, EVERYTHING))
    planned |= steps(steps_of_commits(source, TARGET, EVERYTHING))
    for step in planned.values():
        for call in (step.action, step.change) if request == STATE else (step.action,):
            if isinstance(call, Call) and (call.method, call.endpoint) == wanted:
                yield from call.body if isinstance(call.body, list) else [call.body]


@pytest.mark.parametrize("request_", SENT)
def test_every_settable_field_is_sent(request_: str) -> None:
    for name in settable_fields()[request_]:
        bodies = list(_bodies(request_, name))
        if name in LEFT_OUT.get(request_, {}):
            assert all(value_at(one, name) is None for one in bodies)
            continue
        found = [value_at(one, name) for one in bodies]
        instead = INSTEAD.get(request_, {})
        wanted = instead[name] if name in instead else value_at(ORIGINALS[request_], name)
        if name in ("content.raw", "description"):
            assert any(str(one).endswith(wanted) for one in found), name
        else:
            assert wanted is not None and wanted in found, name


def test_no_request_about_discussions_is_forgotten() -> None:
    about = {one for one in settable_fields() if "/pullrequests" in one or "/commit/" in one}
    assert about == {*SENT, STATUS}, "statuses of commits are told, and not brought"
