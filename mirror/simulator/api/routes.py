"""Routes of pull requests, issues and pipelines; and all routes together."""

from __future__ import annotations

from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.routes_repositories import PLACES, R, commits_between
from mirror.simulator.api.routes_settings import SETTINGS
from mirror.simulator.api.routing import (
    OCTETS,
    Call,
    Hidden,
    Listing,
    Route,
    RouteResult,
    always,
    need_braces,
    number,
)
from mirror.simulator.switches import Switches
from mirror.simulator.world.builds import Step
from mirror.simulator.world.discussions import STATES

# -- pull requests


def _pull_requests(call: Call) -> RouteResult:
    states = [value for name, value in call.pairs if name == "state"] or ["OPEN"]
    if not set(states) <= set(STATES):
        raise BadRequest("Invalid state")
    if call.switches.sort_with_states_fails and len(states) > 1 and "sort" in dict(call.pairs):
        return Response(status_code=500, content="{}", media_type="application/json")
    pulls = sorted(call.repository().pull_requests.values(), key=lambda one: -one.id)
    return Listing(
        [one for one in pulls if one.state in states],
        lambda one: call.render.pull_request(one, listed=True),
    )


def _pull_request(call: Call) -> RouteResult:
    return call.render.pull_request(call.pull_request(), listed=False)


def _comments(call: Call) -> RouteResult:
    """The comments of a pull request, without pending ones."""
    pull, account = call.pull_request(), call.token.account
    shown = [one for one in pull.comments if not one.pending or one.author.email == account.email]
    return Listing(shown, lambda one: call.render.comment(one, pull))


def _comment(call: Call) -> RouteResult:
    pull = call.pull_request()
    for one in pull.comments:
        if one.id == number(call.names["comment"]):
            return call.render.comment(one, pull)
    raise Hidden("Comment not found")


def _tasks(call: Call) -> RouteResult:
    pull = call.pull_request()
    return Listing(pull.tasks, lambda one: call.render.task(one, pull))


def _statuses(call: Call) -> RouteResult:
    """The statuses of the pull request, and those of its head commit that name its branch."""
    pull = call.pull_request()
    of_head = pull.origin.commit_statuses.get(pull.source_hash, [])
    shown = [*pull.statuses, *(one for one in of_head if one.get("refname") == pull.source)]
    return Listing(shown, lambda one: call.render.status(one, pull))


def _activity(call: Call) -> RouteResult:
    pull = call.pull_request()
    return Listing(pull.activity, lambda entry: call.render.activity(entry, pull))


def _all_activity(call: Call) -> RouteResult:
    """The same entries as those of each pull request, the newest first."""
    if not call.switches.activity_of_all:
        raise Hidden("There is no API hosted at this URL.")
    return Listing(call.repository().activity(), lambda item: call.render.activity(*item))


def _commits(call: Call) -> RouteResult:
    """The commits of a pull request that its destination does not have, newest first."""
    pull = call.pull_request()
    if pull.origin.gone:
        raise Hidden("Repository not found")
    return commits_between(call, pull.origin, pull.source_hash, pull.destination_hash)


# -- issues


def _issues(call: Call) -> RouteResult:
    issues = sorted(call.tracker().issues.values(), key=lambda one: one.id)
    return Listing(issues, call.render.issue)


def _issue_comments(call: Call) -> RouteResult:
    issue = call.issue()
    return Listing(issue.comments, lambda one: call.render.issue_comment(one, issue))


def _changes(call: Call) -> RouteResult:
    issue = call.issue()
    return Listing(issue.changes, lambda one: call.render.issue_change(one, issue))


def _attachments(call: Call) -> RouteResult:
    issue = call.issue()
    return Listing(issue.attachments, lambda one: call.render.attachment(one.name, issue))


def _attachment(call: Call) -> RouteResult:
    issue = call.issue()
    if all(one.name != call.names["name"] for one in issue.attachments):
        raise Hidden("Attachment not found")
    where = f"{call.storage}/storage/attachments/{issue.key}/{call.names['name']}"
    return Response(status_code=302, headers={"Location": where})


# -- pipelines


def _pipelines(call: Call) -> RouteResult:
    pipelines = sorted(call.builds().pipelines.values(), key=lambda one: one.created)
    return Listing(pipelines, call.render.pipeline, {"created_on": lambda one: one.created})


def _pipeline(call: Call) -> RouteResult:
    return call.render.pipeline(call.pipeline())


def _steps(call: Call) -> RouteResult:
    pipeline = call.pipeline()
    return Listing(pipeline.steps, lambda one: call.render.step(one, pipeline))


def _named_step(call: Call) -> Step:
    need_braces(call.names["step"])
    for one in call.pipeline().steps:
        if one.uuid == call.names["step"]:
            return one
    raise Hidden("Step not found")


def _step(call: Call) -> RouteResult:
    return call.render.step(_named_step(call), call.pipeline())


def _test_report(call: Call) -> RouteResult:
    return call.render.test_report(_tested(call))


