"""What is said about commits comes back: comments, reports and their annotations."""

from __future__ import annotations

from typing import Any

from mirror.bitbucket import endpoints
from mirror.collect.put_back import Stage
from mirror.restore.plan.commits import steps_of_commits
from mirror.restore.plan.steps import Call, Find, Made, Step, Why
from tests.restore.plan.given import ANN, EVERYTHING, TARGET, A, body, comment, given, losses, steps

REPORT = {
    "uuid": "{r}", "title": "Scan", "details": "All", "external_id": "scan-1", "reporter": "scanner",
    "link": "https://x.example/", "remote_link_enabled": False, "logo_url": "https://x.example/l.png",
    "report_type": "SECURITY", "result": "FAILED", "data": [{"title": "Safe", "value": False}],
    "created_on": "2026-03-02T10:00:00Z", "type": "report",
}  # fmt: skip
FINDING = {
    "uuid": "{f}", "external_id": "f1", "annotation_type": "BUG", "path": "a.py", "line": 2, "summary": "Bad",
    "details": "Very", "result": "FAILED", "severity": "LOW", "link": "https://x.example/f",
}  # fmt: skip
PARTS = {**TARGET.parts, "commit": A}


def _planned(**children: Any) -> dict[str, Step]:
    document = {"commit": A, "comments": [], "reports": [], **children}
    return steps(steps_of_commits(given({f"commit-comments/aa/{A}.json": document}), TARGET, EVERYTHING))


def test_comments_of_commits_have_replies_and_places() -> None:
    inline = {"path": "a.py", "to": 3}
    planned = _planned(comments=[comment(1, inline=inline), comment(2, parent={"id": 1})])
    key = f"website/commit/{A}/comment/1"
    first, reply = planned.values()
    assert first.key == key and first.stage is Stage.COMMENTS and body(first)["inline"] == inline
    assert isinstance(first.action, Call)
    assert first.action.endpoint is endpoints.COMMIT_COMMENTS and first.action.parts == PARTS
    assert isinstance(first.change, Call) and first.change.endpoint is endpoints.COMMIT_COMMENT
    [excuse] = first.excuses
    assert (excuse.status, excuse.text, excuse.why) == (404, "commit not found", Why.ARCHIVED)
    assert body(reply)["parent"] == {"id": Made(key, "id")}
    assert "website/branches" in first.after


def test_a_report_is_put_under_its_own_id() -> None:
    [made] = _planned(reports=[{"report": REPORT, "annotations": []}]).values()
    sent = {one: value for one, value in REPORT.items() if one not in ("uuid", "created_on", "type")}
    put = Call("PUT", endpoints.COMMIT_REPORT, {**PARTS, "report": "scan-1"}, sent)
    assert made.action == made.change == put and made.wanted == sent
    assert made.find == Find(endpoints.COMMIT_REPORTS, PARTS, {"external_id": "scan-1"})
    [nameless] = _planned(reports=[{"report": {"uuid": "{r}", "title": "T"}}]).values()
    assert body(nameless) == {"title": "T", "external_id": "r"}


def test_annotations_go_by_the_hundred() -> None:
    several = [{**FINDING, "external_id": f"f{number}"} for number in range(205)]
    _, *made = _planned(reports=[{"report": REPORT, "annotations": several}]).values()
    bodies = [one.action.body for one in made if isinstance(one.action, Call)]
    assert [len(one) for one in bodies if isinstance(one, list)] == [100, 100, 5]
    sent = {one: value for one, value in FINDING.items() if one != "uuid"}
    assert bodies[0] == [{**sent, "external_id": f"f{number}"} for number in range(100)]
    place = {**PARTS, "report": "scan-1"}
    assert made[1].action == Call("POST", endpoints.REPORT_ANNOTATIONS, place, bodies[1])
    assert made[1].find == Find(endpoints.REPORT_ANNOTATIONS, place, {"external_id": "f100"})
    assert made[1].after == (f"website/commit/{A}/report/scan-1",)
    [_, whole_file] = _planned(
        reports=[{"report": REPORT, "annotations": [{**FINDING, "line": 0, "link": None}]}]
    ).values()
    assert isinstance(whole_file.action, Call) and isinstance(whole_file.action.body, list)
    assert whole_file.action.body[0].keys().isdisjoint({"line", "link"})


def test_statuses_and_approvals_are_counted() -> None:
    document = {
        "commit": A, "comments": [], "statuses": [{"key": "a"}, {"key": "b"}],
        "participants": [{"user": ANN, "approved": True}, {"user": ANN, "approved": False}],
    }  # fmt: skip
    source = given({"commit-comments/aa/1.json": document, "commit-comments/aa/2.json": document})
    told = losses(steps_of_commits(source, TARGET, EVERYTHING))
    assert told["website/commit-statuses"].label == "4 statuses of commits of website"
    assert told["website/commit-approvals"].label == "2 approvals of commits of website"
