"""How settings are planned: as the rows say, without whom and what is not at the target."""

from __future__ import annotations

from typing import Any

from mirror.collect.catalogue import CATALOGUE, row_of_kind
from mirror.collect.put_back import Sent
from mirror.model import Json
from mirror.restore.plan.settings import steps_of_settings
from mirror.restore.plan.source import Options, Target
from mirror.restore.plan.steps import Call, Loss, Made, Secret, Stage, Step, Why
from tests.restore.plan.given import given, losses, steps

ANN, BOB = "{0f9c4a2e-1111-4222-8333-444455556666}", "{aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee}"
TARGET = Target("spare", "site")
GROUP = {"type": "group", "slug": "devs", "name": "Developers"}


def planned(
    kind: str, *several: Json, target: Target = TARGET, options: Options | None = None
) -> list[Step | Loss]:
    """What is planned of a repository that has these settings of a kind alone."""
    path = row_of_kind(kind).document
    return list(steps_of_settings(given({path: list(several)}), target, options or Options()))


def only(made: list[Step | Loss]) -> Step:
    """The one step."""
    [found] = steps(made).values()
    return found


def sent(step: Step) -> Any:
    """The body that makes a thing."""
    assert isinstance(step.action, Call)
    return step.action.body


def user(uuid: str, name: str = "Ann Archer") -> dict[str, str]:
    return {"type": "user", "uuid": uuid, "display_name": name}


# -- people


def test_whoever_is_not_at_the_target_is_left_out_and_told() -> None:
    target = Target("spare", "site", frozenset({ANN}))
    made = planned("default reviewers", user(ANN), user(BOB, "Bob Baker"), {"uuid": None}, target=target)
    step = only(made)
    assert isinstance(step.action, Call) and step.action.parts["who"] == ANN and step.stage is Stage.SETTINGS
    told = losses(made)
    assert {one.why for one in told.values()} == {Why.PERSON} and len(told) == 2
    assert "Bob Baker" in told[f"website/default-reviewers/{BOB}"].label


def test_people_of_then_are_the_people_of_now() -> None:
    options = Options(people={ANN: BOB})
    target = Target("spare", "site", frozenset({BOB}))
    granted = {"permission": "write", "user": user(ANN.upper())}
    step = only(planned("users' permissions", granted, target=target, options=options))
    assert isinstance(step.action, Call) and step.action.parts["who"] == BOB
    assert step.find is not None and step.find.key == {"user.uuid": BOB}
    assert sent(step) == {"permission": "write"} and step.needs_user
    # The key of a step does not depend on whom it is for now.
    assert step.key == f"website/users-permissions/{ANN.upper()}"


def test_two_people_of_then_may_be_one_of_now() -> None:
    write = {"permission": "write", "user": user(ANN)}
    made = planned(
        "users' permissions",
        write,
        {"permission": "read", "user": user(BOB)},
        options=Options(people={BOB: ANN}),
    )
    assert sent(only(made)) == {"permission": "write"}
    assert [one.why for one in losses(made).values()] == [Why.SAME]


def test_without_the_list_of_members_the_server_decides() -> None:
    step = only(planned("default reviewers", user(BOB)))
    assert {one.why for one in step.excuses} == {Why.PERSON}
    step = only(planned("groups' permissions", {"permission": "read", "group": GROUP}))
    assert {one.status for one in step.excuses} == {404}
    # Messages begin with the name of the endpoint: that must not excuse what is hidden.
    for row in CATALOGUE:
        if isinstance(row.put_back, Sent):
            write = row.put_back.write
            assert not [one for one in write.not_there if one.text in write.endpoint.name.lower()]


def test_restrictions_name_people_only_where_they_may() -> None:
    shown = {"id": 1, "branch_match_kind": "glob", "pattern": "main", "groups": [], "users": []}
    approvals = only(
        planned("branch restrictions", {**shown, "kind": "require_approvals_to_merge", "value": 2})
    )
    assert sent(approvals) == {
        "kind": "require_approvals_to_merge", "branch_match_kind": "glob", "pattern": "main", "value": 2
    }  # fmt: skip
    nobody = only(planned("branch restrictions", {**shown, "kind": "push"}))
    assert sent(nobody)["users"] == [] and sent(nobody)["groups"] == []
    model = {
        **shown,
        "kind": "push",
        "branch_match_kind": "branching_model",
        "pattern": "",
        "branch_type": "hotfix",
    }
    assert "pattern" not in sent(only(planned("branch restrictions", model)))
    assert (
        only(planned("branch restrictions", model)).key
        == "website/branch-restrictions/push branching_model hotfix"
    )


