"""What a plan for a Forgejo makes of texts, hooks and restrictions, and what it leaves out."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.bitbucket.readable.values import Anchor, Comment, Text
from mirror.model import Json, JsonObject
from mirror.restore.plan.forgejo import settings, texts
from mirror.restore.plan.forgejo.order import make_plan
from mirror.restore.plan.forgejo.target import ForgejoTarget
from mirror.restore.plan.source import Options, Source
from mirror.restore.plan.steps import Call, Loss, Step, Why
from mirror.store.reading.reader import Store, StoreDamaged

TARGET = ForgejoTarget("acme", "website", is_organisation=True)


@pytest.fixture
def source(stored: Store) -> Source:
    [folder] = stored.repositories()
    return Source(folder, folder.metadata.at("latest").snapshot, "website")


class WithDocuments(Source):
    """A source with other documents in the place of some."""

    documents: dict[str, Json]

    def document(self, path: str) -> Json | None:
        return self.documents[path] if path in self.documents else super().document(path)


def with_documents(source: Source, documents: dict[str, Json]) -> Source:
    made = WithDocuments(source.folder, source.snapshot, source.name)
    object.__setattr__(made, "documents", documents)
    return made


def bodies(made: list[Step | Loss]) -> dict[str, Any]:
    calls = {one.key: one.action for one in made if isinstance(one, Step)}
    return {key: call.body for key, call in calls.items() if isinstance(call, Call)}


@pytest.mark.parametrize(
    ("text", "calm"),
    [
        ("Fixes #12, see !3 (#4).", "Fixes #\u206012, see !\u20603 (#\u20604)."),
        ("acme/web#12 and `acme/web#12`", "acme/web#\u206012 and `acme/web#12`"),
        ("@ann, ann@example.org", "@\u2060ann, ann@example.org"),
        ("```\n#1\n```\n#1", "```\n#1\n```\n#\u20601"),
        ("# A title\n\nWow! Nice", "# A title\n\nWow! Nice"),
        ("by @{7816c190}", "by Ann"),
        ("https://example.org/#top &#12;", "https://example.org/#top &#12;"),
    ],
)
def test_nobody_is_called_and_no_issue_is_meant(text: str, calm: str) -> None:
    assert texts.calm(Text(text, {"7816c190": "Ann"})) == calm


def test_names_are_no_markup() -> None:
    comment = Comment(
        "7", "**Ann** @bob", "2026-01-02T00:00:00+00:00", Text("Hello"), anchor=Anchor("a`b.py", new=3)
    )
    text = texts.of_comment(comment, ["x = `1`"], None)
    assert text.startswith(texts.comment_marker("7"))
    assert "**Ann**" not in text
    assert "@bob" not in text
    assert ", on line 3 of ``a`b.py``" in text


def test_refs_that_are_left_out_take_their_pull_requests_along(source: Source) -> None:
    plan = make_plan([(source, TARGET)], Options(refs=("refs/heads/main",)))
    lost = {one.key: one.why for one in plan.losses}
    assert lost["website/pull-request/3"] is Why.CHOSEN
    assert "website/pull-request/1" in {one.key for one in plan.steps}


def test_one_of_two_open_ones_of_the_same_branches_is_an_issue(source: Source) -> None:
    second = source.object("pull-requests/0/3.json")
    plan = make_plan([(with_documents(source, {"pull-requests/0/4.json": second}), TARGET)], Options())
    endpoints = {one.key: one.action.endpoint.template for one in plan.steps if isinstance(one.action, Call)}
    assert endpoints["website/pull-request/3"].endswith("/pulls")
    assert endpoints["website/pull-request/4"].endswith("/issues")


def test_a_damaged_repository_is_told_and_the_others_come(source: Source) -> None:
    class Damaged(Source):
        def object(self, path: str) -> JsonObject:
            raise StoreDamaged(path, "is damaged")

    damaged = Damaged(source.folder, source.snapshot, "damaged")
    plan = make_plan([(damaged, TARGET), (source, TARGET)], Options())
    assert [code for code, _ in plan.problems] == [4]
    assert {one.key.partition("/")[0] for one in plan.steps} == {"website"}


def test_restrictions_on_one_pattern_are_one_rule(source: Source) -> None:
    def restriction(kind: str, pattern: str, **more: Json) -> Json:
        return {"kind": kind, "branch_match_kind": "glob", "pattern": pattern, **more}

    def by_model(number: int, branch_type: str) -> Json:
        return {
            "id": number,
            "kind": "force",
            "branch_match_kind": "branching_model",
            "branch_type": branch_type,
        }

    several: Json = [
        restriction("push", "main", users=[{"uuid": "{a}", "display_name": "Ann"}]),
        restriction("restrict_merges", "main", users=[], groups=[{"name": "Core"}]),
        restriction("require_tasks_to_be_completed", "main"),
        restriction("reset_pullrequest_approvals_on_change", "main"),
        restriction("push", "frozen"),
        by_model(3, "feature"),
        by_model(5, "hotfix"),
    ]
    made = list(
        settings.steps_of_restrictions(
            with_documents(source, {"settings/branch-restrictions.json": several}),
            TARGET, Options(people={"{a}": "ann"}),
        )
    )  # fmt: skip
    rules = bodies(made)
    assert rules["website/protection/main"] == {
        "rule_name": "main",
        "enable_push": True,
        "enable_push_whitelist": True,
        "push_whitelist_usernames": ["ann"],
        "enable_merge_whitelist": True,
        "merge_whitelist_usernames": [],
        "dismiss_stale_approvals": True,
    }
    assert rules["website/protection/frozen"] == {"rule_name": "frozen", "enable_push": False}
    assert rules["website/protection/feature/**"] == {"rule_name": "feature/**", "enable_push": True}
    assert {one.key: one.why for one in made if isinstance(one, Loss)} == {
        "website/protection/main/restrict_merges": Why.PERSON,
        "website/protection/main/require_tasks_to_be_completed": Why.UNKNOWN_THERE,
        "website/restriction/5": Why.UNKNOWN_THERE,
    }


def test_events_that_forgejo_lacks_are_told(source: Source) -> None:
    hooks: Json = [
        {"url": "https://x.example/a", "events": ["repo:push", "repo:transfer"], "active": True},
        {"url": "https://x.example/a", "events": ["issue:created"], "active": False},
        {"url": "https://x.example/b", "events": ["repo:transfer"], "active": True},
    ]
    options = Options(activate_hooks=True)
    document = with_documents(source, {"settings/webhooks.json": hooks})
    made = list(settings.steps_of_hooks(document, TARGET, options))
    [(key, body)] = bodies(made).items()
    assert (key, body["events"], body["active"]) == (
        "website/webhooks/https://x.example/a", ["push", "issues"], True
    )  # fmt: skip
    assert [one.detail for one in made if isinstance(one, Loss)] == ["repo:transfer", "repo:transfer"]


def test_one_pull_request_comes_alone_with_its_branches(source: Source) -> None:
    begin = "website/pull-request/"
    every = {
        step.key for step in make_plan([(source, TARGET)], Options()).steps if step.key.startswith(begin)
    }
    numbers = sorted({key.split("/")[2] for key in every})
    assert len(numbers) > 1
    plan = make_plan([(source, TARGET)], Options(only=frozenset({f"pull-requests/{numbers[0]}"})))
    keys = {step.key for step in plan.steps}
    assert f"{begin}{numbers[0]}" in keys and "website/repository" in keys
    assert {key.split("/")[2] for key in keys if key.startswith(begin)} == {numbers[0]}
    assert "website/branches" not in keys