def _tested(call: Call) -> Step:
    step = _named_step(call)
    if not step.tests:
        raise Hidden("No test report")
    return step


def _test_cases(call: Call) -> RouteResult:
    step = _tested(call)
    return Listing(list(step.tests.items()), lambda one: call.render.test_case(one[0], one[1], step))


def _test_case_reasons(call: Call) -> RouteResult:
    step = _tested(call)
    for name, reason in step.tests.items():
        if call.render.test_case(name, reason, step)["uuid"] == call.names["case"]:
            reasons = [reason] if reason is not None else []
            return Listing(reasons, call.render.test_case_reason)
    raise Hidden("Test case not found")


def _log(call: Call) -> RouteResult:
    pipeline = call.pipeline()
    step = _named_step(call)
    if step.log is None:
        raise Hidden("The log does not exist")
    if pipeline.result is None:
        return Response(step.log, media_type="application/octet-stream")
    # Finished logs are in long-term storage on another host.
    where = f"logs/{pipeline.uuid.strip('{}')}/{step.uuid.strip('{}')}"
    return Response(status_code=307, headers={"Location": f"{call.storage}/storage/{where}"})


def _service_log(call: Call) -> RouteResult:
    """The log of a step or of one of its service containers, by uuid."""
    pipeline, step, log = call.pipeline(), _named_step(call), call.names["log"]
    need_braces(log)
    content = step.log_of(log)
    if content is None:
        raise Hidden("The log does not exist")
    if pipeline.result is None:
        return Response(content, media_type=OCTETS)
    names = "/".join(uuid.strip("{}") for uuid in (pipeline.uuid, step.uuid, log))
    return Response(status_code=307, headers={"Location": f"{call.storage}/storage/logs/{names}"})


def _pull_cap(switches: Switches) -> int:
    return 50 if switches.pull_request_page_cap_50 else 100


def _pipeline_cap(switches: Switches) -> int:
    return 50 if switches.pipelines_page_cap_50 else 100


def _step_cap(switches: Switches) -> int:
    return 50 if switches.steps_page_cap_50 else 100


def _has_next(switches: Switches) -> bool:
    return switches.pipelines_have_next


_PR = R + "/pullrequests/{id}"
_I = R + "/issues/{id}"
_P = R + "/pipelines/{pipeline}"
ROUTES: tuple[Route, ...] = (
    *PLACES,
    *SETTINGS,
    Route(
        R + "/pullrequests", "pullrequest", _pull_requests, _pull_cap, filters=True, sorts=always, public=True
    ),
    Route(R + "/pullrequests/activity", "pullrequest", _all_activity, _pull_cap, public=True),
    Route(_PR, "pullrequest", _pull_request, public=True),
    Route(_PR + "/comments", "pullrequest", _comments, filters=True, sorts=always, public=True),
    Route(_PR + "/comments/{comment}", "pullrequest", _comment, public=True),
    Route(_PR + "/tasks", "pullrequest", _tasks, filters=True, sorts=always, public=True),
    Route(_PR + "/activity", "pullrequest", _activity, _pull_cap, public=True),
    Route(_PR + "/statuses", "pullrequest", _statuses, filters=True, sorts=always, public=True),
    Route(_PR + "/commits", "pullrequest", _commits, public=True),
    # Bitbucket checks the scope after it checks that the repository has a tracker.
    Route(R + "/issues", None, _issues, filters=True, sorts=always, public=True),
    Route(_I, None, lambda c: c.render.issue(c.issue()), public=True),
    Route(_I + "/comments", None, _issue_comments, filters=True, public=True),
    Route(_I + "/changes", None, _changes, filters=True, public=True),
    Route(_I + "/attachments", None, _attachments, public=True),
    Route(_I + "/attachments/{name}", None, _attachment, public=True, media=None, only_redirects=True),
    # `q` is ignored for pipelines.
    Route(
        R + "/pipelines/", "pipeline", _pipelines, _pipeline_cap,
        sorts=lambda switches: switches.pipelines_sort, has_next=_has_next, numbered=True, public=True,
    ),
    Route(_P, "pipeline", _pipeline, public=True),
    Route(_P + "/steps/", "pipeline", _steps, _step_cap, has_next=_has_next, numbered=True, public=True),
    Route(_P + "/steps/{step}", "pipeline", _step, public=True),
    Route(_P + "/steps/{step}/log", "pipeline", _log, public=True, media=OCTETS),
    Route(_P + "/steps/{step}/logs/{log}", "pipeline", _service_log, public=True, media=OCTETS),
    Route(_P + "/steps/{step}/test_reports", "pipeline", _test_report),
    Route(_P + "/steps/{step}/test_reports/test_cases", "pipeline", _test_cases),
    Route(
        _P + "/steps/{step}/test_reports/test_cases/{case}/test_case_reasons", "pipeline", _test_case_reasons
    ),
    Route("/addon/linkers", None, lambda _: Listing([], lambda one: one), kinds=("connect_jwt",)),
)  # fmt: skip