def test_exempt_groups_that_are_refused_are_left_out_one_by_one() -> None:
    shown = {
        "kind": "push", "branch_match_kind": "glob", "pattern": "main",
        "users": [user(ANN), user(BOB, "Bob Baker")], "groups": [GROUP, {"slug": "ops", "name": "Ops"}],
    }  # fmt: skip
    made = planned("branch restrictions", shown, target=Target("spare", "site", frozenset({ANN})))
    step = only(made)
    assert [one.label for one in losses(made).values()] == [
        "Bob Baker of branch restrictions of website: push glob main"
    ]
    assert sent(step)["users"] == [{"uuid": ANN}]
    groups = next(one for one in step.retries if one.field == "groups")
    assert groups.status == 400 and groups.value == []
    assert ("ops", {"slug": "ops"}) in groups.named and ("Ops", {"slug": "ops"}) in groups.named


# -- secrets


def test_a_secured_variable_comes_from_the_secrets_file_or_not_at_all() -> None:
    secured = {"uuid": "{1}", "key": "API_KEY", "secured": True}
    made = planned("variables", secured)
    assert not [one for one in steps(made) if "variables" in one]
    assert losses(made)["website/variables/API_KEY"].why is Why.SECRET
    key = "website/variables/API_KEY"
    made = planned("variables", secured, options=Options(secrets=frozenset({key})))
    step = steps(made)[key]
    assert sent(step) == {"key": "API_KEY", "secured": True, "value": Secret(key)} and losses(made) == {}
    assert step.wanted == {"secured": True}
    assert step.change is not None and step.change.body == sent(step)
    assert step.change.parts["id"] == Made(key, "uuid")


def test_a_hook_is_made_without_a_secret_that_is_not_given() -> None:
    shown = {"url": "https://ci.example/", "description": "CI", "events": ["repo:push"], "active": True}
    made = planned("webhooks", {**shown, "secret_set": True})
    step = only(made)
    assert "secret" not in sent(step) and sent(step)["active"] is False
    assert step.change is not None and "secret" not in str(step.change.body)
    told = losses(made)
    assert told[step.key].why is Why.SECRET and told[f"{step.key}/active"].why is Why.CHOSEN
    # It may be active at the target: that is not taken back.
    assert "active" not in step.wanted and "active" not in str(step.change.body)
    options = Options(activate_hooks=True, secrets=frozenset({step.key}))
    made = planned("webhooks", {**shown, "secret_set": True}, options=options)
    assert sent(only(made)) == {**shown, "secret": Secret(step.key)} and losses(made) == {}


def test_events_of_issues_may_be_refused() -> None:
    shown = {"url": "https://ci.example/", "events": ["repo:push", "issue:created"], "active": False}
    retries = only(planned("webhooks", shown)).retries
    assert {(one.field, *one.value) for one in retries} == {("events", "repo:push")}
    assert [one.status for one in retries] == [400, 403]
    assert only(planned("webhooks", {**shown, "events": ["repo:push"]})).retries == ()


# -- pipelines


def test_pipelines_are_enabled_for_their_settings_alone() -> None:
    documents: dict[str, Json] = {
        "settings/pipelines-configuration.json": {"enabled": True},
        "settings/variables.json": [{"key": "A", "value": "b", "secured": False}],
        "pull-requests/0/1.json": {}, "pipelines/0/7.json": {}, "pipelines/0/12.json": {},
    }  # fmt: skip
    made = steps(steps_of_settings(given(documents), TARGET, Options()))
    found = [(one.stage, sent(one)) for one in made.values() if one.kind == "pipelines configuration"]
    assert sorted(found, key=lambda one: one[0]) == [
        (Stage.PIPELINES_ENABLED, {"enabled": True}), (Stage.PIPELINES, {"next": 13}),
        (Stage.PIPELINES_DISABLED, {"enabled": False}), (Stage.PIPELINES_AS_THEY_WERE, {"enabled": True}),
    ]  # fmt: skip
    passing = [one.key for one in made.values() if one.is_passing]
    assert passing == [
        "website/pipelines-configuration/for-settings", "website/pipelines-configuration/for-pull-requests",
        "website/build-number",
    ]  # fmt: skip
    assert [one.status for one in made["website/build-number"].excuses] == [400]
    assert steps(steps_of_settings(given({}), TARGET, Options())) == {}
    # Where nothing is opened, one request is enough.
    del documents["pull-requests/0/1.json"]
    made = steps(steps_of_settings(given(documents), TARGET, Options()))
    assert [one.stage for one in made.values() if sent(one) == {"enabled": True}] == [Stage.PIPELINES_ENABLED]
    # They were off, and had settings all the same.
    documents["settings/pipelines-configuration.json"] = {"enabled": False}
    made = steps(steps_of_settings(given(documents), TARGET, Options()))
    found = sorted((one.stage, sent(one)["enabled"]) for one in made.values() if "enabled" in sent(one))
    assert found == [(Stage.PIPELINES_ENABLED, True), (Stage.PIPELINES_AS_THEY_WERE, False)]


