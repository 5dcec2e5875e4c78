"""Open pull requests are planned anew, with a branch where theirs is gone; the others are told."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.bitbucket import endpoints
from mirror.collect.put_back import Stage
from mirror.errors import UsageError
from mirror.restore.plan.history import steps_of_history
from mirror.restore.plan.pull_requests import steps_of_pull_requests
from mirror.restore.plan.source import Options, Target
from mirror.restore.plan.steps import Call, Excuse, Find, Loss, Made, Push, PushPages, SendObjects, Step, Why
from tests.restore.plan.given import (
    ANN,
    BOB,
    EVERYTHING,
    TARGET,
    A,
    B,
    C,
    Given,
    body,
    comment,
    document,
    given,
    losses,
    pull,
    steps,
)  # fmt: skip

FORK = {"full_name": "bob/website", "uuid": "{0f9c4a2e-1111-4222-8333-999999999999}"}
KEY = "website/pull-request/12"


def _one(shown: dict[str, Any], **more: Any) -> Given:
    return given({"pull-requests/0/12.json": document(shown)}, **more)


def _planned(source: Given, options: Options = EVERYTHING, target: Target = TARGET) -> list[Step | Loss]:
    return list(steps_of_pull_requests(source, target, options))


def test_an_open_one_is_made_anew() -> None:
    people = [
        {"user": BOB, "role": "REVIEWER", "state": "approved", "approved": True},
        {"user": ANN, "role": "PARTICIPANT", "state": "changes_requested"},
    ]
    made, asking = _planned(_one(pull(draft=True, reviewers=[BOB], participants=people)))
    assert isinstance(made, Step) and made.key == KEY and made.stage is Stage.PULL_REQUESTS
    text = (
        "*Pull request 12 of acme/website, by Ann Archer, 2026-03-02; approved by Bob Baker; "
        "changes requested by Ann Archer*\n\nCheaper."
    )
    change = {
        "title": "New prices", "description": text, "destination": {"branch": {"name": "main"}},
        "reviewers": [{"uuid": "{bob}"}], "close_source_branch": True, "draft": True,
    }  # fmt: skip
    assert isinstance(made.action, Call) and made.action.endpoint is endpoints.NEW_PULL_REQUEST
    opened = {name: value for name, value in change.items() if name != "reviewers"}
    assert body(made) == {**opened, "source": {"branch": {"name": "topic"}}}
    parts: dict[str, str | int | Made] = {**TARGET.parts, "id": Made(KEY, "id")}
    assert made.change == Call("PUT", endpoints.CHANGED_PULL_REQUEST, parts, change)
    assert made.after == ("website/repository", "website/branches")
    assert {**change, "destination.branch.name": "main"}.items() >= made.wanted.items()
    assert len(made.wanted) == len(change) - 1  # without the reviewers
    # Reviewers come last, and get no mail about each comment.
    assert isinstance(asking, Step) and asking.stage is Stage.COMMENTS and asking.after == (KEY,)
    assert asking.action == made.change and asking.wanted == {"reviewers": [{"uuid": "{bob}"}]}
    assert asking.is_passing and asking.find == Find(endpoints.PULL_REQUEST, parts)
    told = "its branches have the same content at the target"
    assert made.excuses == (Excuse(400, "no changes", Why.ARCHIVED, told),)


def test_a_description_may_be_a_summary() -> None:
    shown = pull(summary={"raw": "In short."})
    del shown["description"]
    [made] = _planned(_one(shown))
    assert isinstance(made, Step) and body(made)["description"].endswith("\n\nIn short.")


def test_it_is_found_by_its_number_and_then_by_its_branches() -> None:
    [made] = _planned(_one(pull()))
    assert isinstance(made, Step) and made.find is not None and made.find.marker is not None
    field, marker = made.find.marker
    assert field == "description" and body(made)["description"].startswith(marker)
    assert marker == "*Pull request 12 of acme/website, "
    branches = {
        "state": "OPEN", "source.branch.name": "topic", "source.repository.full_name": "spare/site",
        "destination.branch.name": "main",
    }  # fmt: skip
    assert made.find.otherwise == Find(endpoints.PULL_REQUESTS, TARGET.parts, branches)


def test_reviewers_are_those_of_the_target() -> None:
    eve = {"display_name": "Eve Eng", "uuid": "{eve}"}
    nobody = {"display_name": "Gone"}
    source = _one(pull(reviewers=[ANN, BOB, eve, nobody]))
    target = Target("spare", "site", frozenset({"{bob}", "{neo}"}))
    planned = _planned(source, Options(people={"{ann}": "{neo}"}), target)
    step = steps(planned)[f"{KEY}/reviewers"]
    assert body(step)["reviewers"] == [{"uuid": "{neo}"}, {"uuid": "{bob}"}]
    told = losses(planned)
    assert [one.why for one in told.values()] == [Why.PERSON, Why.PERSON]
    assert "Eve Eng" in told[f"{KEY}/reviewer/{{eve}}"].label
    [retry] = step.retries
    assert (retry.status, retry.field, retry.value) == (400, "reviewers", None)
    assert retry.named == (("Ann Archer", {"uuid": "{neo}"}), ("Bob Baker", {"uuid": "{bob}"}))
    shown = pull()
    del shown["reviewers"]
    assert losses(_planned(_one(shown)))[f"{KEY}/reviewers"].why is Why.LACKING


@pytest.mark.parametrize(
    ("shown", "branches", "name"),
    [
        (pull(), {"main": A}, "topic"),
        (pull(branch="topic"), {"main": A, "topic/more": B}, "pull-request-12"),
        (pull(branch="main/more"), {"main": A, "pull-request-12": B}, "pull-request-12-2"),
        (pull(branch="no..name"), {"main": A}, "pull-request-12"),
        (pull(source={"branch": {"name": "topic"}, "repository": FORK}), None,
         "pull-request-12"),
        (pull(source={"branch": {"name": "fix"}, "repository": None, "commit": None}), None, "fix"),
    ],
)  # fmt: skip
def test_a_branch_is_pushed_where_theirs_is_gone(
    shown: dict[str, Any], branches: dict[str, str] | None, name: str
) -> None:
    planned = steps(_planned(_one(shown, branches=branches, pinned={12: C})))
    branch, made = planned[f"{KEY}/branch"], planned[KEY]
    assert branch.action == Push("code", {b"refs/heads/" + name.encode(): C})
    assert branch.stage is Stage.PULL_REQUESTS and branch.key in made.after
    assert list(planned).index(branch.key) < list(planned).index(made.key)
    assert body(made)["source"] == {"branch": {"name": name}}
    objects = planned.get(f"{KEY}/objects")
    assert objects is None or objects.action == SendObjects((C,))


def test_a_head_that_two_come_from_is_one_branch() -> None:
    source = {"branch": {"name": "fix"}, "repository": FORK}
    into = {"branch": {"name": "next"}}
    documents = {
        "pull-requests/0/1.json": document(pull(1, source=source)),
        "pull-requests/0/2.json": document(pull(2, source=source, destination=into)),
        "pull-requests/0/3.json": document(pull(3, source=source, destination=into)),
    }  # fmt: skip
    planned = steps(_planned(given(documents, {"main": A, "next": B}, {1: C, 2: C, 3: "d" * 40})))
    names = [body(planned[f"website/pull-request/{one}"])["source"]["branch"]["name"] for one in (1, 2, 3)]
    assert names == ["fix", "fix", "pull-request-3"]
    assert "from `fix` of bob/website" in body(planned["website/pull-request/1"])["description"]


@pytest.mark.parametrize(
    ("shown", "options", "why", "words"),
    [
        (pull(branch="gone"), EVERYTHING, Why.ARCHIVED, "git does not have its head"),
        (pull(destination={"branch": {"name": "old"}}), EVERYTHING, Why.ARCHIVED, "branch old, is gone"),
        (pull(), Options(refs=("refs/heads/main",)), Why.CHOSEN, "leaves out topic"),
        (pull(), Options(refs=("refs/heads/topic",)), Why.CHOSEN, "leaves out main"),
        (pull(branch="same"), EVERYTHING, Why.ARCHIVED, "is in main already"),
    ],
)
def test_one_that_cannot_be_is_told(shown: dict[str, Any], options: Options, why: Why, words: str) -> None:
    source = _one(shown, branches={"main": A, "topic": B, "same": A})
    [told] = _planned(source, options)
    assert isinstance(told, Loss) and told.key == KEY
    assert told.why is why and words in told.detail


def test_what_has_ended_is_told_once() -> None:
    documents = {
        f"pull-requests/{number // 100}/{number}.json": document(pull(number, state=state))
        for number, state in ((1, "MERGED"), (2, "MERGED"), (130, "DECLINED"), (7, "OPEN"))
    }
    planned = _planned(given(documents))
    assert list(steps(planned)) == ["website/pull-request/7"]
    told = losses(planned).values()
    labels = [one.label for one in told if one.why is Why.ARCHIVED]
    assert labels == ["1 declined pull request of website", "2 merged pull requests of website"]


def test_builds_and_history_are_told() -> None:
    planned = _planned(given({"pull-requests/0/12.json": document(statuses=[{}, {}], activity=[{}])}))
    history, builds = losses(planned).values()
    assert history.label == "1 event in the history of open pull requests of website"
    assert builds.label == "2 build statuses of open pull requests of website"


def test_gaps_in_the_backup_are_told() -> None:
    planned = _planned(given({"pull-requests/0/12.json": document(tasks=None)}))
    told = losses(planned)[f"{KEY}/tasks"]
    assert told.why is Why.LACKING and told.detail == "never asked for"


def test_discussion_follows() -> None:
    planned = steps(_planned(given({"pull-requests/0/12.json": document(comments=[comment(5)])})))
    step = planned[f"{KEY}/comment/5"]
    assert step.after == (KEY,) and step.stage is Stage.COMMENTS
    assert isinstance(step.action, Call) and step.action.parts == {**TARGET.parts, "id": Made(KEY, "id")}
    assert isinstance(step.change, Call) and step.change.endpoint is endpoints.PULL_REQUEST_COMMENT


def test_other_history_is_told_and_may_become_pages() -> None:
    source = given({"issues/0/1.json": {}, "pipelines/0/1.json": {}, "pipelines/0/2.json": {}})
    planned = list(steps_of_history(source, TARGET, Options(archive="mirror-archive")))
    assert [one.label for one in losses(planned).values()] == [
        "1 issue of website",
        "2 pipelines of website",
    ]
    [step] = steps(planned).values()
    assert step.action == PushPages("mirror-archive") and step.after[0] == "website/repository"
    assert not steps(steps_of_history(source, TARGET, EVERYTHING))
    with pytest.raises(UsageError, match="no branch can have this name"):
        list(steps_of_history(source, TARGET, Options(archive="a..b")))