def test_schedules_are_enabled_in_the_end() -> None:
    target = {"ref_type": "branch", "ref_name": "main", "selector": {"type": "default"}}
    shown = {"cron_pattern": "0 0 3 * * ? *", "target": target, "enabled": True}
    off, lacking = {**shown, "enabled": False, "cron_pattern": "off"}, {**shown, "target": None}
    made = planned("schedules", shown, off, lacking)
    found = [one for one in steps(made).values() if one.kind == "schedules"]
    first, last, other = found
    assert (
        sent(first)["enabled"] is False and first.stage is Stage.PIPELINES and "enabled" not in first.wanted
    )
    assert sent(first)["target"] == {**target, "type": "pipeline_ref_target"} and first.change is None
    assert last.stage is Stage.PIPELINES_AS_THEY_WERE and last.after == (first.key,)
    assert sent(last) == {"enabled": True} and sent(other)["enabled"] is False
    assert [one.why for one in losses(made).values()] == [Why.LACKING]


def test_environments_come_with_their_variables_and_restrictions() -> None:
    shown = {
        "uuid": "{e}", "name": "Live", "rank": 1, "environment_type": {"name": "Production", "rank": 2},
        "restrictions": {"admin_only": True},
    }  # fmt: skip
    variable = {"key": "HOST", "value": "shop", "secured": False}
    documents = {
        "environments/e.json": {"environment": shown, "variables": [variable]},
        "environments/f.json": {"environment": shown, "_parts": {"environment": {"state": "gone"}}},
    }
    made = steps(steps_of_settings(given(documents), TARGET, Options()))
    live = made["website/environments/Live"]
    assert sent(live) == {"name": "Live", "environment_type": {"name": "Production"}, "rank": 1}
    assert live.fixed == ("environment_type.name",) and set(live.wanted) == {"environment_type.name", "rank"}
    restricted = made["website/environments/Live/restrictions"]
    assert sent(restricted) == {"change": {"restrictions": {"admin_only": True}}}
    inner = made["website/environments/Live/variables/HOST"]
    assert isinstance(inner.action, Call) and inner.action.parts["environment"] == Made(live.key)
    assert inner.after == (live.key,) and len([one for one in made if "environments" in one]) == 3


# -- what is not there, and what stays behind


def test_a_model_is_brought_without_branches_that_are_not() -> None:
    shown = {
        "branch_types": [], "development": {"name": "gone", "use_mainbranch": False},
        "production": {"name": "topic", "use_mainbranch": False, "enabled": True},
    }  # fmt: skip
    documents = {"settings/branching-model-settings.json": shown}
    made = list(steps_of_settings(given(documents), TARGET, Options()))
    assert sent(only(made)) == {
        "branch_types": [], "production": {"name": "topic", "use_mainbranch": False, "enabled": True}
    }  # fmt: skip
    [told] = losses(made).values()
    assert told.why is Why.LACKING and "gone" in told.detail
    chosen = Options(refs=("refs/heads/main",))
    told_of = losses(steps_of_settings(given(documents), TARGET, chosen))
    assert told_of["website/branching-model-settings/production"].why is Why.CHOSEN


def test_settings_that_say_nothing_cost_no_request() -> None:
    documents = {
        "settings/branching-model-settings.json": {"branch_types": []},
        "settings/override-settings.json": {"override_settings": {}},
        "settings/variables.json": [], "settings/forks.json": [], "settings/webhooks.json": None,
    }  # fmt: skip
    assert list(steps_of_settings(given(documents), TARGET, Options())) == []


def test_two_of_one_name_have_two_keys() -> None:
    shown = {"url": "https://ci.example/", "description": "CI", "events": ["repo:push"], "active": False}
    first, second = steps(planned("webhooks", shown, shown))
    assert second == f"{first} #2"


def test_what_upstream_had_no_more_is_not_brought() -> None:
    documents = {
        "settings/_parts.json": {"known_hosts": {"state": "gone"}},
        "settings/known-hosts.json": [{"hostname": "a", "public_key": {"key": "k"}}],
        "downloads.json": [{"name": "a", "_gone": {"state": "gone"}, "_content": {"sha256": "aa"}}],
    }
    made = steps_of_settings(given(documents), TARGET, Options())
    assert [one for one in made if one.kind != "pipelines configuration"] == []


def test_what_stays_behind_is_told_once_for_each_kind() -> None:
    documents = {
        "settings/watchers.json": [user(ANN), user(BOB)], "settings/ssh-key-pair.json": {"public_key": "k"},
        "deployments/a.json": {}, "deployments/b.json": {}, "settings/caches.json": [],
    }  # fmt: skip
    told = losses(steps_of_settings(given(documents), TARGET, Options()))
    assert {(one.label, one.why) for one in told.values()} == {
        ("watchers (2) of website", Why.NEVER), ("ssh key pair of website", Why.LACKING),
        ("deployments (2) of website", Why.NEVER),
    }  # fmt: skip


def test_a_key_brings_its_comment() -> None:
    shown = {"id": 1, "key": "ssh-ed25519 AAAA", "comment": "ci@acme.example", "label": "CI"}
    step = only(planned("deploy keys", shown))
    assert sent(step)["key"] == "ssh-ed25519 AAAA ci@acme.example" and step.needs_user
    assert step.find is not None and step.find.key == {"key": "ssh-ed25519 AAAA"}
    assert step.change is not None and step.change.parts["id"] == Made(step.key, "id")
